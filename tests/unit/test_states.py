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


"""The states and the changes between them."""

from nova_gpu_lease.db import models
from nova_gpu_lease import states
from tests import base


class StatesTest(base.TestCase):

    machines = (states.REQUEST_TRANSITIONS, states.LEASE_TRANSITIONS)

    def reachable(self, transitions, state):
        seen, new = set(), {state}
        while new:
            seen |= new
            new = set().union(*(transitions[each] for each in new)) - seen
        return seen

    def test_targets_are_states(self):
        for transitions in self.machines:
            for state, targets in transitions.items():
                self.assertLessEqual(targets, set(transitions))
                self.assertNotIn(state, targets)

    def test_all_are_reachable(self):
        for transitions in self.machines:
            self.assertEqual(set(transitions),
                             self.reachable(transitions, 'QUEUED'))

    def test_all_can_end(self):
        for transitions in self.machines:
            # A request that is placed goes back if a build fails.
            ends = {state for state, targets in transitions.items()
                    if targets <= {'QUEUED'} and state != 'QUEUED'}
            for state in transitions:
                self.assertTrue(
                    ends & self.reachable(transitions, state), state)

    def test_nothing_leaves_an_end(self):
        self.assertEqual(
            {'FAILED', 'CANCELLED'},
            {state for state, targets in states.REQUEST_TRANSITIONS.items()
             if not targets})
        self.assertEqual(
            {'QUEUED', 'BUILDING', 'ACTIVE', 'EXPIRING', 'ERROR'},
            set(states.LEASE_CURRENT))

    def test_work_with_time_left_is_not_ended(self):
        """Only a lease that is expiring can be expired."""
        self.assertEqual(
            {'EXPIRING', 'ERROR'},
            {state for state, targets in states.LEASE_TRANSITIONS.items()
             if 'EXPIRED' in targets})

    def test_a_lease_that_started_is_not_queued_again(self):
        self.assertNotIn(
            'QUEUED', self.reachable(states.LEASE_TRANSITIONS, 'ACTIVE'))

    def test_names_fit_their_columns(self):
        for model, names in ((models.Request, states.REQUEST_STATES),
                             (models.Lease, states.LEASE_STATES)):
            width = model.__table__.c.state.type.length
            self.assertTrue(all(len(name) <= width for name in names))
