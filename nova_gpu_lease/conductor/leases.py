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

"""RPC namespace ``gpu_lease``: what nova-compute reports and asks."""

import datetime
import functools

from nova.compute import vm_states
from nova import exception as nova_exception
from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_utils import timeutils

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import again
from nova_gpu_lease.conductor import endings
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import resizes
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conductor import unstarted
from nova_gpu_lease.conductor import worker
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import failpoints
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: A lease of which nobody said so long after its end that it is due ended
#: during an outage. A restart of services is shorter, and clocks of hosts
#: differ by less.
OUTAGE = datetime.timedelta(minutes=1)
#: The code of the reason of its later end.
_OUTAGE = 'outage'
#: States of a server whose guest was started.
_UP = (vm_states.ACTIVE, vm_states.STOPPED, vm_states.PAUSED,
       vm_states.SUSPENDED, vm_states.RESCUED, vm_states.RESIZED,
       vm_states.SHELVED, vm_states.SOFT_DELETED)


class LeaseEndpoint:
    """Turns what happens on the hosts into changes of leases."""

    target = messaging.Target(namespace=rpcapi.NAMESPACE, version='1.3')

    def __init__(self, host, look=lambda: False):
        """:param host: the name of this service's host.

        :param look: has this process look at the queue now; returns whether
            it is the one that dispatches.
        """
        self.host = host
        self._look = look

    def sync_host(self, context, host, servers, devices_changed):
        by_id = {server['id']: server for server in servers}
        leases = db.leases_on_host(host, list(by_id))
        current = []
        for lease in leases:
            try:
                lease = self._sync(context, lease, by_id.get(lease.server_id),
                                   host)
            except exception.StaleState:
                # Somebody else was quicker: the caller is to know the result.
                lease = db.lease_get(lease.uuid)
            if lease.state in states.LEASE_CURRENT:
                current.append(_summary(lease))
        if devices_changed:
            self.wake(context)
        return current

    def lease_due(self, context, lease_uuid, generation):
        try:
            lease = db.lease_get(lease_uuid)
        except exception.LeaseNotFound:
            return None
        if (lease.state != states.LEASE_ACTIVE or
                lease.generation != generation or
                # The answer to an earlier call was lost.
                lease.expires_at - clock.now() > OUTAGE):
            return _summary(lease)
        extended = _auto_extended(lease)
        grace = _grace(lease)
        try:
            if extended:
                db.lease_set(lease, expires_at=extended)
                LOG.info('Nobody waits: lease %(lease)s goes on until '
                         '%(until)s.', {'lease': lease.uuid,
                                        'until': extended.isoformat()})
            elif grace:
                db.lease_set(lease, expires_at=grace, reason_code=_OUTAGE,
                             reason='The service was away when the lease '
                             'ended; it ends a little later instead.')
                LOG.info('Lease %(lease)s ended during an outage and goes on '
                         'until %(until)s.', {'lease': lease.uuid,
                                              'until': grace.isoformat()})
            else:
                failpoints.hit('due')
                db.lease_transition(lease, states.LEASE_EXPIRING, self.host,
                                    reason='the lease ended', preempt_at=None)
                failpoints.hit('expiring')
        except exception.StaleState:
            LOG.debug('Lease %s was changed by somebody else.', lease_uuid)
        return _summary(db.lease_get(lease_uuid))

    def lease_off(self, context, lease_uuid, generation, seconds):
        try:
            lease = db.lease_get(lease_uuid)
        except exception.LeaseNotFound:
            return None
        if (lease.state == states.LEASE_ACTIVE and
                lease.generation == generation and
                _is_off(context, lease.server_id)):
            try:
                lease = db.lease_transition(
                    lease, states.LEASE_EXPIRING, self.host,
                    reason='the server was powered off for %s' %
                    duration.format(seconds),
                    reason_code=endings.POWERED_OFF, expires_at=clock.now(),
                    preempt_at=None)
                LOG.info('Lease %(lease)s ends early: %(reason)s.',
                         {'lease': lease.uuid, 'reason': lease.reason},
                         instance_uuid=lease.server_id)
            except exception.StaleState:
                lease = db.lease_get(lease_uuid)
        return _summary(lease)

    def build_allowed(self, context, server_id, host, generation=None):
        lease = db.lease_current(server_id)
        if lease is None:
            # Every cast for a server with a lease has a stamp: this one is
            # for one without, or the lease was over before it came.
            return generation is None
        if (lease.state != states.LEASE_BUILDING or lease.host != host or
                lease.generation != generation):
            return False
        if _is_ended(context, server_id):
            return False
        # From now on nobody takes the server back without asking Nova.
        return db.lease_set(lease, attempt_started_at=clock.now())

    def is_building(self, context, server_id, host):
        lease = db.lease_current(server_id)
        return (lease is not None and lease.host == host and
                lease.state == states.LEASE_BUILDING and
                lease.request.kind != states.KIND_RESIZE)

    def build_finished(self, context, host, server_id, ok, message,
                       generation=None):
        failpoints.hit('build-told')
        lease = db.lease_current(server_id)
        if (lease is None or lease.state != states.LEASE_BUILDING or
                generation not in (None, lease.generation)):
            return
        try:
            self._end_build(context, lease, host, ok, message)
        except exception.StaleState:
            LOG.debug('Lease %s was changed by somebody else.', lease.uuid)
        self.wake(context)

    def _end_build(self, context, lease, host, ok, message):
        try:
            instance = records.find_instance(
                context.elevated(), lease.server_id)
        except nova_exception.InstanceNotFound:
            self._close(lease, states.LEASE_CANCELLED, 'deleted',
                        'the server was deleted')
            return
        if instance is None:
            return
        if ok:
            self._start(lease, host, instance.vm_state,
                        instance.launched_at)
        elif lease.host == host:
            self._build_failed(context, lease, instance, message)

    def _build_failed(self, context, lease, instance, message):
        reason = (message or records.last_fault(context, lease.server_id) or
                  'Nova ended it')
        if records.is_waiting(instance):
            # Dropped before it was begun; the last try is left to the reaper.
            again.requeue(lease, reason, self.host)
            return
        if instance.vm_state == vm_states.SHELVED_OFFLOADED:
            if again.requeue(lease, reason, self.host):
                return
            reason = again.last_words(lease, reason)
            unstarted.fail_unshelve(
                context.elevated(), lease.server_id, reason)
        elif records.is_interrupted(instance):
            # It may wait again: the reaper sees to it.
            return
        elif instance.vm_state == vm_states.ERROR:
            reason = 'the server could not be built: %s' % reason
        else:
            return
        self._close(lease, states.LEASE_CANCELLED, 'build_failed', reason)

    def server_changed(self, context, server_id):
        resizes.look(context.elevated(), server_id, self.host)

    def wake(self, context):
        db.wake()
        if self._look():
            return
        try:
            self._rpcapi.woken(context)
        except messaging.MessagingException as exc:
            LOG.debug('Who dispatches sees it a little later: %s', exc)

    def woken(self, context):
        self._look()

    @functools.cached_property
    def _rpcapi(self):
        # Not before it is needed: this is made before the workers fork.
        return rpcapi.ConductorAPI()

    def _sync(self, context, lease, server, host):
        """Bring one lease up to date with its server.

        :param server: the server as the host sees it; None when it is not
            there.
        """
        if server is None:
            return self._missing(context, lease)
        if (lease.state == states.LEASE_BUILDING and
                lease.request.kind != states.KIND_RESIZE):
            return self._start(
                lease, host, server['vm_state'],
                server['launched_at'] and timeutils.parse_isotime(
                    server['launched_at']))
        if not server['task_state'] and (
                lease.state == states.LEASE_BUILDING or lease.host != host or
                lease.flavor != server.get('flavor', lease.flavor)):
            return self._follow(context, lease)
        return lease

    def _follow(self, context, lease):
        """A server that was moved or resized."""
        try:
            instance = records.find_instance(
                context.elevated(), lease.server_id, ['flavor'])
        except nova_exception.InstanceNotFound:
            return lease
        return resizes.follow(lease, instance, self.host)

    def _missing(self, context, lease):
        """A lease of a host that does not have its server."""
        if (lease.state == states.LEASE_BUILDING and
                not worker.dispatches()):
            # A conductor of one cell cannot tell a server that is not yet in
            # the cell from one that is gone.
            return lease
        ended = {states.LEASE_BUILDING: states.LEASE_CANCELLED,
                 states.LEASE_ACTIVE: states.LEASE_RELEASED}.get(lease.state)
        if ended is None:
            return lease
        try:
            instance = records.find_instance(
                context.elevated(), lease.server_id)
        except nova_exception.InstanceNotFound:
            return self._close(lease, ended, 'deleted',
                               'the server was deleted')
        if (lease.state == states.LEASE_ACTIVE and
                instance.vm_state == vm_states.SHELVED_OFFLOADED):
            return self._close(lease, ended, 'shelved',
                               'the server was shelved')
        return lease

    def _start(self, lease, host, vm_state, launched_at):
        """Begin the lease of a server that came up.

        It may have been stopped or paused since. A server that is unshelved
        stays SHELVED_OFFLOADED until it is up.
        """
        if vm_state not in _UP or not launched_at:
            return lease
        started = launched_at.replace(tzinfo=datetime.timezone.utc)
        lease = db.lease_transition(
            lease, states.LEASE_ACTIVE, self.host, host=host,
            attempt_started_at=None, started_at=started,
            expires_at=started + datetime.timedelta(seconds=lease.duration))
        LOG.info('Lease %(lease)s began and ends at %(end)s.',
                 {'lease': lease.uuid, 'end': lease.expires_at.isoformat()},
                 instance_uuid=lease.server_id)
        return lease

    def _close(self, lease, state, code, reason):
        LOG.info('Lease %(lease)s is over: %(reason)s.',
                 {'lease': lease.uuid, 'reason': reason},
                 instance_uuid=lease.server_id)
        return db.lease_transition(lease, state, self.host, reason=reason,
                                   reason_code=code)


def _auto_extended(lease):
    """The later end of a lease that extends itself, or None.

    It does so while nobody waits for a device that it could give, and up to
    its longest duration.
    """
    if not lease.auto_extend:
        return None
    for request in db.requests_in([states.REQUEST_QUEUED]):
        # The aliases that serve the same devices; the planner counts with it.
        competing = set((request.queue_group or '').split(','))
        if (request.devices.keys() | competing) & lease.devices.keys():
            return None
    until = max(lease.expires_at, clock.now()) + datetime.timedelta(
        seconds=CONF.gpu_lease.auto_extend_step)
    if lease.max_duration is not None:
        until = min(until, lease.started_at + datetime.timedelta(
            seconds=lease.max_duration))
    return until if until > lease.expires_at else None


def _grace(lease):
    """The later end of a lease that ended while nobody could end it, or None.

    Its owner could not save the work or end it, with the service being away:
    conductors, database, message bus or the compute service. Once for a
    lease, so that one whose host has a slow clock ends all the same.
    """
    now = clock.now()
    if (not CONF.gpu_lease.outage_grace or lease.reason_code == _OUTAGE or
            now - lease.expires_at < OUTAGE):
        return None
    return now + datetime.timedelta(seconds=CONF.gpu_lease.outage_grace)


def _summary(lease):
    return {
        'uuid': lease.uuid,
        'server_id': lease.server_id,
        'state': lease.state,
        'generation': lease.generation,
        'started_at': _iso(lease.started_at),
        'expires_at': _iso(lease.expires_at),
        'duration': lease.duration,
        'auto_extend': lease.auto_extend,
    }


def _iso(when):
    return when.isoformat() if when else None


def _is_off(context, server_id):
    """Whether a server is powered off, and nobody is about to start it."""
    try:
        instance = records.find_instance(context.elevated(), server_id)
    except nova_exception.InstanceNotFound:
        return False
    return (instance.vm_state, instance.task_state) == (
        vm_states.STOPPED, None)


def _is_ended(context, server_id):
    """Whether Nova ended a server that is about to be built.

    A nova-compute that starts puts those into ERROR that it was to build when
    it died. Their casts may still come, and stock Nova builds them.
    """
    try:
        instance = records.find_instance(context.elevated(), server_id)
    except nova_exception.InstanceNotFound:
        return False
    return instance is not None and instance.vm_state == vm_states.ERROR
