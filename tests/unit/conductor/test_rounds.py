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


"""Plan after plan, through the rows: what was promised is kept.

As the dispatcher does it, without Nova: what servers hold is given.
"""

from nova_gpu_lease.conductor import planning
from nova_gpu_lease.db import api
from nova_gpu_lease import planner
from nova_gpu_lease import states
from tests.unit.conductor import test_planning
from tests.unit.db import base

NOW = base.NOW


class RoundsTest(test_planning.PlanningTestCase):
    """One host with two GPUs."""

    def setUp(self):
        super().setUp()
        #: Servers that have devices, and how many.
        self.held = {}

    def run_on(self, server, devices=1, **kwargs):
        """A server that runs."""
        lease, = self.activate(server, **kwargs)
        self.held[server] = devices
        return lease

    def ask(self, server, devices=1, duration=3600, **values):
        return self.queue(server, devices={'gpu': devices},
                          lease={'duration': duration}, **values)

    def round(self, after=0):
        """Plan once, so many seconds later.

        :returns: the names of the servers that start.
        """
        self.clock.now += base.seconds(after)
        waiting = api.requests_in([states.REQUEST_QUEUED])
        leases = api.leases_of_requests([each.id for each in waiting])
        parts = planning.parts(waiting, leases, {})
        nodes = {'node': {
            'host': 'host', 'room': {}, 'promised': [],
            'pools': [{'key': 'gpu', 'total': 2, 'aliases': ['gpu'],
                       'free': 2 - sum(self.held.values())}],
            'held': [[server, 'gpu', count]
                     for server, count in self.held.items()]}}
        answer = {'fits': {'node': 2}, 'after': {'node': 2}, 'amounts': {},
                  'together': False, 'reason': '', 'never': None}
        survey = {'nodes': nodes, 'requests': {
            each.uuid: answer for each in waiting}}
        held = api.leases_held()
        plan = planner.plan(
            planning.queue(waiting, parts, survey, {}, self.clock.now),
            {uuid: planner.Node.from_dict(node)
             for uuid, node in nodes.items()},
            planning.running(nodes, held, self.clock.now),
            self.clock.now.timestamp(), planning.policy(),
            planning.promises(waiting))
        planning.save(waiting, plan)
        planning.save_preemptions(plan, held, self.clock.now)
        return [leases[each.id][0].server_id for each in waiting
                if each.uuid in plan.starts]

    def expected(self, server):
        """Seconds until a server is expected, and if that is promised."""
        request = api.lease_get(server).request
        return ((request.expected_start - NOW).total_seconds() // 1,
                request.promised)

    def test_promise_is_kept_whoever_comes(self):
        self.run_on('first')
        self.ask('both', 2)
        self.assertEqual([], self.round())
        self.assertEqual((3660, True), self.expected('both'))
        self.ask('long', 1, 7200)
        self.ask('many', 2)
        self.ask('short', 1, 600)
        self.assertEqual(['short'], self.round(100))
        self.assertEqual((3660, True), self.expected('both'))
        self.assertFalse(self.expected('long')[1])
        self.assertGreater(self.expected('many')[0], 3660)

    def test_extension_moves_a_promise_and_says_so(self):
        lease = self.run_on('first')
        self.ask('both', 2)
        self.round()
        self.assertNotIn('later', api.lease_get('both').request.reason)
        api.lease_set(lease, expires_at=lease.expires_at + base.seconds(900))
        self.round(10)
        self.assertEqual((4560, True), self.expected('both'))
        self.assertIn('later than promised',
                      api.lease_get('both').request.reason)
        # Its early end lets the other one start.
        self.end(lease, self.clock.now)
        del self.held['first']
        self.assertEqual(['both'], self.round(10))

    def test_build_that_takes_its_time_delays_no_promise(self):
        lease, = self.place('first', lease={'dispatched_at': NOW})
        self.held['first'] = 1
        self.ask('both', 2)
        self.round()
        start = self.expected('both')[0]
        api.lease_set(lease, attempt_started_at=NOW)
        self.round(20)
        self.assertEqual(start, self.expected('both')[0])
        began = self.clock.now + base.seconds(20)
        api.lease_transition(
            lease, 'ACTIVE', base.HOST, started_at=began,
            expires_at=began + base.seconds(3600))
        self.round(20)
        self.assertLess(self.expected('both')[0], start)
        self.assertNotIn('later', api.lease_get('both').request.reason)

    def test_higher_class_breaks_a_promise_and_says_so(self):
        self.run_on('first')
        self.ask('both', 2)
        self.round()
        self.ask('urgent', 2, priority='urgent')
        self.round(10)
        self.assertEqual((3660, True), self.expected('urgent'))
        self.assertGreater(self.expected('both')[0], 3660)
        self.assertIn('higher class', api.lease_get('both').request.reason)

    def test_least_work_is_lost_and_no_more_than_needed(self):
        self.run_on('older', priority='spare')
        self.run_on('newer', priority='spare',
                    started_at=NOW + base.seconds(5))
        self.ask('spare-too', priority='spare')
        self.round(10)
        self.assertEqual([], api.leases_preempting())
        self.ask('normal')
        self.round(10)
        told, = api.leases_preempting()
        self.assertEqual('newer', told.server_id)
        # No other one is told while that one has its time.
        self.round(60)
        self.assertEqual([told.uuid], [
            lease.uuid for lease in api.leases_preempting()])
        self.assertEqual(told.preempt_at, api.leases_preempting()[
            0].preempt_at)

    def test_guaranteed_leases_are_safe(self):
        self.run_on('normal', 2)
        self.ask('urgent', priority='urgent')
        self.round(10)
        self.assertEqual([], api.leases_preempting())
