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
import inspect

from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova.conductor import manager as nova_manager
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging

from nova_gpu_lease.conf import CONF
from nova_gpu_lease import exception
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: Methods of ComputeTaskManager, with the arguments they were tested with.
TESTED = {
    'schedule_and_build_instances': (
        'context', 'build_requests', 'request_specs', 'image',
        'admin_password', 'injected_files', 'requested_networks',
        'block_device_mapping', 'tags'),
    'build_instances': (
        'context', 'instances', 'image', 'filter_properties',
        'admin_password', 'injected_files', 'requested_networks',
        'security_groups', 'block_device_mapping', 'legacy_bdm',
        'request_spec', 'host_lists'),
    'unshelve_instance': ('context', 'instance', 'request_spec'),
    '_schedule_instances': (
        'context', 'request_spec', 'instance_uuids', 'return_alternates'),
    '_bury_in_cell0': (
        'context', 'request_spec', 'exc', 'build_requests', 'instances',
        'block_device_mapping', 'tags'),
}
TESTED_RPC_MAJOR = '1'


class LeaseFault(nova_exception.NovaException):
    """Why a server could not get its devices, as its owner sees it."""

    msg_fmt = '%(reason)s'
    code = 500


class SelectionLost(nova_exception.NovaException):
    """Nova chose other hosts than planned, or none."""

    msg_fmt = '%(reason)s'


def check_supported():
    """Refuse a Nova whose conductor is not the tested one.

    :raises: exception.UnsupportedNova
    """
    manager = nova_manager.ComputeTaskManager
    major = manager.target.version.partition('.')[0]
    if major != TESTED_RPC_MAJOR:
        raise exception.UnsupportedNova(
            reason='the RPC version of its conductor is %s, not %s.x' %
            (manager.target.version, TESTED_RPC_MAJOR))
    for name, arguments in TESTED.items():
        method = inspect.unwrap(getattr(manager, name, lambda: None))
        found = tuple(inspect.signature(method).parameters)[1:]
        if found != arguments:
            raise exception.UnsupportedNova(
                reason='%s takes (%s), not (%s)' % (
                    name, ', '.join(found), ', '.join(arguments)))


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


def short(reason):
    """A reason cut to what Nova keeps of the message of a fault."""
    return reason if len(reason) <= 255 else reason[:252] + '...'


class Builder:
    """Starts servers on planned nodes, through Nova's own build path."""

    def __init__(self, task_mgr):
        """:param task_mgr: Nova's ComputeTaskManager of this process."""
        self.task_mgr = task_mgr

    def check(self, context, cast):
        """Make sure that what a server is made of is still there.

        :param context: the tenant's RequestContext.
        :param cast: the payload.Cast of the request.
        :raises: LeaseFault that says what is gone.
        """
        image_id = (cast.image or {}).get('id')
        try:
            if image_id:
                self.task_mgr.image_api.get(context, image_id)
            for network in cast.requested_networks or ():
                if network.port_id:
                    self.task_mgr.network_api.show_port(
                        context, network.port_id)
                elif network.network_id and not (
                        network.auto_allocate or network.no_allocate):
                    self.task_mgr.network_api.get(
                        context, network.network_id)
        except (nova_exception.ImageNotFound,
                nova_exception.NetworkNotFound,
                nova_exception.PortNotFound) as exc:
            raise LeaseFault(
                reason='It went while the server waited: %s' %
                exc.format_message())

    def prepare(self, context, kind, server_ids, nodes, cast):
        """Claim the nodes for the servers.

        :param context: the tenant's RequestContext.
        :param kind: states.KIND_CREATE or KIND_UNSHELVE.
        :param server_ids: the UUIDs of the servers.
        :param nodes: the planned compute node UUIDs, one a server.
        :param cast: the payload.Cast of the request.
        :returns: a function that has the servers built there. As long as it
            is not called nothing but allocations exists.
        :raises: SelectionLost; nothing is claimed then.
        """
        if kind == states.KIND_UNSHELVE:
            # Nova itself selects in the middle of its method.
            return functools.partial(
                self._unshelve, context, server_ids[0], nodes, cast)
        build_requests = [server_of(context, server_id)
                          for server_id in server_ids]
        if None in build_requests:
            raise SelectionLost(reason='a server of it was deleted')
        specs = [self._fresh_spec(context, server_id, cast, len(server_ids))
                 for server_id in server_ids]
        for spec in specs:
            spec.generate_request_groups_from_pci_requests()
        selected = self._select(context, specs[0], server_ids, nodes)
        return functools.partial(
            self._task_mgr(lambda *args, **kwargs: selected)
            .schedule_and_build_instances,
            context, build_requests=build_requests, request_specs=specs,
            image=cast.image, admin_password=cast.admin_password,
            injected_files=cast.injected_files,
            requested_networks=cast.requested_networks,
            block_device_mapping=cast.block_device_mapping, tags=cast.tags)

    def _unshelve(self, context, server_id, nodes, cast):
        instance = find_instance(
            context, server_id,
            ['flavor', 'system_metadata', 'pci_requests', 'info_cache',
             'metadata', 'security_groups', 'services'])
        spec = self._fresh_spec(context, instance.uuid, cast, 1)
        lost = []

        def select(select_context, ready_spec, uuids, **kwargs):
            try:
                return self._select(select_context, ready_spec, uuids, nodes)
            except SelectionLost as exc:
                lost.append(exc)
                # The one error that Nova takes quietly here.
                raise nova_exception.NoValidHost(reason=str(exc))

        self._task_mgr(select).unshelve_instance(
            instance._context, instance=instance, request_spec=spec)
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

    def _task_mgr(self, schedule):
        task_mgr = copy.copy(self.task_mgr)
        task_mgr._schedule_instances = schedule
        return task_mgr

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
            self.task_mgr.report_client.delete_allocation_for_instance(
                context, server_id, force=True)

    def fail(self, context, kind, server_id, reason):
        """End a waiting server with a fault that its owner can read.

        :param reason: a sentence for its owner.
        """
        fault = _raised(LeaseFault(reason=short(reason)))
        if kind == states.KIND_UNSHELVE:
            self._fail_unshelve(context, server_id, fault)
            return
        build_request = server_of(context, server_id)
        if build_request is None:
            self.forget(context, server_id)
            return
        self.task_mgr._bury_in_cell0(
            context, _spec_or_none(context, server_id), fault,
            build_requests=[build_request],
            block_device_mapping=_unsaved(
                context, build_request.block_device_mappings),
            tags=build_request.tags)

    @staticmethod
    def _fail_unshelve(context, server_id, fault):
        try:
            instance = find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            return
        compute_utils.add_instance_fault_from_exc(
            instance._context, instance, fault)
        if instance.task_state == task_states.UNSHELVING:
            instance.task_state = None
            instance.save()

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
        shelved = instance.vm_state == vm_states.SHELVED_OFFLOADED
        waits_in = (task_states.UNSHELVING if shelved
                    else task_states.SCHEDULING)
        if not shelved:
            instance.vm_state = vm_states.ERROR
        instance.task_state = None
        try:
            instance.save(expected_task_state=[waits_in])
        except nova_exception.UnexpectedTaskStateError:
            return False
        compute_utils.add_instance_fault_from_exc(
            instance._context, instance,
            _raised(LeaseFault(reason=short(reason))))
        self.release(context, [server_id])
        return True

    def discard_orphan(self, context, server_id, host):
        """Remove the record of a server that its InstanceMapping lacks.

        Nova creates the record in the cell before it maps the server to it;
        a dispatcher that dies in between leaves one that bars the next try.

        :param host: the planned host.
        """
        try:
            mapping = objects.HostMapping.get_by_host(context, host)
            instance = objects.Instance.get_by_uuid(
                cell_context(context, mapping.cell_mapping), server_id)
        except (nova_exception.HostMappingNotFound,
                nova_exception.InstanceNotFound):
            return
        LOG.info('The record that a dead dispatcher left is removed.',
                 instance=instance)
        instance.destroy(hard_delete=True)

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
