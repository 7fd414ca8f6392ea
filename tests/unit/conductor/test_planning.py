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


"""What the planner is asked, and what of its answer is written."""

from nova_gpu_lease.conductor import planning
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api
from nova_gpu_lease import planner
from tests import fixtures
from tests.unit.db import base

NOW = base.NOW
T = NOW.timestamp()
HOST = base.HOST
CLASSES = ['normal:0', 'urgent:10', 'spare:-5:preemptible']


class PlanningTestCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.clock = self.useFixture(fixtures.ClockFixture(NOW))
        self.flags(group='gpu_lease', priorities=CLASSES, turnover='1m',
                   preemption_grace='2m')


class QueueTest(PlanningTestCase):

    def ask(self, over_quota=None, cells=None, **answer):
        waiting = api.requests_in(['QUEUED'])
        parts = planning.parts(waiting, api.leases_of_requests(
            [each.id for each in waiting]), cells or {})
        self.questions = planning.questions(waiting, parts)
        answer = {'fits': {'n': 1}, 'after': {'n': 2}, 'amounts': {'VCPU': 1},
                  'together': True, 'reason': '', 'never': None, **answer}
        return planning.queue(
            waiting, parts,
            {'requests': {each['uuid']: answer for each in self.questions
                          if each['kind'] != 'resize'}},
            over_quota or {}, NOW)

    def test_request(self):
        request = self.queue('a', 'b', priority='urgent',
                             destination={'host': 'h'})
        waiting, = self.ask()
        self.assertEqual(planner.Waiting(
            uuid=request.uuid, num_servers=2, devices={'gpu': 1},
            fits={'n': 1}, after={'n': 2}, amounts={'VCPU': 1},
            together=True, duration=3600 + 120, priority=20,
            project='project', queued_at=T), waiting)
        self.assertEqual([{'uuid': request.uuid, 'kind': 'create',
                           'server_id': 'a', 'num_servers': 2, 'host': 'h'}],
                         self.questions)

    def test_servers_that_are_tried_again_start_with_those_of_their_cell(self):
        request = self.queue('a', 'b', 'c', 'd', attempts=1)
        waiting = self.ask(cells={'b': 2, 'd': 2, 'c': 1})
        other, third = request.uuid + '/1', request.uuid + '/2'
        self.assertEqual(
            [(request.uuid, 'a', 1), (other, 'b', 2), (third, 'c', 1)],
            [(each['uuid'], each['server_id'], each['num_servers'])
             for each in self.questions])
        self.assertEqual(
            [(request.uuid, 1, 1), (other, 2, 1), (third, 1, 1)],
            [(each.uuid, each.num_servers, each.priority)
             for each in waiting])

    def test_classes(self):
        for name in ('spare', 'gone'):
            self.queue(priority=name)
        self.assertEqual([(-10, True), (0, False)], [
            (waiting.priority, waiting.preemptible)
            for waiting in self.ask()])

    def test_tries_that_failed(self):
        later = NOW + base.seconds(1)
        self.queue('once', next_attempt_at=later, attempts=1)
        self.queue('often', next_attempt_at=later, attempts=4)
        self.queue('again', next_attempt_at=NOW, attempts=4)
        self.queue('built', lease={'build_attempts': 1, 'node_uuid': 'n'})
        self.assertEqual(
            [(True, False, set()), (True, True, set()),
             (False, False, set()), (False, False, {'n'})],
            [(waiting.held, waiting.stuck, waiting.avoid)
             for waiting in self.ask()])

    def test_start_that_failed_comes_first(self):
        """But not before a promise that it was let past."""
        self.queue('other class', priority='urgent', promise={'start': 1})
        self.queue('failed', attempts=1)
        self.queue('waits', promise={'start': 1})
        self.queue('built', lease={'build_attempts': 1})
        self.queue('same class', priority='urgent', attempts=1)
        self.assertEqual([20, 1, 0, 0, 20], [
            waiting.priority for waiting in self.ask()])

    def test_order_is_not_by_the_clocks_of_conductors(self):
        ahead = self.queue(queued_at=NOW + base.seconds(30))
        behind = self.queue(queued_at=NOW)
        again = self.queue(queued_at=NOW - base.seconds(9), resumes=ahead.id)
        self.assertEqual(
            [(ahead.uuid, T + 30), (again.uuid, T - 9),
             (behind.uuid, T + 30)],
            [(waiting.uuid, waiting.queued_at) for waiting in self.ask()])

    def test_quota_and_requests_without_answer(self):
        request = self.queue()
        self.queue(kind='resize')
        waiting, = self.ask({request.uuid: 'too much'}, reason='no room')
        self.assertEqual(('too much', 'no room', False), (
            waiting.over_quota, waiting.missing, waiting.unknown))
        waiting, = self.ask({}, reason='nobody answers', unknown=True)
        self.assertTrue(waiting.unknown)


class RunningTest(PlanningTestCase):

    def running(self, *held):
        return planning.running(
            {'node': {'held': [list(each) for each in held]}, 'empty': {}},
            api.leases_held(), NOW)

    def ends(self, server):
        one, = self.running((server, 'gpu', 1))
        return None if one.ends_at is None else one.ends_at - T

    def test_active(self):
        lease, = self.activate('a', priority='spare')
        one, other = self.running(('a', 'big', 1), ('a', 'gpu', 2),
                                  ('stranger', 'gpu', 1))
        self.assertEqual(planner.Running(
            lease.uuid, 'node', {'big': 1, 'gpu': 2}, ends_at=T + 3660,
            preemptible=True, priority=-9, started_at=T), one)
        # A server without a lease never ends.
        self.assertEqual(
            planner.Running('stranger', 'node', {'gpu': 1}), other)

    def test_building(self):
        lease, = self.place('a', lease={'dispatched_at': NOW})
        self.assertEqual(3600 + 120, self.ends('a'))
        # What else is noted on its row does not change that.
        self.clock.now = NOW + base.seconds(5)
        api.lease_set(lease, attempt_started_at=self.clock.now)
        self.assertEqual(3600 + 120, self.ends('a'))
        self.clock.now = NOW + base.seconds(100)
        # A guest that starts for longer than is allowed for.
        one, = planning.running({'node': {'held': [['a', 'gpu', 1]]}},
                                api.leases_held(), self.clock.now)
        self.assertEqual(T + 100 + 3600 + 60, one.ends_at)

    def test_overdue(self):
        self.activate('late', started_at=NOW - base.seconds(3630))
        self.activate('later', started_at=NOW - base.seconds(9999))
        self.assertEqual([30, 1], [self.ends('late'), self.ends('later')])

    def test_ending(self):
        lease, = self.activate('a', priority='spare')
        api.lease_set(lease, preempt_at=NOW)
        lease = api.lease_transition(lease, 'EXPIRING', HOST)
        self.assertEqual(60, self.ends('a'))
        self.assertFalse(self.running(('a', 'gpu', 1))[0].preemptible)
        api.lease_set(lease, next_attempt_at=NOW + base.seconds(40))
        self.assertEqual(100, self.ends('a'))
        api.lease_transition(lease, 'ERROR', HOST)
        self.assertIsNone(self.ends('a'))

    def test_not_preempted_again_where_it_failed(self):
        lease, = self.activate('a', priority='spare')
        api.lease_set(lease, reason_code='preemption_failed')
        self.assertFalse(self.running(('a', 'gpu', 1))[0].preemptible)


class SaveTest(PlanningTestCase):

    def plan(self, wait, promise=None, **kwargs):
        waiting = api.requests_in(['QUEUED'])
        return waiting, planner.Plan(
            {}, {waiting[0].uuid: wait}, {},
            promises={waiting[0].uuid: promise} if promise else {}, **kwargs)

    def wait(self, expected=T + 0.5, promised=True, code='devices'):
        return planner.Wait(code, 'because', 'group', expected, promised)

    def row(self):
        return api.requests_in(['QUEUED'])[0]

    def test_promise(self):
        self.queue(reason='old')
        promise = planner.Promise(T + 0.5, {'node': 2}, 'a host went')
        planning.save(*self.plan(self.wait(), promise))
        row = self.row()
        self.assertEqual(
            ('because', 'devices', 'group', True),
            (row.reason, row.reason_code, row.queue_group, row.promised))
        # Rounded, and never to an earlier time.
        self.assertEqual(NOW.replace(microsecond=0) + base.seconds(1),
                         row.expected_start)
        self.assertEqual({row.uuid: promise},
                         planning.promises(api.requests_in(['QUEUED'])))
        planning.save(*self.plan(self.wait(None, False)))
        row = self.row()
        self.assertEqual((None, None, False), (
            row.promise, row.expected_start, row.promised))

    def test_failed_try_keeps_its_reason(self):
        self.queue(reason='its image is gone', reason_code='retry')
        planning.save(*self.plan(self.wait(code=planner.WAIT_RETRY)))
        self.assertEqual('its image is gone', self.row().reason)

    def test_estimates_are_left_to_the_last_plan_of_several(self):
        self.queue()
        waiting, plan = self.plan(self.wait(T, False))
        planning.save(waiting, plan)
        before = self.row()
        for wait in (self.wait(T + 60, False), self.wait(T + 60, True)):
            waiting, plan = self.plan(wait)
            plan.starts['other'] = ['node']
            planning.save(waiting, plan)
            self.assertEqual(
                before.expected_start + base.seconds(60 * wait.promised),
                self.row().expected_start)

    def test_estimates_that_hardly_change_are_not_written(self):
        self.queue()
        planning.save(*self.plan(self.wait(T, False)))
        before = self.row()
        for expected in (T + 9, T - 9, T):
            planning.save(*self.plan(self.wait(expected, False)))
            self.assertEqual(before.updated_at, self.row().updated_at)
        self.clock.now += base.seconds(1)
        planning.save(*self.plan(self.wait(T + 20, False)))
        self.assertEqual(
            before.expected_start + base.seconds(20),
            self.row().expected_start)
        # A promise is what it is.
        planning.save(*self.plan(self.wait(T + 22, True)))
        planning.save(*self.plan(self.wait(T + 23, True)))
        self.assertEqual(
            before.expected_start + base.seconds(23),
            self.row().expected_start)


class PreemptionsTest(PlanningTestCase):

    def save(self, *uuids):
        planning.save_preemptions(
            planner.Plan({}, {}, {}, preemptions=uuids), api.leases_held(),
            self.clock.now)
        return {lease.server_id: lease for lease in api.leases_preempting()}

    def test_told_and_withdrawn(self):
        lease, other = self.activate('a', 'b', priority='spare')
        before = api.wake_value()
        told = self.save(lease.uuid)
        self.assertEqual(['a'], list(told))
        self.assertEqual(NOW + base.seconds(120), told['a'].preempt_at)
        self.assertEqual('preempting', told['a'].reason_code)
        self.assertEqual(before + 1, api.wake_value())
        self.clock.now += base.seconds(60)
        # It has the time that it was told.
        self.assertEqual(told['a'].preempt_at,
                         self.save(lease.uuid)['a'].preempt_at)
        self.assertEqual({}, self.save())
        self.assertEqual((None, None), (
            api.lease_get('a').reason, api.lease_get('a').reason_code))
        self.assertEqual(before + 1, api.wake_value())

    def test_what_has_begun_is_not_withdrawn(self):
        lease, = self.activate('a', priority='spare')
        self.save(lease.uuid)
        self.clock.now += base.seconds(120)
        self.assertEqual(['a'], list(self.save()))

    def test_lease_that_is_over_before(self):
        lease, = self.activate('a', priority='spare', duration=100)
        self.assertEqual({}, self.save(lease.uuid))

    def test_policy(self):
        self.assertEqual(CONF.gpu_lease.queue_policy,
                         planning.policy().queue_policy)
        self.assertEqual(180, planning.policy().preempt_grace)
