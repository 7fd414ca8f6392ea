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


import itertools

import ddt
import hypothesis
from hypothesis import strategies as st
from oslotest import base

from nova_gpu_lease.planner import model
from nova_gpu_lease.planner import score

HOUR = 3600
ONE, TWO = frozenset(['one', 'any']), frozenset(['two', 'any'])
#: Facts of three nodes in the order of the hosts.
FACTS = st.lists(st.tuples(
    st.just(False), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    min_size=1, max_size=6)


@ddt.ddt
class ScoreTest(base.BaseTestCase):
    @ddt.data(
        (10 * HOUR, [10 * HOUR + 1800], 0),
        (10 * HOUR, [HOUR, 11 * HOUR], 1),
        # Only the last end counts: there the host is whole again.
        (10 * HOUR, [HOUR, 14 * HOUR], 3),
        (49 * HOUR, [51 * HOUR], 2),
        (49 * HOUR, [52 * HOUR], 2),
        (HOUR, [5 * HOUR, None], score.FAR),
        (None, [HOUR, None], 0),
        (None, [HOUR], score.FAR),
        (HOUR, [], score.FAR + 1),
        (None, [], score.FAR + 1),
        (1e15, [0], 39))
    @ddt.unpack
    def test_apart(self, ends_at, others, expected):
        self.assertEqual(expected, score.apart(
            score.era(ends_at), score.drained(others)))

    def test_left_counts_devices_of_wanted_aliases_only(self):
        pools = (model.Pool('a', 3, ONE), model.Pool('b', 4, TWO))
        self.assertEqual(1, score.left(pools, {'one': 2}))
        self.assertEqual(5, score.left(pools, {'any': 2}))
        self.assertEqual(4, score.left(pools, {'one': 1, 'two': 2}))

    def test_rarest_of_what_could_be_taken(self):
        known = {ONE: 1, TWO: 2}
        pools = (model.Pool('a', 3, ONE), model.Pool('b', 4, TWO))
        self.assertEqual(1, score.rarest(pools, {'one': 1}, known))
        self.assertEqual(2, score.rarest(pools, {'any': 1}, known))
        used = (model.Pool('a', 3, ONE), model.Pool('b', 0, TWO))
        self.assertEqual(1, score.rarest(used, {'any': 1}, known))
        self.assertEqual(0, score.rarest(pools, {'any': 1}, {}))

    @ddt.data(
        # Without demand the model with fewer devices is scarcer.
        ({ONE: 10, TWO: 2}, None, {ONE: 0, TWO: 1}),
        ({ONE: 10, TWO: 10}, None, {ONE: 0, TWO: 0}),
        # Demand that any model can serve makes none scarce.
        ({ONE: 10, TWO: 2}, {'any': 50}, {ONE: 0, TWO: 1}),
        ({ONE: 10, TWO: 2}, {'one': 8, 'two': 1}, {ONE: 1, TWO: 0}),
        ({ONE: 0, TWO: 0}, {'two': 1}, {ONE: 0, TWO: 1}))
    @ddt.unpack
    def test_scarcities(self, supply, demand, expected):
        self.assertEqual(expected, score.scarcities(supply, demand))

    def test_demand_for_either_counts_half(self):
        three = frozenset(['three', 'any'])
        one, two = ONE | {'either'}, TWO | {'either'}
        self.assertEqual(
            {one: 1, two: 0, three: 2}, score.scarcities(
                {one: 5, two: 10, three: 10}, {'either': 4, 'three': 5}))

    @ddt.data(
        # Facts: left, apart, scarcity; names of the best in each order.
        ([(1, 0, 0), (0, 9, 9)], 'default', 1),
        ([(1, 2, 0), (1, 1, 1)], 'default', 1),
        ([(1, 1, 2), (1, 1, 1)], 'default', 1),
        ([(1, 1, 1), (1, 1, 1)], 'default', 0),
        ([(1, 2, 0), (1, 1, 1)], 'pack', 0),
        ([(1, 2, 1), (1, 3, 0)], 'pack', 1),
        ([(0, 0, 1), (5, 5, 0)], 'scarce', 1),
        ([(1, 0, 1), (0, 5, 1)], 'scarce', 1),
        ([(1, 9, 9), (1, 0, 0)], 'reference', 0))
    @ddt.unpack
    def test_order(self, facts, name, best):
        order = score.ORDERS[name]
        keys = [order(False, *some, number)
                for number, some in enumerate(facts)]
        self.assertEqual(best, keys.index(min(keys)))

    @hypothesis.given(st.sampled_from(sorted(score.ORDERS)), FACTS, st.data())
    def test_planned_node_is_first(self, name, facts, data):
        chosen = data.draw(st.integers(0, len(facts) - 1))
        keys = [score.ORDERS[name](number == chosen, *some[1:], number)
                for number, some in enumerate(facts)]
        self.assertEqual(chosen, keys.index(min(keys)))

    @hypothesis.given(st.sampled_from(sorted(score.ORDERS)), FACTS)
    def test_ranks_say_what_the_keys_say(self, name, facts):
        keys = [score.ORDERS[name](*some, 0) for some in facts]
        ranks = score.ranks(keys)
        self.assertEqual(set(range(len(set(keys)))), set(ranks))
        for one, two in itertools.combinations(range(len(keys)), 2):
            self.assertEqual(keys[one] < keys[two], ranks[one] < ranks[two])
