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


"""Leases in the database."""

import sqlalchemy as sa
from sqlalchemy import orm

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import api
from nova_gpu_lease.db import models
from nova_gpu_lease import exception
from nova_gpu_lease import states
from tests import fixtures
from tests.unit.db import base

HOST = base.HOST


class LeaseOverdueTest(base.TestCase):

    def late(self, after, timeout=900):
        return [lease.server_id for lease in api.leases_overdue(
            base.NOW + base.seconds(3600 + after), timeout)]

    def test_overdue(self):
        active, = self.activate('active')
        expiring, = self.activate('expiring')
        api.lease_transition(expiring, 'EXPIRING', HOST)
        self.activate('longer', duration=7200)
        ended, = self.activate('ended')
        self.end(ended, base.NOW)
        self.queue('waits')
        self.assertEqual([], self.late(59))
        self.assertEqual(['active'], self.late(60))
        # A try may take that long.
        self.assertEqual(['active'], self.late(959))
        self.assertEqual(['active', 'expiring'], self.late(960))

    def test_overdue_when_it_failed(self):
        failed, = self.activate('failed')
        failed = api.lease_transition(failed, 'EXPIRING', HOST)
        api.lease_set(failed, attempts=1)
        self.assertEqual([], self.late(59))
        self.assertEqual(['failed'], self.late(60))
        api.lease_transition(failed, 'ERROR', HOST, attempts=0)
        self.assertEqual(['failed'], self.late(60))


class LeaseReadTest(base.TestCase):

    def test_get(self):
        old, = self.activate('s')
        self.end(old, base.NOW)
        self.assertEqual(old.uuid, api.lease_get('s').uuid)
        new = self.queue('s')
        newest = api.leases_of(new.id)[0]
        self.assertEqual(newest.uuid, api.lease_get('s').uuid)
        self.assertEqual(old.uuid, api.lease_get(old.uuid).uuid)
        api.lease_transition(newest, 'CANCELLED', HOST)
        self.assertEqual(newest.uuid, api.lease_get('s').uuid)

    def test_get_missing(self):
        error = self.assertRaises(exception.LeaseNotFound, api.lease_get,
                                  'nobody')
        self.assertIn('nobody', str(error))

    def test_request_without_secrets(self):
        self.queue('s', secrets='hidden')
        request = api.lease_get('s').request
        self.assertEqual({'user': 'user'}, request.context)
        for column in ('payload', 'secrets'):
            self.assertRaises(orm.exc.DetachedInstanceError, getattr,
                              request, column)

    def test_current(self):
        first, second = self.activate('s1', 's2')
        self.end(first, base.NOW)
        self.queue('s3')
        self.assertIsNone(api.lease_current('s1'))
        self.assertEqual(second.uuid, api.lease_current('s2').uuid)
        self.assertEqual(['s2', 's3'], sorted(api.leases_current(
            ['s1', 's2', 's3', 'nobody'])))
        self.assertEqual({}, api.leases_current([]))

    def test_leases_of_requests(self):
        one, two = self.queue('b', 'a'), self.queue('c')
        found = api.leases_of_requests([one.id, two.id, 0])
        self.assertEqual(
            {one.id: ['b', 'a'], two.id: ['c'], 0: []},
            {request_id: [lease.server_id for lease in leases]
             for request_id, leases in found.items()})

    def test_on_host(self):
        self.queue('queued')
        self.place('building', lease={'host': 'h1'})
        self.place('elsewhere', lease={'host': 'h2'})
        active, expiring, error, over = self.activate(
            'active', 'expiring', 'error', 'over', lease={'host': 'h1'})
        for lease in (expiring, error):
            lease = api.lease_transition(lease, 'EXPIRING', HOST)
        api.lease_transition(lease, 'ERROR', HOST)
        self.end(over, base.NOW)

        def names(*args):
            return {lease.server_id for lease in api.leases_on_host(*args)}

        here = {'building', 'active', 'expiring', 'error'}
        self.assertEqual(here, names('h1'))
        self.assertEqual(here | {'elsewhere'},
                         names('h1', ['elsewhere', 'active', 'queued']))
        self.assertEqual(set(), names('h3'))

    def test_in(self):
        one, = self.activate('s1', duration=10)
        two, = self.activate('s2', duration=20)
        self.queue('s3')
        self.assertEqual(['s1', 's2'], [
            lease.server_id for lease in api.leases_in(['ACTIVE'])])
        for late, expected in ((-1e-6, []), (0, ['s1']), (10, ['s1', 's2'])):
            due = one.expires_at + base.seconds(late)
            self.assertEqual(expected, [
                lease.server_id for lease in api.leases_in(
                    ['ACTIVE', 'QUEUED'], due_before=due)])
        self.assertEqual(3, len(api.leases_in(states.LEASE_CURRENT)))

    def test_to_end(self):
        leases = self.activate('active', 'now', 'due', 'later', 'error')
        leases = [leases[0]] + [
            api.lease_transition(lease, 'EXPIRING', HOST)
            for lease in leases[1:]]
        error = api.lease_transition(leases[4], 'ERROR', HOST)
        for lease, wait in ((leases[2], 0), (leases[3], 1e-6), (error, -1)):
            self.assertTrue(api.lease_set(
                lease, next_attempt_at=base.NOW + base.seconds(wait)))
        self.assertEqual(['now', 'due', 'error'], [
            lease.server_id for lease in api.leases_to_end(base.NOW)])

    def test_cancelled(self):
        for values in ({}, {'next_attempt_at': base.NOW}):
            request = self.queue('one')
            api.request_transition(
                request, 'CANCELLED', base.HOST, lease_state='CANCELLED',
                lease_values={'one': values})
        lease, = api.leases_cancelled()
        self.assertEqual((base.NOW, {'user': 'user'}),
                         (lease.next_attempt_at, lease.request.context))
        self.assertTrue(api.lease_set(lease, next_attempt_at=None))
        self.assertEqual([], api.leases_cancelled())

    def test_waiting_count(self):
        self.queue('s1', 's2')
        self.queue('s3')
        self.queue('s4', project_id='other')
        self.place('s5')
        self.assertEqual(3, api.waiting_count('project'))
        self.assertEqual(1, api.waiting_count('other'))
        self.assertEqual(0, api.waiting_count('nobody'))


class SchedulingViewTest(base.TestCase):

    def view(self, server_id):
        lease, gang, reservations, _ends = api.scheduling_view(server_id)
        return (lease and lease.server_id,
                [each.server_id for each in gang], reservations)

    def test_empty(self):
        self.assertEqual((None, [], {}), self.view('s'))

    def test_plan_without_lease(self):
        plan = {'node': [['request', 'gpu', None], ['other', 'gpu', 2]]}
        api.plan_save(plan)
        self.assertEqual((None, [], plan), self.view('s'))

    def test_gang(self):
        api.plan_save({'node': [['request', 'gpu', 1]]})
        self.queue('alone')
        self.queue('s1', 's2', 's3')
        self.assertEqual(('s2', ['s1', 's2', 's3'],
                          {'node': [['request', 'gpu', 1]]}),
                         self.view('s2'))

    def test_lease_without_plan(self):
        self.queue('s')
        self.assertEqual(('s', ['s'], {}), self.view('s'))

    def test_ended(self):
        lease, other = self.activate('s1', 's2')
        self.end(lease, base.NOW)
        self.assertEqual((None, [], {}), self.view('s1'))
        self.assertEqual(('s2', ['s1', 's2'], {}), self.view('s2'))

    def test_one_statement(self):
        self.queue('s1', 's2')
        api.plan_save({})
        statements = []
        engine = _engine.get_engine()

        def count(connection, cursor, statement, *rest):
            if 'SELECT' in statement and 'FROM' in statement:
                statements.append(statement)

        sa.event.listen(engine, 'before_cursor_execute', count)
        self.addCleanup(sa.event.remove, engine, 'before_cursor_execute',
                        count)
        lease, gang, *_rest = api.scheduling_view('s1')
        self.assertEqual([lease.request.uuid] * 2,
                         [each.request.uuid for each in gang])
        self.assertEqual(1, len(statements), statements)


class LeaseTransitionTest(base.TestCase):

    def test_transition(self):
        lease, = self.place('s')
        before = api.wake_value()
        active = api.lease_transition(
            lease, 'ACTIVE', HOST, reason='built', reason_code='ok',
            started_at=base.NOW, expires_at=base.NOW + base.seconds(60))
        self.assertEqual(
            ('ACTIVE', 2, base.NOW, base.NOW + base.seconds(60), 's',
             'built', 'ok', None),
            (active.state, active.generation, active.started_at,
             active.expires_at, active.current_server_id, active.reason,
             active.reason_code, active.ended_at))
        self.assertEqual(before + 1, api.wake_value())
        self.assertEqual((True, 'BUILDING', 'ACTIVE', 'built'),
                         self.history()[-1])
        expiring = api.lease_transition(active, 'EXPIRING', HOST, wake=False)
        self.assertEqual((None, None),
                         (expiring.reason, expiring.reason_code))
        self.assertEqual(before + 1, api.wake_value())

    def test_transition_end(self):
        clock = self.useFixture(fixtures.ClockFixture(base.NOW))
        one, two = self.activate('s1', 's2')
        ended = api.lease_transition(one, 'RELEASED', HOST)
        self.assertEqual((None, clock.now),
                         (ended.current_server_id, ended.ended_at))
        earlier = base.NOW - base.seconds(5)
        ended = api.lease_transition(two, 'RELEASED', HOST,
                                     ended_at=earlier)
        self.assertEqual(earlier, ended.ended_at)

    def test_transition_every_pair(self):
        """Exactly the changes in states.LEASE_TRANSITIONS are possible."""
        lease, = self.place('s')
        for old in states.LEASE_STATES:
            for new in states.LEASE_STATES:
                with _engine.get_engine().begin() as connection:
                    connection.execute(sa.update(models.Lease).values(
                        state=old, generation=7))
                lease = api.lease_get('s')
                if new in states.LEASE_TRANSITIONS[old]:
                    after = api.lease_transition(lease, new, HOST)
                    self.assertEqual((new, 8),
                                     (after.state, after.generation))
                else:
                    self.assertRaises(
                        exception.InvalidTransition, api.lease_transition,
                        lease, new, HOST)

    def test_transition_stale(self):
        lease, = self.activate('s')
        api.lease_transition(lease, 'EXPIRING', HOST)
        before = api.wake_value(), self.history()
        self.assertRaises(exception.StaleState, api.lease_transition, lease,
                          'RELEASED', HOST)
        self.assertEqual('EXPIRING', api.lease_get('s').state)
        self.assertEqual(before, (api.wake_value(), self.history()))

    def test_transition_at_the_same_time(self):
        lease, = self.activate('s')
        results = base.in_threads(
            6, lambda n: api.lease_transition(
                lease, ('EXPIRING', 'RELEASED')[n % 2], 'host-%d' % n))
        won = [result for result in results
               if isinstance(result, models.Lease)]
        self.assertEqual(1, len(won), results)
        self.assertEqual(5, sum(isinstance(result, exception.StaleState)
                                for result in results), results)
        now = api.lease_get('s')
        self.assertEqual((won[0].state, 3), (now.state, now.generation))

    def test_others_at_the_same_time(self):
        """Changes of different leases of one request do not get lost."""
        leases = self.activate(*('s%d' % n for n in range(6)))
        before = api.wake_value()
        results = base.in_threads(6, lambda n: api.lease_transition(
            leases[n], 'EXPIRING', HOST))
        self.assertEqual(['EXPIRING'] * 6,
                         [result.state for result in results])
        self.assertEqual(before + 6, api.wake_value())


class LeaseSetTest(base.TestCase):

    def test_set(self):
        lease, = self.activate('s')
        before = api.wake_value(), self.history()
        later = lease.expires_at + base.seconds(300)
        self.assertTrue(api.lease_set(lease, expires_at=later))
        now = api.lease_get('s')
        self.assertEqual((later, lease.generation),
                         (now.expires_at, now.generation))
        self.assertEqual(before, (api.wake_value(), self.history()))

    def test_set_stale(self):
        lease, = self.activate('s')
        api.lease_transition(lease, 'EXPIRING', HOST)
        self.assertFalse(api.lease_set(lease, attempts=1))
        self.assertEqual(0, api.lease_get('s').attempts)
