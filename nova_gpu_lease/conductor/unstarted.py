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

"""What becomes of servers that did not start: wait again, fail or go."""

from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging

from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import shelved
from nova_gpu_lease.conf import CONF
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: (vm_state, task_state) of a server whose compute has taken its cast, and
#: what they were as it waited.
_WAITED = {
    (vm_states.BUILDING, None):
        (vm_states.BUILDING, task_states.SCHEDULING),
    (vm_states.SHELVED_OFFLOADED, task_states.SPAWNING):
        (vm_states.SHELVED_OFFLOADED, task_states.UNSHELVING)}


class LeaseFault(nova_exception.NovaException):
    """Why a server could not get its devices, as its owner sees it."""

    msg_fmt = '%(reason)s'
    code = 500


class Unstarted:
    """Takes servers back from wherever a try to start them left them."""

    def __init__(self, task_mgr):
        """:param task_mgr: Nova's ComputeTaskManager of this process."""
        self.task_mgr = task_mgr

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
        fault = _raised(reason)
        try:
            instance = records.find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            self.forget(context, server_id)
            return
        if instance is not None:
            self._fail_in_cell(context, instance, fault)
            return
        build_request = records.server_of(context, server_id)
        if build_request is None:
            self.forget(context, server_id)
            return
        _discard_record(context, objects.CellMapping.get_by_uuid(
            context, objects.CellMapping.CELL0_UUID), server_id)
        self.task_mgr._bury_in_cell0(
            context, records.spec_of(context, server_id), fault,
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
            context, instance, _raised(reason),
            spec.to_legacy_request_spec_dict() if spec else {}, networks)

    def _fail_in_cell(self, context, instance, fault):
        """End a server whose build failed before."""
        build_request = records.server_of(context, instance.uuid)
        if build_request:
            build_request.destroy()
        spec = records.spec_of(context, instance.uuid)
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
                instance = records.find_instance(context, server_id)
                if (instance.vm_state, instance.task_state) == (
                        vm_states.SHELVED_OFFLOADED, None):
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
            instance = records.find_instance(context, server_id)
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
        _tell(instance, reason, stays)
        self.release(context, [server_id])
        return True

    @staticmethod
    def take_back(context, server_id):
        """Have a server wait again whose compute died before its claim.

        Nothing holds a device that has no host yet.

        :returns: whether that was so.
        """
        try:
            instance = records.find_instance(context, server_id)
            began = (instance.vm_state, instance.task_state)
            if records.is_interrupted(instance):
                waits = (vm_states.BUILDING, task_states.SCHEDULING)
            else:
                waits = _WAITED.get(began)
            if waits is None or instance.host is not None:
                return False
            instance.vm_state, instance.task_state = waits
            instance.save(expected_vm_state=[began[0]],
                          expected_task_state=[began[1]])
        except (nova_exception.InstanceNotFound,
                nova_exception.InstanceUpdateConflict):
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
        instance = records.find_instance(context, server_id)
    except nova_exception.InstanceNotFound:
        return
    _tell(instance, reason, task_state == task_states.UNSHELVING)
    if instance.task_state == task_state:
        instance.task_state = None
        instance.save()


def _tell(instance, reason, is_shelved):
    """Let the owner of a server read why it did not start."""
    fault = _raised(reason)
    compute_utils.add_instance_fault_from_exc(
        instance._context, instance, fault)
    if is_shelved:
        shelved.note_failure(instance, fault, CONF.host)


def _discard_record(context, cell, server_id):
    """Remove the record of a server that is not mapped to a cell yet."""
    try:
        instance = objects.Instance.get_by_uuid(
            records.cell_context(context, cell), server_id)
    except nova_exception.InstanceNotFound:
        return
    LOG.info('The record that a dead dispatcher left is removed.',
             instance=instance)
    instance.destroy(hard_delete=True)


def _unsaved(context, bdms):
    """The block devices of a BuildRequest, ready to be created in a cell.

    As Nova reads them they have no context, and nothing to save.
    """
    return objects.BlockDeviceMappingList(context, objects=[
        objects.BlockDeviceMapping(context, **{
            name: getattr(bdm, name) for name in bdm.obj_fields
            if bdm.obj_attr_is_set(name)}) for bdm in bdms])


def _raised(reason):
    """A fault with a traceback; Nova's notifications need one."""
    try:
        # Nova keeps so much of a fault's message.
        raise LeaseFault(reason=(
            reason if len(reason) <= 255 else reason[:252] + '...'))
    except LeaseFault as exc:
        return exc
