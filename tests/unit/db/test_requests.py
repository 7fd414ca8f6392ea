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


"""Requests in the database."""

import functools

import sqlalchemy as sa
from sqlalchemy import orm

from nova_gpu_lease.db import api
from nova_gpu_lease.db import models
from nova_gpu_lease import exception
from nova_gpu_lease import priorities
from nova_gpu_lease import states
from tests import fixtures
from tests.unit.db import base

HOST = base.HOST


class RequestCreateTest(base.TestCase):

    def test_create_gang(self):
        clock = self.useFixture(fixtures.ClockFixture(base.NOW))
        before = api.wake_value()
        request = self.queue(
            'server-b', 'server-a', wait_until=clock.now + base.seconds(60),
            payload={'networks': ['x' * 100000]}, secrets='encrypted',
            trust_id='trust')
        self.assertEqual('QUEUED', request.state)
        self.assertEqual(0, request.generation)
        self.assertEqual(2, request.num_servers)
        self.assertEqual(base.NOW, request.queued_at)
        self.assertEqual(base.NOW + base.seconds(60), request.wait_until)
        self.assertEqual({'networks': ['x' * 100000]}, request.payload)
        self.assertEqual('encrypted', request.secrets)

        leases = api.leases_of(request.id)
        self.assertEqual(['server-b', 'server-a'],
                         [lease.server_id for lease in leases])
        for lease in leases:
            self.assertEqual('QUEUED', lease.state)
            self.assertEqual(lease.server_id, lease.current_server_id)
            self.assertEqual('project', lease.project_id)
            self.assertEqual({'gpu': 1}, lease.devices)
            self.assertIs(False, lease.auto_extend)
            self.assertEqual(request.uuid, lease.request.uuid)
            self.assertEqual({'user': 'user'}, lease.request.context)
        self.assertEqual([(False, None, 'QUEUED', None)] +
                         [(True, None, 'QUEUED', None)] * 2, self.history())
        self.assertEqual(before + 1, api.wake_value())

    def test_create_that_never_waits(self):
        request = self.queue('s', kind='resize', initial={
            'state': 'PLACED', 'lease_state': 'BUILDING'})
        self.assertEqual('PLACED', request.state)
        lease, = api.leases_of(request.id)
        self.assertEqual('BUILDING', lease.state)
        self.assertEqual('s', lease.current_server_id)
        self.assertEqual([(False, None, 'PLACED', None),
                          (True, None, 'BUILDING', None)], self.history())
        self.assertEqual([], api.requests_in(['QUEUED']))

    def test_create_own_devices(self):
        request = self.queue('s', lease={'devices': {'a': 2, 'b': 1}})
        self.assertEqual({'a': 2, 'b': 1},
                         api.leases_of(request.id)[0].devices)

    def test_create_any_text(self):
        text = 'naïve 日本 \N{ROCKET}'
        request = self.queue('s', lease={'server_name': text},
                             reason=text, payload={'name': text})
        self.assertEqual(text, request.reason)
        self.assertEqual({'name': text}, request.payload)
        self.assertEqual(text, api.lease_get('s').server_name)

    def test_create_lease_exists(self):
        self.queue('s1')
        before = api.wake_value()
        error = self.assertRaises(
            exception.LeaseExists, self.queue, 's2', 's1')
        self.assertIn('s1', str(error))
        self.assertEqual(1, len(self.rows(models.Request)))
        self.assertEqual(1, len(self.rows(models.Lease)))
        self.assertEqual(2, len(self.rows(models.History)))
        self.assertEqual(before, api.wake_value())

    def test_create_after_end(self):
        lease, = self.activate('s')
        self.end(lease, base.NOW)
        request = self.queue('s', kind=states.KIND_UNSHELVE)
        self.assertEqual(request.id, api.lease_current('s').request_id)

    def test_create_at_the_same_time(self):
        results = base.in_threads(6, lambda n: self.queue('s'))
        kinds = sorted(type(result).__name__ for result in results)
        self.assertEqual(['LeaseExists'] * 5 + ['Request'], kinds)
        self.assertEqual(1, len(self.rows(models.Request)))
        self.assertEqual(1, len(self.rows(models.Lease)))


class RequestReadTest(base.TestCase):

    def test_get(self):
        request = self.queue()
        self.assertEqual({'image': 'x'},
                         api.request_get(request.uuid).payload)

    def test_get_missing(self):
        self.assertRaises(exception.RequestNotFound, api.request_get, 'x')

    def test_requests_in(self):
        first, second, third = (self.queue() for _ in range(3))
        api.request_transition(second, 'DISPATCHING', HOST)
        api.request_transition(first, 'CANCELLED', HOST)
        found = api.requests_in(['DISPATCHING', 'QUEUED'])
        self.assertEqual([second.id, third.id], [r.id for r in found])
        for column in ('payload', 'secrets', 'context'):
            self.assertRaises(orm.exc.DetachedInstanceError, getattr,
                              found[0], column)
        self.assertEqual({'gpu': 1}, found[0].devices)

    def test_requests_in_with_payload(self):
        self.queue()
        request, = api.requests_in(['QUEUED'], with_payload=True)
        self.assertEqual({'image': 'x'}, request.payload)
        self.assertEqual({'user': 'user'}, request.context)

    def test_requests_in_no_state(self):
        self.queue()
        self.assertEqual([], api.requests_in([]))

    def test_positions(self):
        groups = ['a', None, 'b', 'a', None, 'a']
        requests = [self.queue(queue_group=group) for group in groups]
        api.request_transition(requests[0], 'DISPATCHING', HOST)
        self.assertEqual(
            {requests[1].uuid: 1, requests[2].uuid: 1, requests[3].uuid: 1,
             requests[4].uuid: 2, requests[5].uuid: 2},
            api.requests_positions(lambda row: row.id))

    def test_positions_by_class_promise_and_age(self):
        wanted = [
            ('urgent', False), ('normal', True), ('normal', False),
            ('gone', False), ('spare', True), ('spare', False)]
        asked = [wanted[i] for i in (5, 2, 1, 4, 3, 0)]
        requests = {one: self.queue(
            priority=one[0], promise={'nodes': {}} if one[1] else None,
            queue_group='a')
            for one in asked}
        first = requests[asked[0]]
        # Whoever made room is where it was.
        again = self.queue(priority='normal', queue_group='a',
                           resumes=first.id)
        positions = api.requests_positions(functools.partial(
            priorities.queue_key, classes=priorities.parse(
                ['normal:0', 'urgent:9', 'spare:-1:preemptible'])))
        self.assertEqual(3, positions.pop(again.uuid))
        self.assertEqual(
            [requests[one].uuid for one in wanted],
            sorted(positions, key=positions.get))


class RequestTransitionTest(base.TestCase):

    def test_transition(self):
        request = self.queue(reason='no GPU', reason_code='gpu')
        before = api.wake_value()
        now = api.request_transition(request, 'DISPATCHING', HOST,
                                     attempts=3)
        self.assertEqual(('DISPATCHING', 1, 3, None, None),
                         (now.state, now.generation, now.attempts,
                          now.reason, now.reason_code))
        self.assertEqual({'image': 'x'}, now.payload)
        self.assertEqual('QUEUED', api.leases_of(request.id)[0].state)
        self.assertEqual(before + 1, api.wake_value())
        self.assertEqual((False, 'QUEUED', 'DISPATCHING', None),
                         self.history()[-1])

    def test_transition_with_leases(self):
        request = self.queue('s1', 's2')
        api.request_transition(
            request, 'DISPATCHING', HOST, reason='planned',
            reason_code='plan', lease_state='BUILDING',
            lease_values={'s2': {'host': 'h2', 'node_uuid': 'n2'}})
        one, two = api.leases_of(request.id)
        self.assertEqual(('BUILDING', 1, None, 'planned', 'plan'),
                         (one.state, one.generation, one.host, one.reason,
                          one.reason_code))
        self.assertEqual(('h2', 'n2'), (two.host, two.node_uuid))
        self.assertEqual([(False, 'QUEUED', 'DISPATCHING', 'planned'),
                          (True, 'QUEUED', 'BUILDING', 'planned'),
                          (True, 'QUEUED', 'BUILDING', 'planned')],
                         self.history()[-3:])

    def test_transition_moves_only_leases_that_may(self):
        request = self.queue('s1', 's2', 's3')
        one, two, three = api.leases_of(request.id)
        api.lease_transition(one, 'CANCELLED', HOST)
        two = api.lease_transition(two, 'BUILDING', HOST)
        api.lease_transition(two, 'ACTIVE', HOST)
        api.request_transition(request, 'CANCELLED', HOST,
                               lease_state='CANCELLED')
        self.assertEqual(
            [('CANCELLED', 1), ('ACTIVE', 2), ('CANCELLED', 1)],
            [(lease.state, lease.generation)
             for lease in api.leases_of(request.id)])

    def test_transition_ends_leases(self):
        clock = self.useFixture(fixtures.ClockFixture(base.NOW))
        request = self.queue('s1')
        clock.advance(5)
        api.request_transition(request, 'FAILED', HOST, reason='gone',
                               lease_state='CANCELLED')
        lease = api.lease_get('s1')
        self.assertEqual(('CANCELLED', None, clock.now, 'gone'),
                         (lease.state, lease.current_server_id,
                          lease.ended_at, lease.reason))
        self.assertIsNone(api.lease_current('s1'))

    def test_transition_stale_state(self):
        request = self.queue()
        api.request_transition(request, 'DISPATCHING', HOST)
        before = api.wake_value(), self.history()
        error = self.assertRaises(
            exception.StaleState, api.request_transition, request,
            'CANCELLED', HOST, lease_state='CANCELLED')
        self.assertIn(request.uuid, str(error))
        self.assertEqual('QUEUED', api.leases_of(request.id)[0].state)
        self.assertEqual(before, (api.wake_value(), self.history()))

    def test_transition_stale_generation(self):
        request = self.queue()
        dispatching = api.request_transition(request, 'DISPATCHING', HOST)
        api.request_transition(dispatching, 'QUEUED', HOST)
        self.assertRaises(exception.StaleState, api.request_transition,
                          request, 'DISPATCHING', HOST)

    def test_transition_invalid(self):
        request = self.queue()
        request = api.request_transition(request, 'FAILED', HOST)
        for state in ('PLACED', 'QUEUED'):
            self.assertRaises(exception.InvalidTransition,
                              api.request_transition, request, state, HOST)
        self.assertEqual(1, api.request_get(request.uuid).generation)

    def test_transition_bad_values_write_nothing(self):
        request = self.queue('s')
        self.assertRaises(
            sa.exc.CompileError, api.request_transition, request,
            'DISPATCHING', HOST, lease_state='BUILDING',
            lease_values={'s': {'no_such_column': 1}})
        self.assertEqual('QUEUED', api.request_get(request.uuid).state)

    def test_transition_at_the_same_time(self):
        request = self.queue('s1', 's2')
        results = base.in_threads(6, lambda n: api.request_transition(
            request, 'DISPATCHING', 'host-%d' % n, lease_state='BUILDING',
            lease_values={'s1': {'host': str(n)}, 's2': {'host': str(n)}}))
        won = [n for n, result in enumerate(results)
               if isinstance(result, models.Request)]
        self.assertEqual(1, len(won), results)
        self.assertEqual(5, sum(isinstance(result, exception.StaleState)
                                for result in results), results)
        self.assertEqual([str(won[0])] * 2,
                         [lease.host for lease in api.leases_of(request.id)])
        self.assertEqual(6, len(self.history()))


class RequestSetTest(base.TestCase):

    def test_set(self):
        request = self.queue(secrets='hidden')
        before = api.wake_value(), self.history()
        self.assertTrue(api.request_set(
            request, reason='busy', queue_group='gpu', secrets=None,
            expected_start=base.NOW))
        now = api.request_get(request.uuid)
        self.assertEqual(
            ('busy', 'gpu', None, base.NOW, 0),
            (now.reason, now.queue_group, now.secrets, now.expected_start,
             now.generation))
        self.assertEqual(before, (api.wake_value(), self.history()))
        self.assertTrue(api.request_set(request, reason='busy'))

    def test_set_stale(self):
        request = self.queue()
        api.request_transition(request, 'DISPATCHING', HOST)
        self.assertFalse(api.request_set(request, reason='late'))
        self.assertIsNone(api.request_get(request.uuid).reason)

    def test_set_state(self):
        request = self.queue()
        for column in ('state', 'generation', 'uuid', 'id'):
            self.assertRaises(ValueError, api.request_set, request,
                              **{column: 'PLACED'})
