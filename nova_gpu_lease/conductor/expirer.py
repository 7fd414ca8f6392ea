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

"""Ends leases: shelves and offloads, or deletes, their servers.

As the tenant, through Nova's own API layer, so that the snapshot and the
actions are the tenant's; as Nova's own user for a tenant for whom we may not
act any more. A try is begun, then watched until the server is where it should
be; a failed one is repeated later and later, and when it has failed often
enough the fallback applies. Run by the holder of the dispatcher lock.
"""

import datetime

from keystoneauth1 import exceptions as ks_exc
from nova.compute import api as compute_api
from nova.compute import rpcapi as compute_rpcapi
from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from oslo_log import log as logging
from oslo_utils import excutils

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import endings
from nova_gpu_lease.conductor import orders
from nova_gpu_lease.conductor import outages
from nova_gpu_lease.conductor import preemption
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import resizes
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conductor import snapshots
from nova_gpu_lease.conductor import standin
from nova_gpu_lease.conductor import tries
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease import failpoints
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

_SHELVING = (task_states.SHELVING, task_states.SHELVING_IMAGE_PENDING_UPLOAD,
             task_states.SHELVING_IMAGE_UPLOADING,
             task_states.SHELVING_OFFLOADING)
#: What takes no longer than expiry_timeout unless it was broken off.
_QUICK = (task_states.DELETING, task_states.POWERING_OFF,
          task_states.POWERING_ON, task_states.REBOOTING,
          task_states.REBOOT_PENDING, task_states.REBOOT_STARTED,
          task_states.REBOOTING_HARD, task_states.REBOOT_PENDING_HARD,
          task_states.REBOOT_STARTED_HARD, task_states.PAUSING,
          task_states.UNPAUSING, task_states.SUSPENDING,
          task_states.RESUMING, task_states.UNRESCUING)
#: After so long an order that nobody has begun is held for lost.
LOST = datetime.timedelta(seconds=20)
#: After so many tries, each time, a snapshot is held for broken off, and not
#: for slow.
SLOW = 4


class _ComputeRPC(compute_rpcapi.ComputeAPI):

    def shelve_instance(self, *args, **kwargs):
        failpoints.hit('end-cast')
        return super().shelve_instance(*args, **kwargs)


class Expirer:
    """Moves leases from EXPIRING to EXPIRED."""

    def __init__(self, creds, host):
        """:param creds: a credentials.Credentials.

        :param host: the name of this service's host.
        """
        self.standin = standin.StandIn(creds)
        self.host = host
        self.compute_api = compute_api.API()
        self.compute_api.compute_rpcapi = _ComputeRPC()
        self._overdue = 0

    def run(self, still_ours):
        """Begin, watch and repeat the ends that are due.

        :param still_ours: a function that tells whether the dispatcher lock
            is still held; asked before each end.
        :returns: whether an end is under way, to be looked at again soon.
        """
        preemption.begin_due(self.host)
        under_way = False
        for lease in db.leases_to_end(clock.now()):
            if not still_ours():
                break
            try:
                under_way |= self._end(lease)
            except exception.StaleState:
                LOG.debug('Lease %s was changed by somebody else.',
                          lease.uuid)
            except Exception as exc:
                # One lease must not keep the others from their end.
                LOG.exception('Lease %s could not be ended.', lease.uuid,
                              instance_uuid=lease.server_id)
                self._failed(lease, str(exc), outages.is_outage(exc))
        self._count_overdue()
        return under_way

    def _count_overdue(self):
        count = len(db.leases_overdue(
            clock.now(), CONF.gpu_lease.expiry_timeout))
        if count == self._overdue:
            return
        self._overdue = count
        log = LOG.warning if count else LOG.info
        log('%d leases are overdue and hold their devices; '
            '"nova-gpu-lease-manage lease overdue" lists them.', count)

    def _end(self, lease):
        admin = nova_context.get_admin_context()
        lease = preemption.or_end(lease)
        try:
            instance = records.find_instance(
                admin, lease.server_id, ['flavor'])
        except nova_exception.InstanceNotFound:
            self._over(lease, states.ENDED_DELETED)
            return False
        lease = resizes.follow(lease, instance, self.host)
        if lease.state not in states.LEASE_CURRENT:
            return False
        if instance.vm_state == vm_states.SHELVED_OFFLOADED:
            return self._shelved(lease, instance)
        if instance.task_state is not None:
            return self._watch(lease, instance)
        if instance.vm_state == vm_states.SHELVED:
            # Nova offloads at once only with shelved_offload_time=0.
            self._call(lease, self.compute_api.shelve_offload)
            return True
        if (lease.attempt_started_at is not None and
                endings.has_failed(lease, instance)):
            reason = records.last_fault(admin, lease.server_id)
            self._failed(lease, reason or 'the server still runs',
                         outage=_is_outage(reason, lease.last_error))
            return False
        return self._begin(lease, instance)

    def _shelved(self, lease, instance):
        if instance.task_state not in (None, task_states.UNSHELVING):
            return True
        note = ''
        try:
            note = self.standin.finish(lease, instance)
        except (nova_exception.GlanceConnectionFailed,
                ks_exc.ClientException) as exc:
            LOG.info('The image of a shelved server is not the owner\'s yet: '
                     '%s', exc, instance=instance)
            if instance.task_state is None:
                # The devices are free: this can wait.
                db.lease_set(
                    lease, next_attempt_at=tries.next_time(0, True))
                return False
            # Its owner was quicker to want it back.
        if lease.attempts:
            self._remove_leftovers(lease, instance)
        # Not where its owner was quicker to shelve it: see _begin.
        if (lease.reason_code == states.REASON_PREEMPTED and
                lease.preempt_at is not None and
                instance.task_state is None and
                preemption.resume(lease, instance, self.host)):
            return False
        self._over(lease, states.ENDED_SHELVED, note)
        return False

    def _remove_leftovers(self, lease, instance):
        try:
            context, _ = self.standin.context(lease, False)
        except (ks_exc.ClientException, exception.GPULeaseException) as exc:
            LOG.debug('No image is looked for: %s', exc, instance=instance)
            return
        snapshots.remove_leftovers(context, lease, instance)

    def _watch(self, lease, instance):
        """A server that is busy: with the end, or with something else."""
        began = lease.attempt_started_at
        if began is None:
            db.lease_set(
                lease, attempt_started_at=clock.now(),
                reason_code=endings.BUSY,
                reason='The lease ended while the server was busy: %s.' %
                instance.task_state)
            return True
        waited = clock.now() - began
        timeout = datetime.timedelta(seconds=CONF.gpu_lease.expiry_timeout)
        is_lost = waited > min(LOST, timeout) and orders.is_lost(instance)
        if waited <= timeout and not is_lost:
            return True
        self._failed(lease, 'the server is still %s' % instance.task_state,
                     outage=is_lost or
                     instance.task_state == task_states.DELETING)
        if (is_lost or instance.task_state in _QUICK or
                (instance.task_state in _SHELVING and
                 (tries.failures(lease) + 1) % SLOW == 0)):
            self._free(lease, instance)
        return False

    def _free(self, lease, instance):
        """Take a server from a task that nobody does any more.

        Nova leaves it so when a service dies in the middle, the conductor
        that a compute was just asking for example. What was asked for is
        asked for again: a delete at once, all else by the next try.
        """
        stuck = instance.task_state
        LOG.warning('The server has been %s for so long that nobody can be '
                    'at it any more; it is freed from that.', stuck,
                    instance=instance)
        instance.task_state = None
        try:
            instance.save(expected_task_state=[stuck])
        except (nova_exception.InstanceNotFound,
                nova_exception.UnexpectedTaskStateError):
            return
        if stuck == task_states.DELETING:
            self._call(lease, self.compute_api.delete)

    def _begin(self, lease, instance):
        delete = tries.deletes(lease)
        step = endings.step_of(instance, delete)
        code, reason = endings.why(lease)
        if not db.lease_set(
                lease, attempt_started_at=clock.now(),
                **(endings.values_of(instance) if step else
                   {'reason': reason, 'reason_code': code})):
            return False
        failpoints.hit('end-begun')
        if step:
            LOG.info('Lease %s ended, but its server is %s: %s.', lease.uuid,
                     instance.vm_state, step, instance=instance)
            return self._call(lease, getattr(self.compute_api, step))
        LOG.info('Lease %(lease)s: %(reason)s; the server is %(end)s.',
                 {'lease': lease.uuid, 'reason': reason,
                  'end': 'deleted' if delete else 'shelved'},
                 instance_uuid=lease.server_id)
        if delete:
            return self._call(lease, self.compute_api.delete)
        return self._call(lease, self.compute_api.shelve)

    def _call(self, lease, action):
        """Ask Nova's API layer for something, in the tenant's place.

        :returns: whether it was accepted.
        """
        try:
            deletes = action in (self.compute_api.delete,
                                 self.compute_api.force_delete)
            context, ours = self.standin.context(lease, deletes)
            instance = records.find_instance(
                context, lease.server_id,
                ['flavor', 'system_metadata', 'metadata', 'pci_requests',
                 'pci_devices', 'info_cache', 'numa_topology',
                 'security_groups', 'services'])
            if not deletes:
                self.standin.begin(lease, instance, ours)
            try:
                action(instance._context, instance)
            except Exception:
                with excutils.save_and_reraise_exception():
                    self._undo(instance)
            failpoints.hit('end-asked')
        except nova_exception.InstanceNotFound:
            return True
        except (nova_exception.NovaException,
                exception.GPULeaseException) as exc:
            self._failed(lease, exc.format_message(), outages.is_outage(exc))
        except ks_exc.ClientException as exc:
            self._failed(lease, 'Keystone: %s' % exc, outage=True)
        else:
            return True
        return False

    @staticmethod
    def _undo(instance):
        """Free a server that Nova marked busy before something failed.

        Nova's API layer sets the task state first, and leaves it there when
        Glance refuses the image.
        """
        began = instance.task_state
        if began is None:
            return
        instance.refresh()
        if instance.task_state == began:
            instance.task_state = None
            instance.save(expected_task_state=[began])

    def _over(self, lease, how, note=''):
        failpoints.hit('end-seen')
        if how == states.ENDED_DELETED and not tries.deletes(lease):
            db.lease_transition(
                lease, states.LEASE_RELEASED, self.host,
                reason='the server was deleted', reason_code='deleted')
            return
        code, reason = endings.why(lease)
        db.lease_transition(
            lease, states.LEASE_EXPIRED, self.host, end_action=how,
            reason=reason + note, reason_code=code)
        LOG.info('Lease %(lease)s is over, the server is %(how)s.',
                 {'lease': lease.uuid, 'how': how},
                 instance_uuid=lease.server_id)

    def _failed(self, lease, reason, outage=False):
        """Note a failed try and when the next one is.

        :param outage: a service was away: no try of those after which the
            fallback applies, or work would be lost for it.
        """
        lease = db.lease_get(lease.uuid)
        values, gives_up = tries.failed(lease, reason, outage)
        if not gives_up:
            LOG.warning('%s', values['reason'],
                        instance_uuid=lease.server_id)
            db.lease_set(lease, **values)
            return
        if preemption.give_up(lease, values, self.host):
            return
        LOG.error('%s. Its devices stay held; it is tried again for ever. '
                  'Shelve or delete the server by hand.', values['reason'],
                  instance_uuid=lease.server_id)
        db.lease_transition(lease, states.LEASE_ERROR, self.host, **values)


def _is_outage(reason, last_error):
    """Whether a try failed since its nova-compute died.

    :param reason: the last fault of the server, which may be that of an
        earlier try.
    :param last_error: what the lease says of the one before, or None.
    """
    return (reason == rpcapi.SHELVE_INTERRUPTED and
            reason not in (last_error or ''))
