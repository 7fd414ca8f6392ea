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

"""Puts right what no event told: half-done starts, deleted servers.

Run by the holder of the dispatcher lock, before it looks at the queue.
"""

import contextlib
import datetime

from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import again
from nova_gpu_lease.conductor import late
from nova_gpu_lease.conductor import lost
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import resizes
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conductor import shelved
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: What became of a server that was being started.
_DELETED = 'deleted'
_NOT_STARTED = 'not started'
_IN_CELL = 'in its cell, and no compute works on it'
_INTERRUPTED = 'ended by a compute that had not begun it'
_FAILED = 'failed'
_STARTED = 'started'


class Reaper:
    """Compares requests and leases with Nova's records."""

    def __init__(self, unstarted, host):
        """:param unstarted: an unstarted.Unstarted.

        :param host: the name of this service's host.
        """
        self.unstarted = unstarted
        self.host = host
        self.lost = lost.LostCasts(unstarted, host)

    def recover(self):
        """Settle the requests that a dead dispatcher left half-done."""
        context = nova_context.get_admin_context()
        for request in db.requests_in([states.REQUEST_DISPATCHING]):
            LOG.warning('Request %s was left half-done by a dispatcher that '
                        'died.', request.uuid)
            with _each('request', request.uuid):
                self.settle(context, request)

    def settle(self, context, request, fault=None, begun=False,
               servers=None, retry=None):
        """Find out how far the start of a request got, and go on from there.

        Servers that a compute works on are left alone; others go back into
        the queue, or fail when there is a fault.

        :param request: a row in state DISPATCHING, as whoever calls put it
            there, or found it.
        :param fault: why the start broke, for the owners; None when nothing
            speaks against another try.
        :param begun: whether the fault came while Nova started the servers:
            those that are in a cell by then may be tried again.
        :param servers: ids of the servers that were to be started; others of
            the request were sent to their computes before. None: not known.
        :param retry: columns to set if the request goes back into the queue.
        :raises: whatever keeps one of them from being settled: the request
            stays as it is, to be settled later.
        """
        still_begun(request)
        for lease in db.leases_of(request.id):
            if lease.state == states.LEASE_BUILDING and (
                    servers is None or lease.server_id in servers):
                self._settle_server(context, request, lease, fault, begun)
        # Counted afresh: an earlier try may have been broken off here.
        leases = db.leases_of(request.id)
        waiting = [lease.server_id for lease in leases
                   if lease.state == states.LEASE_QUEUED]
        if waiting:
            self.unstarted.wait_again(context, request.kind, waiting)
            db.request_transition(request, states.REQUEST_QUEUED, self.host,
                                  num_servers=len(waiting), **(retry or {}))
        elif {lease.state for lease in leases} == {states.LEASE_CANCELLED}:
            db.request_transition(request, states.REQUEST_FAILED, self.host,
                                  reason=fault)
        else:
            db.request_transition(request, states.REQUEST_PLACED, self.host,
                                  attempts=0)

    def _settle_server(self, context, request, lease, fault, begun):
        fate = self._fate(context, request, lease.server_id)
        if fate == _STARTED:
            return
        if fate == _INTERRUPTED:
            if self.unstarted.take_back(context, lease.server_id):
                with _each('lease', lease.uuid):
                    self._take_back(lease, rpcapi.INTERRUPTED)
            return
        if fate == _IN_CELL and (fault is None or begun):
            if lease.attempt_started_at is None:
                with _each('lease', lease.uuid):
                    # Changed by now: a compute has just begun it.
                    self._take_back(lease, fault)
            return
        if fate == _FAILED and self._is_kept(context, lease):
            self._begin(lease)
            return
        if fate in (_NOT_STARTED, _IN_CELL):
            if (fate == _NOT_STARTED and lease.host and
                    request.kind == states.KIND_CREATE):
                self.unstarted.discard_orphan(
                    context, lease.server_id, lease.host)
            if fault is None:
                db.lease_transition(lease, states.LEASE_QUEUED, self.host)
                return
            self.unstarted.fail(context, request.kind, lease.server_id, fault)
        if fate != _FAILED or not records.is_placed(context, lease.server_id):
            self.unstarted.release(context, [lease.server_id])
        if fate == _DELETED:
            if lease.host and request.kind == states.KIND_CREATE:
                self.unstarted.discard_unmapped(
                    context, lease.server_id, lease.host)
            self.unstarted.forget(context, lease.server_id)
            code, reason = 'deleted', 'the server was deleted'
        else:
            code = 'start_failed'
            reason = fault or records.last_fault(
                context, lease.server_id) or 'Nova ended it'
        db.lease_transition(lease, states.LEASE_CANCELLED, self.host,
                            reason=reason, reason_code=code)

    def _take_back(self, lease, reason):
        """Put a server in its cell, that no compute has begun, back.

        A cast that was sent is dropped: it is of an older generation.
        """
        if reason is None:
            # Nobody's fault but ours: no try of those that are counted.
            db.lease_transition(lease, states.LEASE_QUEUED, self.host,
                                exact=True)
        elif not again.requeue(lease, reason, self.host):
            # The last try: let it be, as long as the cast may arrive.
            LOG.warning('The start of a server was broken off: %s', reason,
                        instance_uuid=lease.server_id)

    @staticmethod
    def _fate(context, request, server_id):
        try:
            instance = records.find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            return _DELETED
        if instance is None:
            if records.server_of(context, server_id) is None:
                return _DELETED
            return _NOT_STARTED
        if records.is_waiting(instance):
            return _IN_CELL
        if records.is_interrupted(instance):
            return _INTERRUPTED
        if instance.vm_state == vm_states.ERROR:
            return _FAILED
        if (request.kind == states.KIND_UNSHELVE and
                instance.task_state is None):
            if instance.vm_state == vm_states.SHELVED_OFFLOADED:
                # Nova gave it up.
                return _NOT_STARTED
            if instance.host is None:
                # An operator reset its state while it waited.
                return _FAILED
        return _STARTED

    def requeue_failed(self):
        """Bring requests with builds that failed back into the queue.

        In their old place: they were in front of all who wait now.

        :returns: set of the ids of those that were found, also of any that
            could not be brought back.
        """
        context = nova_context.get_admin_context()
        requests = db.requests_with_failed_builds()
        for request in requests:
            with _each('request', request.uuid):
                waiting = [lease for lease in db.leases_of(request.id)
                           if lease.state == states.LEASE_QUEUED]
                self.unstarted.wait_again(
                    context, request.kind,
                    [lease.server_id for lease in waiting])
                db.request_transition(
                    request, states.REQUEST_QUEUED, self.host,
                    num_servers=len(waiting), reason=waiting[0].reason,
                    reason_code=waiting[0].reason_code,
                    wait_until=_time_left(request))
        return {request.id for request in requests}

    def cancel_deleted(self):
        """Take servers that were deleted while they waited off the queue."""
        context = nova_context.get_admin_context()
        gone = {}
        for lease in db.leases_in([states.LEASE_QUEUED]):
            with _each('lease', lease.uuid):
                if self._gone(context, lease.server_id):
                    gone.setdefault(lease.request.uuid, []).append(lease)
        for uuid, leases in gone.items():
            with _each('request', uuid):
                self._cancel(context, uuid, leases)

    @staticmethod
    def _gone(context, server_id):
        """Whether a waiting server was deleted."""
        try:
            instance = records.find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            return True
        return (instance is None and
                records.server_of(context, server_id) is None)

    def _cancel(self, context, request_uuid, leases):
        because = {'reason': 'the server was deleted while it waited',
                   'reason_code': 'deleted'}
        for lease in leases:
            self.unstarted.forget(context, lease.server_id)
        request = db.request_get(request_uuid)
        gone = [lease.server_id for lease in leases]
        left = [lease for lease in db.leases_of(request.id)
                if lease.state == states.LEASE_QUEUED and
                lease.server_id not in gone]
        if request.state == states.REQUEST_QUEUED and not left:
            # By one transaction: a request of which nothing waits would keep
            # others waiting.
            db.request_transition(
                request, over(request, states.REQUEST_CANCELLED), self.host,
                lease_state=states.LEASE_CANCELLED, servers=gone, **because)
            return
        for lease in leases:
            db.lease_transition(lease, states.LEASE_CANCELLED, self.host,
                                **because)
        if request.state == states.REQUEST_QUEUED:
            db.request_set(request, num_servers=len(left))

    def free_cancelled(self):
        """Free the servers that are not to be unshelved any more.

        Who cancels the wait does it at once, unless he dies or the cell is
        away.
        """
        context = nova_context.get_admin_context()
        for lease in db.leases_cancelled():
            with _each('lease', lease.uuid):
                try:
                    shelved.free(
                        records.find_instance(context, lease.server_id),
                        lease.request.context['request_id'])
                except nova_exception.InstanceNotFound:
                    LOG.debug('The server was deleted.',
                              instance_uuid=lease.server_id)
                db.lease_set(lease, next_attempt_at=None)

    def close_builds(self):
        """Close the leases of builds that failed, vanished or hang."""
        context = nova_context.get_admin_context()
        since = clock.now() - datetime.timedelta(
            seconds=CONF.gpu_lease.build_timeout)
        for lease in db.leases_in([states.LEASE_BUILDING]):
            if lease.request.state != states.REQUEST_DISPATCHING:
                with _each('lease', lease.uuid):
                    self._close_build(context, lease, since)

    def _close_build(self, context, lease, since):
        if lease.request.kind == states.KIND_RESIZE:
            self._look_at_resize(context, lease)
            return
        fate = self._fate(context, lease.request, lease.server_id)
        if fate == _DELETED:
            code, reason = 'deleted', 'the server was deleted'
        elif fate == _FAILED:
            if self._is_kept(context, lease):
                self._begin(lease)
                return
            code = 'build_failed'
            reason = 'the server could not be built: %s' % (
                records.last_fault(context, lease.server_id) or
                'Nova ended it')
        elif fate == _NOT_STARTED:
            # The compute could not unshelve it, and has not said so yet.
            reason = records.last_fault(context, lease.server_id)
            if again.requeue(lease, reason, self.host):
                return
            code, reason = 'build_failed', again.last_words(lease, reason)
            self.unstarted.fail(context, lease.request.kind,
                                lease.server_id, reason)
        elif fate == _INTERRUPTED or lease.updated_at < since:
            if fate != _IN_CELL and not self.unstarted.take_back(
                    context, lease.server_id):
                return
            code, reason = 'build_failed', rpcapi.INTERRUPTED
            if fate != _INTERRUPTED:
                code = 'build_timeout'
                reason = 'no compute began to build the server within %s' % (
                    duration.format(CONF.gpu_lease.build_timeout))
            if again.requeue(lease, reason, self.host):
                return
            reason = again.last_words(lease, reason)
            # From here on no compute may begin it.
            lease = db.lease_transition(
                lease, states.LEASE_QUEUED, self.host, exact=True,
                attempt_started_at=None)
            if not self.unstarted.give_up(context, lease.server_id, reason):
                return
        else:
            return
        self._close(lease, states.LEASE_CANCELLED, code, reason)

    @staticmethod
    def _is_kept(context, lease):
        """Whether a server that failed has its guest, and its devices.

        A nova-compute that died when it had just unshelved it left it so: it
        is the owner's last copy.
        """
        return (lease.request.kind == states.KIND_UNSHELVE and
                records.is_placed(context, lease.server_id))

    def _begin(self, lease):
        """Begin a lease now: what holds devices is to have an end."""
        now = clock.now()
        lease = db.lease_transition(
            lease, states.LEASE_ACTIVE, self.host, attempt_started_at=None,
            started_at=now,
            expires_at=now + datetime.timedelta(seconds=lease.duration))
        LOG.warning('Lease %(lease)s begins and ends at %(end)s: its server '
                    'is in ERROR, and holds its devices.',
                    {'lease': lease.uuid, 'end': lease.expires_at.isoformat()},
                    instance_uuid=lease.server_id)

    def _look_at_resize(self, context, lease):
        """Nova resizes a server: its lease begins, or never does."""
        try:
            instance = records.find_instance(
                context, lease.server_id, ['flavor'])
        except nova_exception.InstanceNotFound:
            self._close(lease, states.LEASE_CANCELLED, 'deleted',
                        'the server was deleted')
        else:
            resizes.follow(lease, instance, self.host)

    def follow_servers(self):
        """Bring running leases up to date with what nobody told us of.

        One whose end is tried again later is looked at by the expirer now:
        what it could not do may have been done by hand.
        """
        context = nova_context.get_admin_context()
        for lease in db.leases_in([states.LEASE_EXPIRING,
                                   states.LEASE_ERROR]):
            with _each('lease', lease.uuid):
                if lease.next_attempt_at and _ended_by_hand(context, lease):
                    db.lease_set(lease, next_attempt_at=None)
        for lease in db.leases_in([states.LEASE_ACTIVE]):
            with _each('lease', lease.uuid):
                try:
                    resizes.follow(lease, records.find_instance(
                        context, lease.server_id, ['flavor']), self.host)
                except nova_exception.InstanceNotFound:
                    self._close(lease, states.LEASE_RELEASED, 'deleted',
                                'the server was deleted')

    def _close(self, lease, state, code, reason):
        db.lease_transition(lease, state, self.host, reason=reason,
                            reason_code=code)
        LOG.info('Lease %(lease)s is over: %(reason)s.',
                 {'lease': lease.uuid, 'reason': reason},
                 instance_uuid=lease.server_id)

    def give_back_late(self):
        """Give back what was claimed for servers that did not start."""
        context = nova_context.get_admin_context()
        client = self.unstarted.task_mgr.report_client
        for lease in db.leases_taken_back(clock.now() - late.LATE):
            with _each('lease', lease.uuid):
                late.give_back(context, client, lease)

    def fail_lost(self):
        """Fail servers whose request was lost before it was queued."""
        with _each('server', 'whose request was lost'):
            for server_id, fail in self.lost.find():
                with _each('server', server_id):
                    fail()


def _ended_by_hand(context, lease):
    """Whether a server is deleted or shelved, so that nothing is left to end.

    :param lease: one that is EXPIRING or ERROR.
    """
    try:
        instance = records.find_instance(context, lease.server_id)
    except nova_exception.InstanceNotFound:
        return True
    return instance.vm_state == vm_states.SHELVED_OFFLOADED


def over(request, state):
    """The state of a request of which nothing waits any more.

    :param state: the one it goes to if nothing is left of it.
    :returns: PLACED as long as another server of it is being built, or runs:
        its build may fail yet.
    """
    if any(lease.state in states.LEASE_CURRENT and
           lease.state != states.LEASE_QUEUED
           for lease in db.leases_of(request.id)):
        return states.REQUEST_PLACED
    return state


def _time_left(request):
    """When a request that is placed gives up waiting, now that it waits again.

    The time since it was placed does not count.

    :returns: an aware datetime, or None for never.
    """
    if request.wait_until is None:
        return None
    return clock.now() + max(request.wait_until - request.updated_at,
                             datetime.timedelta(0))


def still_begun(request):
    """A request whose start has begun, as it is now.

    A process that stood still for so long that it counted as dead finds the
    request begun anew, or over: what it was about to do would be done to
    another one's try.

    :param request: the models.Request as it was when its start began.
    :returns: the models.Request with all of its columns.
    :raises: exception.StaleState
    """
    now = db.request_get(request.uuid)
    if (now.state, now.generation) != (request.state, request.generation):
        raise exception.StaleState(
            table='Request', id=request.uuid, state=request.state,
            generation=request.generation)
    return now


@contextlib.contextmanager
def _each(what, uuid):
    """Let one row's failure be its own: the others are looked at as well."""
    try:
        yield
    except exception.StaleState:
        LOG.debug('The %s %s was changed by somebody else.', what, uuid)
    except Exception:
        LOG.exception('The %s %s could not be put right.', what, uuid)
