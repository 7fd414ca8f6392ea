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

"""All of Nova's conductor internals that this package uses, in one place.

Starting, failing and looking up servers. Nothing here decides anything, and
nothing here touches our own database.
"""

import copy
import functools

from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import excutils

from nova_gpu_lease.conductor import parts
from nova_gpu_lease.conductor import quota
from nova_gpu_lease.conductor import resend
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conductor import shelved
from nova_gpu_lease.conf import CONF
from nova_gpu_lease import failpoints
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)


class LeaseFault(nova_exception.NovaException):
    """Why a server could not get its devices, as its owner sees it."""

    msg_fmt = '%(reason)s'
    code = 500


class AlreadyBegun(nova_exception.NovaException):
    """A compute works on a server that was to be sent to another one."""

    msg_fmt = 'Server %(server_id)s is being built already'


class SelectionLost(nova_exception.NovaException):
    """Nova chose other hosts than planned, or none."""

    msg_fmt = '%(reason)s'


def find_instance(context, server_id, attrs=None):
    """The instance record of a server, with its context set to its cell.

    :param context: an admin RequestContext.
    :param server_id: the UUID of the server.
    :param attrs: further attributes to load.
    :returns: a nova Instance; None for a server that is in no cell yet.
    :raises: nova.exception.InstanceNotFound
    """
    if not CONF.api_database.connection:
        # A conductor of one cell: it only hears of servers of its own.
        return objects.Instance.get_by_uuid(context, server_id,
                                            expected_attrs=attrs)
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            context, server_id)
    except nova_exception.InstanceMappingNotFound:
        raise nova_exception.InstanceNotFound(instance_id=server_id)
    if mapping.cell_mapping is None:
        return None
    return objects.Instance.get_by_uuid(
        cell_context(context, mapping.cell_mapping), server_id,
        expected_attrs=attrs)


def cell_context(context, cell):
    """A copy of a context that reads and writes the database of a cell."""
    targeted = copy.copy(context)
    nova_context.set_target_cell(targeted, cell)
    return targeted


def server_of(context, server_id):
    """The BuildRequest of a server that was never in a cell.

    :returns: a nova BuildRequest; None when the server was deleted or is in
        a cell.
    """
    try:
        return objects.BuildRequest.get_by_instance_uuid(context, server_id)
    except nova_exception.BuildRequestNotFound:
        return None


def is_waiting(instance):
    """Whether no compute works on a server that is to be built.

    It may have been sent to one; which then asks first.

    :param instance: the Instance, as it is now.
    """
    return (instance.vm_state, instance.task_state) in (
        (vm_states.BUILDING, task_states.SCHEDULING),
        (vm_states.SHELVED_OFFLOADED, task_states.UNSHELVING))


def last_fault(context, server_id):
    """The message of the newest fault of a server, or None."""
    try:
        instance = find_instance(context, server_id)
    except nova_exception.InstanceNotFound:
        return None
    if instance is None:
        return None
    fault = objects.InstanceFault.get_latest_for_instance(
        instance._context, server_id)
    return fault.message if fault else None


def _is_final(exc):
    """Whether an error says that something is gone, and not away."""
    return (isinstance(exc, nova_exception.NovaException) and
            400 <= exc.code < 500)


def short(reason):
    """A reason cut to what Nova keeps of the message of a fault."""
    return reason if len(reason) <= 255 else reason[:252] + '...'


class Builder:
    """Starts servers on planned nodes, through Nova's own build path."""

    def __init__(self, task_mgr):
        """:param task_mgr: Nova's ComputeTaskManager of this process."""
        self.task_mgr = task_mgr

    def check(self, context, kind, server_ids, cast):
        """Make sure that what servers are made of is still there.

        :param context: the tenant's RequestContext.
        :param kind: states.KIND_CREATE or KIND_UNSHELVE.
        :param server_ids: the UUIDs of the servers.
        :param cast: the payload.Cast of the request.
        :raises: LeaseFault that says what is gone.
        """
        image_id = (cast.image or {}).get('id')
        bdms = cast.block_device_mapping or ()
        instance = find_instance(context, server_ids[0], ['system_metadata'])
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
            raise LeaseFault(
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
                self.release(context, server_ids)
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
        self.wait_again(context, kind, server_ids)
        raise SelectionLost(reason=(
            exc.format_message() if isinstance(
                exc, nova_exception.NovaException) else type(exc).__name__))

    @staticmethod
    def _waiting_in_cell(context, server_id):
        """The instance of a server whose build failed; None for a new one."""
        try:
            instance = find_instance(
                context, server_id,
                ['flavor', 'system_metadata', 'metadata', 'pci_requests',
                 'info_cache', 'numa_topology', 'security_groups', 'tags',
                 'keypairs', 'trusted_certs', 'vcpu_model', 'resources'])
        except nova_exception.InstanceNotFound:
            raise SelectionLost(reason='a server of it was deleted')
        if instance is not None and not is_waiting(instance):
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
        build_requests = [server_of(context, server_id)
                          for server_id in server_ids]
        if None in build_requests:
            raise SelectionLost(reason='a server of it was deleted')
        specs = [self.spec_of(context, server_id, cast, len(server_ids))
                 for server_id in server_ids]
        selected = self._select(context, specs[0], server_ids,
                                [node for _, node in planned])
        task_mgr = self._task_mgr(
            generations, lambda *args, **kwargs: selected)
        return functools.partial(
            task_mgr.schedule_and_build_instances,
            context, build_requests=build_requests, request_specs=specs,
            image=cast.image, admin_password=cast.admin_password,
            injected_files=cast.injected_files,
            requested_networks=cast.requested_networks,
            block_device_mapping=cast.block_device_mapping, tags=cast.tags)

    def _prepare_again(self, context, instance, node, cast):
        """Claim a node for a server whose build failed.

        :returns: (instance, RequestSpec, Selection).
        """
        build_request = server_of(context, instance.uuid)
        if build_request:
            # Its dispatcher died before it came to that.
            build_request.destroy()
        spec = self._fresh_spec(context, instance.uuid, cast, 1)
        self.task_mgr._restrict_request_spec_to_cell(context, instance, spec)
        spec.generate_request_groups_from_pci_requests()
        selected = self._select(context, spec, [instance.uuid], [node])
        return instance, spec, selected[0][0]

    def _unshelve(self, context, generations, nodes, cast):
        server_id, = generations
        instance = find_instance(
            context, server_id,
            ['flavor', 'system_metadata', 'pci_requests', 'info_cache',
             'metadata', 'security_groups', 'services'])
        if (not is_waiting(instance) and
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
        self.release(context, server_ids)
        try:
            selected = self.task_mgr._schedule_instances(
                context, spec, list(server_ids), return_alternates=False)
        except nova_exception.NoValidHost as exc:
            raise SelectionLost(reason=exc.format_message())
        if [hosts[0].compute_node_uuid for hosts in selected] != list(nodes):
            self.release(context, server_ids)
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

    def release(self, context, server_ids):
        """Delete what the servers have allocated in Placement."""
        for server_id in server_ids:
            if self.task_mgr.report_client.delete_allocation_for_instance(
                    context, server_id, force=True) is None:
                # Nova's client keeps it to itself.
                raise nova_exception.AllocationDeleteFailed(
                    consumer_uuid=server_id, error='Placement is away')

    def fail(self, context, kind, server_id, reason):
        """End a waiting server with a fault that its owner can read.

        :param reason: a sentence for its owner.
        """
        # An answer of the scheduler may have been lost.
        self.release(context, [server_id])
        if kind == states.KIND_UNSHELVE:
            fail_unshelve(context, server_id, reason)
            return
        fault = _raised(LeaseFault(reason=short(reason)))
        try:
            instance = find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            self.forget(context, server_id)
            return
        if instance is not None:
            self._fail_in_cell(context, instance, fault)
            return
        build_request = server_of(context, server_id)
        if build_request is None:
            self.forget(context, server_id)
            return
        _discard_record(context, objects.CellMapping.get_by_uuid(
            context, objects.CellMapping.CELL0_UUID), server_id)
        self.task_mgr._bury_in_cell0(
            context, _spec_or_none(context, server_id), fault,
            build_requests=[build_request],
            block_device_mapping=_unsaved(
                context, build_request.block_device_mappings),
            tags=build_request.tags)

    def end_build(self, context, instance, spec, networks, reason):
        """End a server whose last try to be built failed on its compute.

        Needs no API database.

        :param spec: its RequestSpec.
        :param networks: the requested networks.
        :param reason: a sentence for its owner.
        """
        self.task_mgr._cleanup_when_reschedule_fails(
            context, instance, _raised(LeaseFault(reason=short(reason))),
            spec.to_legacy_request_spec_dict() if spec else {}, networks)

    def _fail_in_cell(self, context, instance, fault):
        """End a server whose build failed before."""
        build_request = server_of(context, instance.uuid)
        if build_request:
            build_request.destroy()
        spec = _spec_or_none(context, instance.uuid)
        self.task_mgr._cleanup_when_reschedule_fails(
            instance._context, instance, fault,
            spec.to_legacy_request_spec_dict() if spec else {}, None)

    def wait_again(self, context, kind, server_ids):
        """Make servers whose build failed look, and be, as if they waited.

        What they had allocated is free for others. May be repeated.
        """
        self.release(context, server_ids)
        if kind != states.KIND_UNSHELVE:
            return
        for server_id in server_ids:
            try:
                instance = find_instance(context, server_id)
                if instance.task_state is None:
                    instance.task_state = task_states.UNSHELVING
                    instance.save(expected_task_state=[None])
            except (nova_exception.InstanceNotFound,
                    nova_exception.UnexpectedTaskStateError) as exc:
                LOG.debug('Left as it is: %s', exc, instance_uuid=server_id)

    def give_up(self, context, server_id, reason):
        """Take back a server that was sent to a compute, if none began it.

        :param reason: a sentence for its owner.
        :returns: whether it was taken back. A server that a compute works
            on is left alone: its guest may run, with the devices.
        """
        try:
            instance = find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            return True
        stays = instance.vm_state == vm_states.SHELVED_OFFLOADED
        waits_in = (task_states.UNSHELVING if stays
                    else task_states.SCHEDULING)
        if not stays:
            instance.vm_state = vm_states.ERROR
        instance.task_state = None
        try:
            instance.save(expected_task_state=[waits_in])
        except nova_exception.UnexpectedTaskStateError:
            return False
        fault = _raised(LeaseFault(reason=short(reason)))
        compute_utils.add_instance_fault_from_exc(
            instance._context, instance, fault)
        if stays:
            shelved.note_failure(instance, fault, CONF.host)
        self.release(context, [server_id])
        return True

    @staticmethod
    def take_back(context, server_id):
        """Have a server wait again whose compute died before its claim.

        Nothing holds a device that has no host yet.

        :returns: whether that was so.
        """
        try:
            instance = find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            return False
        began = instance.task_state
        waits = {(vm_states.BUILDING, None): task_states.SCHEDULING,
                 (vm_states.SHELVED_OFFLOADED, task_states.SPAWNING):
                     task_states.UNSHELVING}.get((instance.vm_state, began))
        if waits is None or instance.host is not None:
            return False
        instance.task_state = waits
        try:
            instance.save(expected_task_state=[began])
        except nova_exception.UnexpectedTaskStateError:
            return False
        return True

    def discard_orphan(self, context, server_id, host):
        """Remove the record of a server that its InstanceMapping lacks.

        Nova creates the record in the cell before it maps the server to it;
        a dispatcher that dies in between leaves one that bars the next try.

        :param host: the planned host.
        """
        try:
            mapping = objects.HostMapping.get_by_host(context, host)
        except nova_exception.HostMappingNotFound:
            return
        _discard_record(context, mapping.cell_mapping, server_id)

    def discard_unmapped(self, context, server_id, host):
        """The same for a server that its owner may have deleted since."""
        try:
            mapping = objects.InstanceMapping.get_by_instance_uuid(
                context, server_id)
        except nova_exception.InstanceMappingNotFound:
            return
        if mapping.cell_mapping is None:
            self.discard_orphan(context, server_id, host)

    @staticmethod
    def forget(context, server_id):
        """Remove what Nova leaves of a server deleted while it waited."""
        try:
            mapping = objects.InstanceMapping.get_by_instance_uuid(
                context, server_id)
            if mapping.cell_mapping is None:
                mapping.destroy()
                objects.RequestSpec.get_by_instance_uuid(
                    context, server_id).destroy()
        except (nova_exception.InstanceMappingNotFound,
                nova_exception.RequestSpecNotFound):
            LOG.debug('Nothing is left of a deleted server.',
                      instance_uuid=server_id)


def fail_unshelve(context, server_id, reason):
    """Leave a server shelved, with a fault that its owner can read.

    :param reason: a sentence for its owner.
    """
    give_back(context, server_id, reason, task_states.UNSHELVING)


def give_back(context, server_id, reason, task_state):
    """Leave a server what it is, with a fault, if it is still in that task."""
    try:
        instance = find_instance(context, server_id)
    except nova_exception.InstanceNotFound:
        return
    fault = _raised(LeaseFault(reason=short(reason)))
    compute_utils.add_instance_fault_from_exc(
        instance._context, instance, fault)
    if task_state == task_states.UNSHELVING:
        shelved.note_failure(instance, fault, CONF.host)
    if instance.task_state == task_state:
        instance.task_state = None
        instance.save()


def _discard_record(context, cell, server_id):
    """Remove the record of a server that is not mapped to a cell yet."""
    try:
        instance = objects.Instance.get_by_uuid(
            cell_context(context, cell), server_id)
    except nova_exception.InstanceNotFound:
        return
    LOG.info('The record that a dead dispatcher left is removed.',
             instance=instance)
    instance.destroy(hard_delete=True)


def _recheck_quota(context, flavor, request_spec, orig_num_req,
                   project_id=None, user_id=None):
    """Stands in for ComputeTaskManager._recheck_quota."""
    quota.recheck(request_spec, project_id, user_id)


def _spec_or_none(context, server_id):
    try:
        return objects.RequestSpec.get_by_instance_uuid(context, server_id)
    except nova_exception.RequestSpecNotFound:
        return None


def _unsaved(context, bdms):
    """The block devices of a BuildRequest, ready to be created in a cell.

    As Nova reads them they have no context, and nothing to save.
    """
    return objects.BlockDeviceMappingList(context, objects=[
        objects.BlockDeviceMapping(context, **{
            name: getattr(bdm, name) for name in bdm.obj_fields
            if bdm.obj_attr_is_set(name)}) for bdm in bdms])


def _raised(fault):
    """The same exception with a traceback; Nova's notifications need one."""
    try:
        raise fault
    except LeaseFault as exc:
        return exc
