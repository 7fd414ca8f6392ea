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


"""Counter, plan, lock and beats."""

from unittest import mock

from nova_gpu_lease.db import api
from nova_gpu_lease.db import coordination
from nova_gpu_lease.planner import score
from tests import fixtures
from tests.unit.db import base


class WakeTest(base.TestCase):

    def test_wake(self):
        self.assertEqual(0, api.wake_value())
        api.wake()
        api.wake()
        self.assertEqual(2, api.wake_value())

    def test_wake_at_the_same_time(self):
        """The first bump inserts the row; no bump is lost."""
        results = base.in_threads(6, lambda n: [api.wake() for _ in '123'])
        self.assertEqual([[None] * 3] * 6, results)
        self.assertEqual(18, api.wake_value())


class PlanTest(base.TestCase):

    def test_plan(self):
        self.assertEqual({}, api.plan_get())
        for plan in ({'node': [['request', 'gpu', None]]},
                     {'n1': [['r', 'gpu', 2]], 'n2': []}, {}):
            api.plan_save(plan)
            self.assertEqual(plan, api.plan_get())

    def test_plan_says_when_the_leases_of_nodes_end(self):
        def ends():
            return api.scheduling_view('nobody')[3]

        api.plan_save({})
        self.assertEqual({}, ends())
        start = base.NOW.timestamp()
        self.activate('s1', duration=7200, lease={'node_uuid': 'n1'})
        late, = self.activate('s2', duration=86400, lease={'node_uuid': 'n1'})
        self.activate('s3', lease={'node_uuid': 'n2'})
        self.queue('s4')
        api.plan_save({})
        self.assertEqual({'n1': score.era(start + 86400),
                          'n2': score.era(start + 3600)}, ends())
        self.end(late, base.NOW)
        with mock.patch.object(coordination.clock, 'now',
                               return_value=base.NOW + base.seconds(36000)):
            self.place('s5', lease={'node_uuid': 'n2'})
            api.plan_save({})
        self.assertEqual({'n1': score.era(start + 7200),
                          'n2': score.era(start + 39600)}, ends())

    def test_plan_that_did_not_change_is_not_written(self):
        api.plan_save({'node': [['r', 'gpu', 1]]})
        with mock.patch.object(coordination._rows, 'put') as put:
            api.plan_save({'node': [['r', 'gpu', 1]]})
            put.assert_not_called()
            api.plan_save({})
            put.assert_called_once()

    def test_plan_save_at_the_same_time(self):
        results = base.in_threads(
            6, lambda n: api.plan_save({'node': [['r', 'gpu', n]]}))
        self.assertEqual([None] * 6, results)
        self.assertIn(api.plan_get()['node'][0][2], range(6))


class LockTest(base.TestCase):

    def test_acquire_free(self):
        self.assertEqual((True, ('a', 1)), api.lock_acquire('x', 'a'))
        self.assertEqual((True, ('a', 2)), api.lock_acquire('x', 'a'))
        self.assertEqual((True, ('b', 1)), api.lock_acquire('y', 'b'))

    def test_acquire_held(self):
        api.lock_acquire('x', 'a')
        self.assertEqual((False, ('a', 1)), api.lock_acquire('x', 'b'))
        self.assertEqual((False, ('a', 1)),
                         api.lock_acquire('x', 'b', ('a', 1)))
        self.assertEqual((False, ('a', 1)),
                         api.lock_acquire('x', 'b', None, takeover=True))

    def test_take_over(self):
        _, seen = api.lock_acquire('x', 'a')
        self.assertEqual((True, ('b', 2)),
                         api.lock_acquire('x', 'b', seen, takeover=True))
        self.assertFalse(api.lock_beat('x', 'a'))
        self.assertFalse(api.lock_release('x', 'a'))
        self.assertTrue(api.lock_beat('x', 'b'))

    def test_take_over_from_the_living(self):
        _, seen = api.lock_acquire('x', 'a')
        self.assertTrue(api.lock_beat('x', 'a'))
        self.assertEqual((False, ('a', 2)),
                         api.lock_acquire('x', 'b', seen, takeover=True))

    def test_release(self):
        api.lock_acquire('x', 'a')
        self.assertTrue(api.lock_release('x', 'a'))
        self.assertFalse(api.lock_release('x', 'a'))
        self.assertFalse(api.lock_beat('x', 'a'))
        won, (owner, _) = api.lock_acquire('x', 'b')
        self.assertEqual((True, 'b'), (won, owner))

    def test_release_ends_an_old_observation(self):
        """What was seen before a release is not seen again after it."""
        _, seen = api.lock_acquire('x', 'a')
        api.lock_release('x', 'a')
        api.lock_acquire('x', 'a')
        self.assertFalse(api.lock_acquire('x', 'b', seen, takeover=True)[0])

    def test_nobody_has_it(self):
        self.assertFalse(api.lock_beat('x', 'a'))
        self.assertFalse(api.lock_release('x', 'a'))

    def test_acquire_at_the_same_time(self):
        for seen in (None, ('dead', 1)):
            if seen:
                api.lock_acquire('y', 'dead')
            results = base.in_threads(6, lambda n: api.lock_acquire(
                'y' if seen else 'x', 'host-%d' % n, seen,
                takeover=bool(seen)))
            self.assertEqual(1, sum(won for won, _ in results), results)


class ConductorTest(base.TestCase):

    def test_beat(self):
        clock = self.useFixture(fixtures.ClockFixture(base.NOW))
        api.conductor_beat('b', '1.0', True)
        api.conductor_beat('a', '1.0', False)
        later = clock.advance(10)
        api.conductor_beat('b', '1.1', True)
        self.assertEqual(
            [('a', '1.0', False, base.NOW), ('b', '1.1', True, later)],
            [(row.host, row.version, row.dispatches, row.seen_at)
             for row in api.conductors_list()])
