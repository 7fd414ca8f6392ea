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


"""Finds servers whose cast was lost before it was queued, and fails them.

A conductor takes a cast off the message queue before it works on it. One that
dies between that and the commit of our rows leaves a server that waits, and
that nobody knows.
"""

import time

from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import objects
from oslo_log import log as logging

from nova_gpu_lease.conductor import enrolment
from nova_gpu_lease.conductor import payload
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import unstarted as nova_unstarted
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: Seconds for which a server has to be seen without a lease. Its cast may
#: have waited in the message queue while no conductor was up.
AGE = 60

CREATE_LOST = ('The request was lost when a nova-conductor died. Please '
               'create the server again.')
UNSHELVE_LOST = ('The request was lost when a nova-conductor died. Please '
                 'unshelve the server again.')


class LostCasts:
    """Remembers which servers it saw without a lease, and since when."""

    def __init__(self, unstarted, host, monotonic=time.monotonic):
        """:param unstarted: an unstarted.Unstarted.

        :param host: the name of this service's host.
        :param monotonic: a function that returns seconds.
        """
        self.unstarted = unstarted
        self.host = host
        self._monotonic = monotonic
        self._seen = {}

    def find(self):
        """Yield those that were seen for long enough.

        :returns: an iterable of (server id, a function that fails it).
        """
        context = nova_context.get_admin_context()
        found = {**self._new_servers(context), **self._unshelving(context)}
        now = self._monotonic()
        self._seen = {server_id: self._seen.get(server_id, now)
                      for server_id in found}
        for server_id, fail in found.items():
            if now - self._seen[server_id] >= AGE:
                LOG.error('The request for a server was lost.',
                          instance_uuid=server_id)
                yield server_id, fail

    def _new_servers(self, context):
        """{server id: a function that fails it}."""
        waiting = {request.instance_uuid: request for request
                   in objects.BuildRequestList.get_all(context)}
        found = {}
        for server_id in self._without_lease(waiting):
            spec = records.spec_of(context, server_id)
            if spec and enrolment.terms_of(spec):
                found[server_id] = lambda server_id=server_id: (
                    self.unstarted.fail(context, states.KIND_CREATE,
                                        server_id, CREATE_LOST))
        return found

    def _unshelving(self, context):
        found = {}
        for cell in objects.CellMappingList.get_all(context):
            if cell.is_cell0():
                continue
            try:
                found.update(self._unshelving_in(context, cell))
            except Exception:
                # The other cells are not to wait for it.
                LOG.exception('Cell %s cannot be searched for requests that '
                              'were lost.', cell.identity)
        return found

    def _unshelving_in(self, context, cell):
        servers = {server.uuid: server for server in
                   objects.InstanceList.get_by_filters(
                       records.cell_context(context, cell),
                       {'vm_state': vm_states.SHELVED_OFFLOADED,
                        'task_state': task_states.UNSHELVING,
                        'deleted': False}, expected_attrs=[])}
        current = db.leases_current(servers)
        found = {}
        for server_id, server in servers.items():
            spec = records.spec_of(context, server_id)
            if server_id not in current and spec:
                agreed = enrolment.terms_again(server_id, spec)
                if agreed:
                    found[server_id] = (
                        lambda server=server, spec=spec, agreed=agreed:
                        self._fail_unshelve(context, server, spec, agreed))
        return found

    def _fail_unshelve(self, context, server, spec, agreed):
        """Nova shows no fault of a shelved server, so a lease says it."""
        request, leases = enrolment.rows(
            context, states.KIND_UNSHELVE, agreed,
            payload.Cast(image={}, requested_networks=None,
                         block_device_mapping=None, tags=None),
            spec, [server])
        # Not QUEUED for a moment: it would be started.
        row = db.request_create(
            request, leases, self.host, state=states.REQUEST_DISPATCHING,
            lease_state=states.LEASE_QUEUED)
        db.request_transition(
            row, states.REQUEST_FAILED, self.host, reason=UNSHELVE_LOST,
            reason_code='lost', lease_state=states.LEASE_CANCELLED)
        nova_unstarted.fail_unshelve(context, server.uuid, UNSHELVE_LOST)

    @staticmethod
    def _without_lease(server_ids):
        """Those of some servers that never had a lease."""
        current = db.leases_current(server_ids)
        for server_id in server_ids:
            if server_id not in current:
                try:
                    db.lease_get(server_id)
                except exception.LeaseNotFound:
                    yield server_id
