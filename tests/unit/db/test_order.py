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


"""Who starts next, and who makes room, in the database."""

import functools

import fixtures

from nova_gpu_lease.db import api
from nova_gpu_lease import exception
from nova_gpu_lease import priorities
from tests.unit.db import base

HOST = base.HOST


class OrderTest(base.TestCase):

    def preempt(self, server, **values):
        """Have a server make room; its new request."""
        lease, = self.activate(server, trust_id='trust-of-' + server)
        lease = api.lease_transition(lease, 'EXPIRING', HOST)
        return self.resume(lease, **values)

    def resume(self, lease, **values):
        old = lease.request
        return api.lease_preempted(
            lease, HOST,
            {'kind': 'unshelve', 'project_id': 'project', 'user_id': 'user',
             'priority': 'spare', 'devices': {'gpu': 1}, 'context': {},
             'queued_at': old.queued_at, 'resumes': old.resumes or old.id,
             'trust_id': old.trust_id, **values},
            {'server_id': lease.server_id, 'server_name': 'name',
             'flavor': 'gpu', 'duration': 600, 'on_expiry': 'shelve'},
            'it made room')

    def test_held_leases(self):
        self.queue('waits')
        building, = self.place('builds')
        active, = self.activate('runs', priority='urgent')
        api.lease_set(active, preempt_at=base.NOW)
        ended, = self.activate('ended')
        self.end(ended, base.NOW)
        rows = api.leases_held()
        self.assertEqual(['builds', 'runs'], [row.server_id for row in rows])
        self.assertEqual(['BUILDING', 'ACTIVE'], [row.state for row in rows])
        self.assertEqual((base.NOW, base.NOW + base.seconds(3600), 'urgent'),
                         (rows[1].preempt_at, rows[1].expires_at,
                          rows[1].priority))
        # What a plan does to them is compared and swapped like all else.
        self.assertTrue(api.lease_set(rows[1], preempt_at=None))

    def test_used_leases(self):
        self.queue('waits')
        runs, = self.activate('runs')
        for server, ended in (('long-ago', -100), ('lately', 100)):
            lease, = self.activate(server, project_id='other')
            self.end(lease, base.NOW + base.seconds(ended))
        self.assertEqual(
            [('project', {'gpu': 1}, base.NOW, None),
             ('other', {'gpu': 1}, base.NOW,
              base.NOW + base.seconds(100))],
            [tuple(row) for row in api.leases_used(base.NOW)])

    def test_note_waits(self):
        first, second, gone = (self.queue(name) for name in 'abc')
        before = api.wake_value()
        api.request_transition(gone, 'CANCELLED', HOST)
        promise = {'start': 5.0, 'nodes': {'node': 1}}
        api.requests_note_waits([
            (first, {'expected_start': base.NOW, 'promised': True,
                     'promise': promise, 'reason': 'devices'}),
            (second, {'reason_code': 'behind'}),
            (gone, {'reason': 'late'})])
        first, second, gone = (
            api.request_get(request.uuid)
            for request in (first, second, gone))
        self.assertEqual(
            (base.NOW, True, promise, 'devices'),
            (first.expected_start, first.promised, first.promise,
             first.reason))
        self.assertEqual((None, False, None, 'behind'), (
            second.expected_start, second.promised, second.promise,
            second.reason_code))
        self.assertIsNone(gone.reason)
        self.assertEqual(before + 1, api.wake_value())

    def test_note_more_than_a_batch(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.db.order.BATCH', 2))
        requests = [self.queue() for _ in range(5)]
        api.requests_note_waits([
            (request, {'reason': request.uuid}) for request in requests])
        self.assertEqual([request.uuid for request in requests], [
            request.reason for request in api.requests_in(['QUEUED'])])

    def test_leases_preempting(self):
        leases = self.activate('soon', 'now', 'never')
        for lease in leases[:2]:
            api.lease_set(lease, preempt_at=base.NOW)
        api.lease_transition(leases[1], 'EXPIRING', HOST)
        self.assertEqual(['soon'], [lease.server_id for lease in
                                    api.leases_preempting()])

    def test_preempted_server_has_its_old_place(self):
        first = self.preempt('first')
        between = self.queue('between')
        second = self.preempt('second')
        again, = api.leases_of(first.id)
        self.assertEqual(('QUEUED', 600), (again.state, again.duration))
        self.assertEqual(
            [first.uuid, between.uuid, second.uuid],
            [request.uuid for request in api.requests_in(['QUEUED'])])
        self.assertEqual(
            {first.uuid: 1, between.uuid: 2, second.uuid: 3},
            api.requests_positions(functools.partial(
                priorities.queue_key,
                classes=priorities.parse(['normal:0']))))
        original = api.lease_original('first')
        self.assertEqual(('EXPIRED', 'shelved', 'preempted', 'it made room'),
                         (original.state, original.end_action,
                          original.reason_code, original.reason))
        self.assertIsNone(api.lease_original('unknown'))

    def test_preempted_twice(self):
        self.preempt('server')
        request, = api.requests_in(['QUEUED'])
        request = api.request_transition(
            request, 'DISPATCHING', HOST, lease_state='BUILDING')
        api.request_transition(request, 'PLACED', HOST)
        lease = api.lease_transition(
            api.lease_current('server'), 'ACTIVE', HOST)
        second = self.resume(api.lease_transition(lease, 'EXPIRING', HOST))
        first = api.lease_original('server').request
        self.assertEqual(first.id, second.resumes)
        self.assertEqual(first.queued_at, second.queued_at)

    def test_preempted_meanwhile_changed(self):
        lease, = self.activate('server')
        lease = api.lease_transition(lease, 'EXPIRING', HOST)
        api.lease_transition(lease, 'ERROR', HOST)
        self.assertRaises(exception.StaleState, self.resume, lease)
        self.assertEqual([], api.requests_in(['QUEUED']))
        self.assertEqual('ERROR', api.lease_get('server').state)

    def test_credentials_last_as_long_as_a_server_comes_back(self):
        request = self.preempt('server')
        self.assertEqual([], api.requests_done_with_credentials())
        api.request_transition(request, 'CANCELLED', HOST,
                               lease_state='CANCELLED')
        self.assertEqual(
            ['trust-of-server'] * 2,
            [done.trust_id for done in api.requests_done_with_credentials()])
