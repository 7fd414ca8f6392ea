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

"""Nova's ComputeManager with the hooks of leases; see timer.py for the work.

Everything that this service uses of Nova's manager is in this file, and what
it uses of its resource tracker in pci.py.
"""

import contextlib
import datetime
import functools

from nova.compute import build_results
from nova.compute import instance_actions
from nova.compute import manager
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
import nova.context
import nova.exception
from nova import objects
from nova.objects import fields
from nova import servicegroup
from oslo_log import log as logging
import oslo_messaging as messaging

from nova_gpu_lease.compute import interrupted
from nova_gpu_lease.compute import pci
from nova_gpu_lease.compute import timer
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conf import CONF
from nova_gpu_lease import exception
from nova_gpu_lease import failpoints
from nova_gpu_lease import hooks
from nova_gpu_lease import terms

LOG = logging.getLogger(__name__)

#: The longest time that a stop waits for the timer's last round, in seconds.
STOP_TIMEOUT = 5

#: How often a conductor that is away is asked whether a build is wanted, or
#: told how it ended, and the seconds in between.
ASK_TRIES = 6
ASK_PAUSE = 10

#: Among so many of a server's latest actions its stop is looked for.
LATEST = 20

#: Methods of ComputeManager that are overridden or called here, with the
#: arguments they were tested with.
TESTED = {
    'post_start_hook': (),
    'cleanup_host': (),
    '_complete_deletion': ('context', 'instance'),
    '_delete_allocation_after_move': ('context', 'instance', 'migration'),
    '_start_recorded_task': (
        'executor_type', 'task_name', 'instance', 'context', 'func', 'args',
        'kwargs'),
    'update_available_resource': ('context', 'startup'),
    '_notify_about_instance_usage': (
        'context', 'instance', 'event_suffix', 'network_info',
        'extra_usage_info', 'fault', 'best_effort'),
    '_init_instance': ('context', 'instance'),
    '_error_out_instances_whose_build_was_interrupted': (
        'context', 'already_handled_instances', 'node_uuids'),
    '_set_instance_obj_error_state': ('instance', 'clean_task_state'),
    '_do_build_and_run_instance': (
        'context', 'instance', 'image', 'request_spec', 'filter_properties',
        'admin_password', 'injected_files', 'requested_networks',
        'security_groups', 'block_device_mapping', 'node', 'limits',
        'host_list', 'accel_uuids'),
    '_build_and_run_instance': (
        'context', 'instance', 'image', 'injected_files', 'admin_password',
        'requested_networks', 'security_groups', 'block_device_mapping',
        'node', 'limits', 'filter_properties', 'request_spec',
        'accel_uuids'),
    'unshelve_instance': (
        'context', 'instance', 'image', 'filter_properties', 'node',
        'request_spec', 'accel_uuids'),
    # And called.
    '_shutdown_instance': (
        'context', 'instance', 'bdms', 'requested_networks', 'notify',
        'try_deallocate_networks'),
    '_nil_out_instance_obj_host_and_node': ('instance',),
    '_get_instance_block_device_info': (
        'context', 'instance', 'refresh_conn_info', 'bdms'),
    '_terminate_volume_connections': ('context', 'instance', 'bdms'),
}
TESTED_RPC_MAJOR = '6'

#: The notifications that end a move or a resize, on the host that does the
#: last step of it.
MOVED = ('finish_resize.end', 'resize.confirm.end', 'resize.revert.end',
         'live_migration.post.dest.end', 'rebuild.end')
#: Those after which a server is powered off, or on again.
POWERED = ('power_off.end', 'power_on.end')
#: Those after which a server holds nothing here any more.
OFFLOADED = 'shelve_offload.end'
LEFT = (OFFLOADED, 'delete.end')


def check_supported():
    """Refuse a Nova whose compute manager is not the tested one.

    :raises: exception.UnsupportedNova
    """
    hooks.check(
        manager.ComputeManager, TESTED_RPC_MAJOR,
        [(manager.ComputeManager, name, arguments)
         for name, arguments in TESTED.items()] + list(pci.TESTED))


class GPULeaseComputeManager(manager.ComputeManager):
    """Tells the conductor what happens to leases on this host."""

    def __init__(self, *args, **kwargs):
        check_supported()
        super().__init__(*args, **kwargs)
        #: Whether what is put into ERROR now was not built to its end.
        self._lease_interrupted = False
        # It has seen nothing of the host yet.
        self.rt = pci.ResourceTracker(
            self.host, self.driver, reportclient=self.reportclient)
        self._lease_rpcapi = rpcapi.ConductorAPI()
        self._lease_timer = timer.Timer(
            self._lease_rpcapi, nova.context.get_admin_context, self.host,
            servers=functools.partial(local_servers, self.host),
            free=functools.partial(free_resources, self.rt),
            conf=CONF.gpu_lease, down_time=CONF.service_down_time,
            is_up=self._lease_host_is_up)

    def _lease_host_is_up(self, context):
        return servicegroup.API().service_is_up(
            objects.Service.get_by_compute_host(context, self.host))

    def post_start_hook(self):
        super().post_start_hook()
        self._lease_timer.start()

    def cleanup_host(self):
        # The last step of a shutdown: the builds that it waited for are told.
        self._lease_timer.stop(STOP_TIMEOUT)
        super().cleanup_host()

    def _start_recorded_task(self, executor_type, task_name, instance,
                             context, func, *args, **kwargs):
        future = super()._start_recorded_task(
            executor_type, task_name, instance, context, func, *args,
            **kwargs)
        if task_name == 'build_instance' and has_gpu(instance):
            # Not earlier: a failed build deletes its allocation as its last
            # step, and would delete that of the next try.
            future.add_done_callback(
                functools.partial(self._build_ended, instance))
        return future

    def _build_ended(self, instance, future):
        if instance.vm_state != vm_states.ACTIVE:
            self._lease_timer.freed()
        if instance.task_state == task_states.SCHEDULING:
            # Given back to the conductor, or dropped by the guard.
            return
        failpoints.hit('build-ended')
        self._lease_timer.build_finished(
            instance.uuid, instance.vm_state == vm_states.ACTIVE,
            '%s' % future.exception() if future.exception() else None)

    def _notify_about_instance_usage(self, context, instance, event_suffix,
                                     *args, **kwargs):
        super()._notify_about_instance_usage(
            context, instance, event_suffix, *args, **kwargs)
        # After a resize the flavor that had the GPU may be gone.
        if event_suffix in MOVED and (
                has_gpu(instance) or 'resize' in event_suffix):
            self._lease_timer.server_changed(instance.uuid)
        elif event_suffix in POWERED and has_gpu(instance):
            self._lease_timer.powered()
        elif event_suffix in LEFT and self.rt.devices_of(instance.uuid):
            # A server that was moved here is counted by the next of Nova's
            # periodic counts, and before that not freed.
            self.update_available_resource(context.elevated())
        if event_suffix == OFFLOADED and has_gpu(instance):
            # Tracker and Placement know it already: no need for the timer to
            # find out by itself.
            self._lease_timer.freed()

    def _init_instance(self, context, instance):
        if has_gpu(instance) and instance.host == self.host:
            if interrupted.is_half_built(instance):
                with self._interrupted():
                    if not self._give_up(context, instance):
                        super()._init_instance(context, instance)
                return
            if interrupted.is_half_shelved(instance):
                LOG.warning('The server was %s when nova-compute died; it is '
                            'freed from that.', instance.task_state,
                            instance=instance)
                self._note(instance, rpcapi.SHELVE_INTERRUPTED)
                self._free(instance)
        super()._init_instance(context, instance)

    def _give_up(self, context, instance):
        """Have a server wait again that was being built when we died.

        :returns: whether it does. Not without a lease; and a guest that runs
            may be the last copy of a shelved server, its snapshot is gone.
        """
        unshelved = interrupted.is_unshelved(instance)
        if unshelved and self.driver.instance_exists(instance):
            return False
        try:
            if not self._ask(self._lease_rpcapi.is_building, context,
                             instance.uuid, self.host):
                return False
            interrupted.take_down(self, context, instance)
        except Exception:
            # Whatever is wrong with one server, the others need us.
            LOG.exception('What was built of a server could not be removed.',
                          instance=instance)
            return False
        if not unshelved:
            self._set_instance_obj_error_state(
                instance, clean_task_state=True)
            return True
        self._note(instance, rpcapi.INTERRUPTED)
        self._free(instance)
        # The reaper sees that it was not started. What we could tell may be
        # heard only when it is being built once more.
        self._lease_timer.freed()
        return True

    @staticmethod
    def _free(instance):
        """Take a server from a task that nobody does any more."""
        began = instance.task_state
        instance.task_state = None
        try:
            instance.save(expected_task_state=[began])
        except (nova.exception.InstanceNotFound,
                nova.exception.UnexpectedTaskStateError) as exc:
            LOG.info('It is left as it is: %s', exc, instance=instance)

    @contextlib.contextmanager
    def _interrupted(self):
        self._lease_interrupted = True
        try:
            yield
        finally:
            self._lease_interrupted = False

    def _error_out_instances_whose_build_was_interrupted(
            self, *args, **kwargs):
        with self._interrupted():
            super()._error_out_instances_whose_build_was_interrupted(
                *args, **kwargs)

    def _set_instance_obj_error_state(self, instance, *args, **kwargs):
        concerned = has_gpu(instance) or (
            instance.task_state or '').startswith('resize')
        if concerned and self._lease_interrupted:
            # Nova says nothing: neither its owner nor the conductor could
            # tell it from any other that failed. First, since whoever sees
            # the state looks for it.
            self._note(instance, rpcapi.INTERRUPTED)
        super()._set_instance_obj_error_state(instance, *args, **kwargs)
        if concerned:
            self._lease_timer.server_changed(instance.uuid)

    @staticmethod
    def _note(instance, reason):
        """Tell the owner of a server, and the conductor, what happened."""
        compute_utils.add_instance_fault_from_exc(
            instance._context, instance,
            nova.exception.BuildAbortException(
                instance_uuid=instance.uuid, reason=reason),
            fault_message=reason)

    def _do_build_and_run_instance(
            self, context, instance, image, request_spec, filter_properties,
            *args, **kwargs):
        if not self._still_wanted(context, instance, filter_properties):
            # The one result that leaves the server and its allocation alone.
            return build_results.FAILED_BY_POLICY
        try:
            return super()._do_build_and_run_instance(
                context, instance, image, request_spec, filter_properties,
                *args, **kwargs)
        except messaging.MessagingException as exc:
            if not has_gpu(instance):
                raise
            if self._guest_runs(instance):
                # Only the event of it could not be written.
                return build_results.ACTIVE
            LOG.warning('A build was broken off, since nova-conductor did '
                        'not answer: %s', exc, instance=instance)
            self._give_back(context, instance, exc,
                            _stamp(filter_properties))
            return build_results.FAILED

    def _build_and_run_instance(self, context, instance, *args, **kwargs):
        try:
            super()._build_and_run_instance(
                context, instance, *args, **kwargs)
        except messaging.MessagingException:
            # Nova tells its conductor once that the guest runs. If that one
            # died with it, Nova would leave the guest where it is, and give
            # its devices to the next server.
            if not self._guest_runs(instance):
                raise
            LOG.warning('The guest runs, but nova-conductor did not answer: '
                        'it is told again.', instance=instance)
            try:
                self._ask(instance.save, expected_task_state=[
                    task_states.SPAWNING, None])
            except nova.exception.UnexpectedDeletingTaskStateError:
                raise
            except nova.exception.UnexpectedTaskStateError:
                LOG.info('It was saved, only the answer was lost: its user '
                         'works with it already.', instance=instance)
            except messaging.MessagingException:
                self._remove_guest(context, instance)
                raise
        except nova.exception.BuildAbortException as exc:
            if not (has_gpu(instance) and _is_unanswered(exc)):
                raise
            # Nova holds it for an error of what was asked for.
            raise nova.exception.RescheduledException(
                instance_uuid=instance.uuid, reason=exc.format_message())

    def _guest_runs(self, instance):
        """Whether a build or an unshelve is over but for the saving of it."""
        return (has_gpu(instance) and
                instance.vm_state == vm_states.ACTIVE and
                self.driver.instance_exists(instance))

    def _ask(self, function, *args, **kwargs):
        """Call something that takes a conductor, until one answers.

        :returns: what the function returns.
        :raises: MessagingException when none answered for so long.
        """
        for tries_left in reversed(range(ASK_TRIES)):
            try:
                return function(*args, **kwargs)
            except messaging.MessagingException:
                if (not tries_left or
                        self._shutdown_in_progress.wait(ASK_PAUSE)):
                    raise

    def _remove_guest(self, context, instance):
        if self.driver.instance_exists(instance):
            self._shutdown_instance(
                context, instance, self._ask(
                    objects.BlockDeviceMappingList.get_by_instance_uuid,
                    context, instance.uuid), try_deallocate_networks=False)

    def _give_back(self, context, instance, exc, stamp):
        """Have a server queued again whose build Nova could not even end."""
        self._remove_guest(context, instance)
        if instance.vm_state != vm_states.ERROR:
            self._nil_out_instance_obj_host_and_node(instance)
            instance.vm_state = vm_states.BUILDING
            instance.task_state = task_states.SCHEDULING
        try:
            self._ask(instance.save)
        except nova.exception.InstanceNotFound:
            return
        if instance.task_state == task_states.SCHEDULING:
            self._lease_timer.build_finished(
                instance.uuid, False, '%s' % exc, stamp)

    def unshelve_instance(self, context, instance, image, filter_properties,
                          *args, **kwargs):
        if not self._still_wanted(context, instance, filter_properties):
            return
        if not has_gpu(instance):
            super().unshelve_instance(
                context, instance, image, filter_properties, *args, **kwargs)
            return
        stamp = _stamp(filter_properties)
        try:
            super().unshelve_instance(
                context, instance, image, filter_properties, *args, **kwargs)
        except Exception as exc:
            self._lease_timer.freed()
            # Nova tries to save what it has come to, but only once.
            ok = False
            if isinstance(exc, messaging.MessagingException):
                self._ask(instance.save)
                ok = self._guest_runs(instance)
            self._lease_timer.build_finished(
                instance.uuid, ok, '%s' % exc, stamp)
            raise
        self._lease_timer.build_finished(instance.uuid, True, None, stamp)

    def _complete_deletion(self, context, instance):
        super()._complete_deletion(context, instance)
        # The tracker frees the devices first, and Placement may be slow: who
        # waits for them can start only now.
        self._lease_timer.freed()

    def _delete_allocation_after_move(self, context, instance, migration):
        super()._delete_allocation_after_move(context, instance, migration)
        self._lease_timer.freed()

    def _still_wanted(self, context, instance, filter_properties):
        """Whether a build is not one that the conductor has given up.

        A cast that waited while this host was down, or behind other builds,
        may be for a server that waits again or runs elsewhere by now, or for
        one that was sent here once more.
        """
        if not has_gpu(instance):
            return True
        stamp = _stamp(filter_properties)
        reason = 'it was given up in the meantime'
        try:
            if self._ask(self._lease_rpcapi.build_allowed, context,
                         instance.uuid, self.host, stamp):
                failpoints.hit('build-allowed')
                return True
        except messaging.MessagingException as exc:
            reason = 'no nova-conductor said that it is wanted: %s' % exc
        LOG.warning('A build is dropped: %s', reason, instance=instance)
        self._lease_timer.build_finished(instance.uuid, False, reason, stamp)
        return False


def has_gpu(instance):
    """Whether the flavor of a server asks for PCI devices by an alias."""
    return terms.PCI_ALIAS_SPEC in instance.flavor.extra_specs


def _stamp(filter_properties):
    """The generation that the conductor put on a cast, or None."""
    return (filter_properties or {}).get(rpcapi.STAMP)


def _is_unanswered(exc):
    """Whether an error came of a conductor that did not answer."""
    while exc is not None:
        if isinstance(exc, messaging.MessagingException):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def local_servers(host, context):
    """The servers on a host, as sync_host of the conductor wants them."""
    servers = objects.InstanceList.get_by_host(
        context, host, expected_attrs=['flavor'])
    return [{'id': server.uuid,
             'vm_state': server.vm_state,
             'task_state': server.task_state,
             'flavor': server.flavor.name,
             'launched_at': (server.launched_at and
                             server.launched_at.isoformat()),
             'off': _off(server)}
            for server in servers]


def _off(server):
    """Since when a server is off, and for how many seconds it may be.

    :returns: None for one that is not off, or may be for as long as it likes;
        else (ISO 8601, seconds).
    """
    if (not has_gpu(server) or
            (server.vm_state, server.task_state) != (
                vm_states.STOPPED, None)):
        return None
    try:
        limit = terms.end_when_off(
            server.flavor.extra_specs, CONF.gpu_lease)
    except exception.InvalidExtraSpec as exc:
        LOG.warning('Flavor %s: %s', server.flavor.name, exc)
        limit = CONF.gpu_lease.end_when_off
    if limit is None:
        return None
    # Nova keeps the time in no column. It calls its own API for a guest that
    # powered itself off.
    actions = objects.InstanceActionList.get_by_instance_uuid(
        server._context, server.uuid, limit=LATEST)
    stops = [action.start_time for action in actions
             if action.action == instance_actions.STOP]
    since = max(stops, default=server.updated_at)
    return since.replace(tzinfo=datetime.timezone.utc).isoformat(), limit


def free_resources(tracker):
    """What is free on this host, as other services can see it.

    A device counts once its row is saved, which Nova's tracker does after it
    has saved the compute node and updated Placement. CPUs, memory and disk
    count because a request may wait for these alone.

    :param tracker: Nova's ResourceTracker.
    :returns: a dict of a name to an amount.
    """
    free = {}
    if tracker.pci_tracker:
        for device in list(tracker.pci_tracker.pci_devs.objects):
            if (device.status == fields.PciDeviceStatus.AVAILABLE and
                    'status' not in device.obj_what_changed()):
                free[device.address] = 1
    for name, node in list(tracker.old_resources.items()):
        for amount in ('vcpus', 'memory_mb', 'local_gb'):
            used = '%s_used' % amount
            if amount in node and used in node:
                free['%s %s' % (name, amount)] = (
                    getattr(node, amount) - getattr(node, used))
    return free
