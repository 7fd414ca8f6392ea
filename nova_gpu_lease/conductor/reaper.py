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

import datetime

from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import builder as nova_builder
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: What became of a server that was being started.
_DELETED = 'deleted'
_NOT_STARTED = 'not started'
_FAILED = 'failed'
_STARTED = 'started'


class Reaper:
    """Compares requests and leases with Nova's records."""

    def __init__(self, builder, creds, host):
        """:param builder: a builder.Builder.

        :param creds: a credentials.Credentials.
        :param host: the name of this service's host.
        """
        self.builder = builder
        self.creds = creds
        self.host = host

    def recover(self):
        """Settle the requests that a dead dispatcher left half-done."""
        context = nova_context.get_admin_context()
        for request in db.requests_in([states.REQUEST_DISPATCHING]):
            LOG.warning('Request %s was left half-done by a dispatcher that '
                        'died.', request.uuid)
            self.settle(context, request)

    def settle(self, context, request, fault=None):
        """Find out how far the start of a request got, and go on from there.

        Servers that reached a cell are left to be built; those that did not
        go back into the queue, or fail when there is a fault.

        :param request: a row in state DISPATCHING.
        :param fault: why the start broke, for the owners; None when nothing
            speaks against another try.
        """
        again, going = 0, 0
        try:
            for lease in db.leases_of(request.id):
                if lease.state == states.LEASE_BUILDING:
                    fate = self._settle_server(context, request, lease, fault)
                    again += fate == _NOT_STARTED
                    going += fate == _STARTED
            if again:
                db.request_transition(
                    request, states.REQUEST_QUEUED, self.host,
                    num_servers=again)
            elif going:
                db.request_transition(
                    request, states.REQUEST_PLACED, self.host, payload=None,
                    secrets=None)
            else:
                db.request_transition(
                    request, states.REQUEST_FAILED, self.host, reason=fault,
                    payload=None, secrets=None)
        except exception.StaleState:
            LOG.debug('Request %s was changed by somebody else.',
                      request.uuid)

    def _settle_server(self, context, request, lease, fault):
        fate = self._fate(context, request, lease.server_id)
        if fate == _STARTED:
            return fate
        self.builder.release(context, [lease.server_id])
        if fate == _NOT_STARTED and fault is None:
            db.lease_transition(lease, states.LEASE_QUEUED, self.host)
            return fate
        if fate == _NOT_STARTED:
            self.builder.fail(context, request.kind, lease.server_id, fault)
        elif fate == _DELETED:
            self.builder.forget(context, lease.server_id)
        db.lease_transition(
            lease, states.LEASE_CANCELLED, self.host,
            reason='the server was deleted' if fate == _DELETED else
            fault or nova_builder.last_fault(context, lease.server_id),
            reason_code='deleted' if fate == _DELETED else 'start_failed')
        return _FAILED

    @staticmethod
    def _fate(context, request, server_id):
        try:
            instance = nova_builder.find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            return _DELETED
        if instance is None:
            if nova_builder.server_of(context, server_id) is None:
                return _DELETED
            return _NOT_STARTED
        if instance.vm_state == vm_states.ERROR:
            return _FAILED
        return _STARTED

    def cancel_deleted(self):
        """Take servers that were deleted while they waited off the queue."""
        context = nova_context.get_admin_context()
        gone = {}
        for lease in db.leases_in([states.LEASE_QUEUED]):
            if self._gone(context, lease.server_id):
                gone.setdefault(lease.request.uuid, []).append(lease)
        for uuid, leases in gone.items():
            self._cancel(context, uuid, leases)

    @staticmethod
    def _gone(context, server_id):
        """Whether a waiting server was deleted."""
        try:
            instance = nova_builder.find_instance(context, server_id)
        except nova_exception.InstanceNotFound:
            return True
        return (instance is None and
                nova_builder.server_of(context, server_id) is None)

    def _cancel(self, context, request_uuid, leases):
        request = db.request_get(request_uuid)
        try:
            for lease in leases:
                self.builder.forget(context, lease.server_id)
                db.lease_transition(
                    lease, states.LEASE_CANCELLED, self.host,
                    reason='the server was deleted while it waited',
                    reason_code='deleted')
            left = request.num_servers - len(leases)
            if left > 0:
                db.request_set(request, num_servers=left)
            else:
                db.request_transition(
                    request, states.REQUEST_CANCELLED, self.host,
                    reason='the server was deleted while it waited',
                    reason_code='deleted', payload=None, secrets=None)
        except exception.StaleState:
            LOG.debug('Request %s was changed by somebody else.',
                      request_uuid)

    def close_builds(self):
        """Close the leases of builds that failed, vanished or hang."""
        context = nova_context.get_admin_context()
        late = clock.now() - datetime.timedelta(
            seconds=CONF.gpu_lease.build_timeout)
        for lease in db.leases_in([states.LEASE_BUILDING]):
            if lease.request.state == states.REQUEST_DISPATCHING:
                continue
            fate = self._fate(context, lease.request, lease.server_id)
            if fate == _DELETED:
                code, reason = 'deleted', 'the server was deleted'
            elif fate == _FAILED:
                code = 'build_failed'
                reason = 'the server could not be built: %s' % (
                    nova_builder.last_fault(context, lease.server_id))
            elif lease.updated_at < late:
                code = 'build_timeout'
                reason = 'the server was not up %s after its build began' % (
                    duration.format(CONF.gpu_lease.build_timeout))
                self.builder.fail_build(context, lease.server_id, reason)
            else:
                continue
            self._close(lease, states.LEASE_CANCELLED, code, reason)

    def release_deleted(self):
        """Close running leases whose server is gone without a word."""
        context = nova_context.get_admin_context()
        for lease in db.leases_in([states.LEASE_ACTIVE]):
            try:
                nova_builder.find_instance(context, lease.server_id)
            except nova_exception.InstanceNotFound:
                self._close(lease, states.LEASE_RELEASED, 'deleted',
                            'the server was deleted')

    def _close(self, lease, state, code, reason):
        try:
            db.lease_transition(lease, state, self.host, reason=reason,
                                reason_code=code)
        except exception.StaleState:
            LOG.debug('Lease %s was changed by somebody else.', lease.uuid)
            return
        LOG.info('Lease %(lease)s is over: %(reason)s.',
                 {'lease': lease.uuid, 'reason': reason},
                 instance_uuid=lease.server_id)

    def revoke_trusts(self):
        """Take back the trusts of requests all of whose leases are over."""
        for request in db.requests_done_with_trust():
            self.creds.revoke_trust(request.trust_id)
            db.request_set(request, trust_id=None)
