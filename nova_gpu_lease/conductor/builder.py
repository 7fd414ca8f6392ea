#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Starts servers on planned nodes, by Nova's conductor's own methods.

Nothing here, in records.py or in unstarted.py decides anything, and nothing
touches our own database.
"""

import copy
import functools

from nova.compute import task_states
from nova.compute import vm_states
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import excutils

from nova_gpu_lease.conductor import outages
from nova_gpu_lease.conductor import parts
from nova_gpu_lease.conductor import ports
from nova_gpu_lease.conductor import quota
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import resend
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conductor import unstarted
from nova_gpu_lease import exception
from nova_gpu_lease import failpoints
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)


class AlreadyBegun(nova_exception.NovaException):
    """A compute works on a server that was to be sent to another one."""

    msg_fmt = 'Server %(server_id)s is being built already'


class SelectionLost(nova_exception.NovaException):
    """Nova chose other hosts than planned, or none."""

    msg_fmt = '%(reason)s'


class NothingSent(nova_exception.NovaException):
    """A database was away before anything was sent to a compute.

    Records of the servers may be left in their cell.
    """

    msg_fmt = '%(reason)s'


def text_of(exc):
    """What a tenant may read of an error: as Nova does in its faults."""
    if isinstance(exc, (nova_exception.NovaException,
                        exception.GPULeaseException)):
        return exc.format_message()
    return type(exc).__name__


def _is_final(exc):
    """Whether an error says that something is gone, and not away."""
    return (isinstance(exc, nova_exception.NovaException) and
            400 <= exc.code < 500)


class Builder:
    """Starts servers on planned nodes, through Nova's own build path.

    :ivar unstarted: an unstarted.Unstarted, for those that do not start.
    """

    def __init__(self, task_mgr):
        """:param task_mgr: Nova's ComputeTaskManager of this process."""
        self.task_mgr = task_mgr
        self.unstarted = unstarted.Unstarted(task_mgr)

    def check(self, context, kind, server_ids, cast):
        """Make sure that what servers are made of is still there.

        :param context: the tenant's RequestContext.
        :param kind: states.KIND_CREATE or KIND_UNSHELVE.
        :param server_ids: the UUIDs of the servers.
        :param cast: the payload.Cast of the request.
        :raises: unstarted.LeaseFault that says what is gone.
        """
        image_id = (cast.image or {}).get('id')
        bdms = cast.block_device_mapping or ()
        instance = records.find_instance(
            context, server_ids[0], ['system_metadata'])
        if kind == states.KIND_UNSHELVE:
            image_id = instance.system_metadata.get('shelved_image_id')
            bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
                instance._context, instance.uuid)
        elif instance:
            # The compute on which its build failed has let its volumes go;
            # they are attached again.
            bdms = ()
        try:
            parts.check(self.task_mgr, context, server_ids,
                        [image_id] if image_id else (),
                        cast.requested_networks, bdms)
        except parts.GONE as exc:
            if (kind == states.KIND_UNSHELVE and
                    isinstance(exc, nova_exception.ImageNotFound)):
                # The work is lost: Nova says so itself, and ends the server.
                return
            raise unstarted.LeaseFault(
                reason='It went or changed while the server waited: %s' %
                exc.format_message())

    def prepare(self, context, kind, generations, nodes, cast):
        """Claim the nodes for the servers.

        :param context: the tenant's RequestContext.
        :param kind: states.KIND_CREATE or KIND_UNSHELVE.
        :param generations: {server id: generation of its lease}, for the
            servers in their order.
        :param nodes: the planned compute node UUIDs, one a server.
        :param cast: the payload.Cast of the request.
        :returns: a function that has the servers built there. As long as it
            is not called nothing but allocations exists.
        :raises: SelectionLost; nothing is claimed then. AlreadyBegun.
        """
        server_ids = list(generations)
        if kind == states.KIND_UNSHELVE:
            # Nova itself selects in the middle of its method.
            return functools.partial(
                self._unshelve, context, generations, nodes, cast)
        again = {server_id: instance for server_id, instance in (
                     (server_id, self._waiting_in_cell(context, server_id))
                     for server_id in server_ids) if instance}
        try:
            new = self._prepare_new(
                context, [(server_id, node) for server_id, node
                          in zip(server_ids, nodes)
                          if server_id not in again], generations, cast)
            old = [self._prepare_again(context, again[server_id], node, cast)
                   for server_id, node in zip(server_ids, nodes)
                   if server_id in again]
        except Exception:
            # Nobody knows what was claimed when the scheduler did not answer.
            with excutils.save_and_reraise_exception():
                self.unstarted.release(context, server_ids)
        failpoints.hit('claimed')

        def build():
            if new:
                new()
            task_mgr = self._task_mgr(generations)
            try:
                for instance, spec, selection in old:
                    resend.send(
                        task_mgr, context, instance, spec, selection, cast)
            except nova_exception.UnexpectedTaskStateError:
                raise AlreadyBegun(server_id=instance.uuid)
            except Exception as exc:
                if new or task_mgr.compute_rpcapi.sent:
                    raise
                self._nothing_begun(context, kind, server_ids, exc)

        return build

    def _nothing_begun(self, context, kind, server_ids, exc):
        """Take an error for a try that did not come to anything.

        :raises: SelectionLost
        """
        LOG.info('Nothing was sent to a compute: %s', exc)
        self.unstarted.wait_again(context, kind, server_ids)
        raise SelectionLost(reason=text_of(exc))

    @staticmethod
    def _waiting_in_cell(context, server_id):
        """The instance of a server whose build failed; None for a new one."""
        try:
            instance = records.find_instance(
                context, server_id,
                ['flavor', 'system_metadata', 'metadata', 'pci_requests',
                 'info_cache', 'numa_topology', 'security_groups', 'tags',
                 'keypairs', 'trusted_certs', 'vcpu_model', 'resources'])
        except nova_exception.InstanceNotFound:
            raise SelectionLost(reason='a server of it was deleted')
        if instance is not None and not records.is_waiting(instance):
            raise AlreadyBegun(server_id=server_id)
        return instance

    def _prepare_new(self, context, planned, generations, cast):
        """Claim nodes for servers that are in no cell yet.

        :param planned: (server id, node uuid) pairs.
        :returns: a function that builds them; None if there are none.
        """
        if not planned:
            return None
        server_ids = [server_id for server_id, _ in planned]
        build_requests = [records.server_of(context, server_id)
                          for server_id in server_ids]
        if None in build_requests:
            raise SelectionLost(reason='a server of it was deleted')
        specs = [self._spec_to_start(context, server_id, cast, len(server_ids))
                 for server_id in server_ids]
        selected = self._select(context, specs[0], server_ids,
                                [node for _, node in planned])
        task_mgr = self._task_mgr(
            generations, lambda *args, **kwargs: selected)

        def build():
            try:
                task_mgr.schedule_and_build_instances(
                    context, build_requests=build_requests,
                    request_specs=specs, image=cast.image,
                    admin_password=cast.admin_password,
                    injected_files=cast.injected_files,
                    requested_networks=cast.requested_networks,
                    block_device_mapping=cast.block_device_mapping,
                    tags=cast.tags)
            except Exception as exc:
                if (task_mgr.compute_rpcapi.sent or
                        not outages.is_outage(exc)):
                    raise
                raise NothingSent(reason=text_of(exc))

        return build

    def _prepare_again(self, context, instance, node, cast):
        """Claim a node for a server whose build failed.

        :returns: (instance, RequestSpec, Selection).
        """
        build_request = records.server_of(context, instance.uuid)
        if build_request:
            # Its dispatcher died before it came to that.
            build_request.destroy()
        self._give_back_networks(instance, cast.requested_networks)
        spec = self._spec_to_start(context, instance.uuid, cast, 1)
        self.task_mgr._restrict_request_spec_to_cell(context, instance, spec)
        selected = self._select(context, spec, [instance.uuid], [node])
        return instance, spec, selected[0][0]

    def _give_back_networks(self, instance, requested):
        """Have no ports that the next build does not know.

        A nova-compute that fails does it itself, one that dies does not.
        """
        if requested and requested.no_allocate:
            return
        self.task_mgr.network_api.deallocate_for_instance(
            instance._context, instance, requested_networks=requested)
        instance.system_metadata['network_allocated'] = 'False'
        instance.save()

    def _unshelve(self, context, generations, nodes, cast):
        server_id, = generations
        instance = records.find_instance(
            context, server_id,
            ['flavor', 'system_metadata', 'pci_requests', 'info_cache',
             'metadata', 'security_groups', 'services'])
        if (not records.is_waiting(instance) and
                (instance.vm_state, instance.task_state) !=
                (vm_states.SHELVED_OFFLOADED, None)):
            raise AlreadyBegun(server_id=server_id)
        spec = self._fresh_spec(context, instance.uuid, cast, 1)
        if instance.task_state is None:
            # A wait that was cancelled before this one took the mark off late.
            instance.task_state = task_states.UNSHELVING
            instance.save(expected_task_state=[None])
        lost = []

        def select(select_context, ready_spec, uuids, **kwargs):
            try:
                selected = self._select(
                    select_context, ready_spec, uuids, nodes)
            except SelectionLost as exc:
                lost.append(exc)
                # The one error that Nova takes quietly here.
                raise nova_exception.NoValidHost(reason=str(exc))
            failpoints.hit('claimed')
            return selected

        task_mgr = self._task_mgr(generations, select)
        try:
            task_mgr.unshelve_instance(
                instance._context, instance=instance, request_spec=spec)
        except Exception as exc:
            if task_mgr.compute_rpcapi.sent or _is_final(exc):
                raise
            self._nothing_begun(
                context, states.KIND_UNSHELVE, [server_id], exc)
        if lost:
            # Nova cleared the task state: the server goes on waiting.
            instance.task_state = task_states.UNSHELVING
            instance.save(expected_task_state=[None])
            raise lost[0]

    def _select(self, context, spec, server_ids, nodes):
        # A waiting server owns nothing: a claim that is there is of a try
        # whose answer was lost, and would be doubled.
        self.unstarted.release(context, server_ids)
        try:
            selected = self.task_mgr._schedule_instances(
                context, spec, list(server_ids), return_alternates=False)
        except nova_exception.NoValidHost as exc:
            raise SelectionLost(reason=exc.format_message())
        if [hosts[0].compute_node_uuid for hosts in selected] != list(nodes):
            self.unstarted.release(context, server_ids)
            raise SelectionLost(
                reason='Nova selected other hosts than planned')
        return selected

    def _task_mgr(self, generations, schedule=None):
        """A copy of Nova's task manager whose casts are stamped.

        :param generations: {server id: generation of its lease}.
        :param schedule: what it calls in place of _schedule_instances.
        """
        task_mgr = copy.copy(self.task_mgr)
        if schedule:
            task_mgr._schedule_instances = schedule
        task_mgr._recheck_quota = _recheck_quota
        task_mgr._cleanup_build_artifacts = self._cleanup_build_artifacts
        task_mgr.compute_rpcapi = resend.StampedComputeAPI(
            task_mgr.compute_rpcapi, rpcapi.STAMP, generations)
        for method, before in (
                ('_create_block_device_mapping', 'record-created'),
                ('_delete_build_request', 'mapped'),
                ('_create_and_bind_arq_for_instance',
                 'build-request-deleted')):
            setattr(task_mgr, method,
                    failpoints.before(before, getattr(task_mgr, method)))
        return task_mgr

    def _cleanup_build_artifacts(self, context, exc, *args):
        # A request that its quota stops goes back into the queue: its records
        # are removed with its allocations, not buried.
        if not isinstance(exc, quota.OverQuota):
            self.task_mgr._cleanup_build_artifacts(context, exc, *args)

    def spec_of(self, context, server_id, cast, num_servers):
        """The RequestSpec of a server as it is scheduled now.

        :param cast: the payload.Cast of its request.
        """
        spec = self._fresh_spec(context, server_id, cast, num_servers)
        spec.generate_request_groups_from_pci_requests()
        return spec

    def _spec_to_start(self, context, server_id, cast, num_servers):
        """The same with what its ports ask for by now."""
        spec = self._fresh_spec(context, server_id, cast, num_servers)
        ports.refresh(self.task_mgr.network_api, context, spec,
                      cast.requested_networks)
        spec.generate_request_groups_from_pci_requests()
        return spec

    @staticmethod
    def _fresh_spec(context, server_id, cast, num_servers):
        spec = objects.RequestSpec.get_by_instance_uuid(context, server_id)
        for name, value in cast.unsaved.items():
            if name == 'requested_resources':
                value = list(value)
            setattr(spec, name, value)
        if 'requested_resources' not in cast.unsaved:
            spec.requested_resources = []
        if cast.requested_networks is not None:
            spec.requested_networks = cast.requested_networks
        spec.num_instances = num_servers
        return spec


def _recheck_quota(context, flavor, request_spec, orig_num_req,
                   project_id=None, user_id=None):
    """Stands in for ComputeTaskManager._recheck_quota."""
    quota.recheck(request_spec, project_id, user_id)
