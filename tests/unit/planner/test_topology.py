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


"""Distances in the network, and the nodes of a gang by brute force."""

import collections
import csv
import itertools
import random

import hypothesis
from hypothesis import strategies
from oslotest import base

from nova_gpu_lease import planner
from nova_gpu_lease.planner import topology
from perf.replay import trace


def node(host, *place, steps=()):
    return planner.Node(host, (), place=place, steps=steps)


def network(*places, steps=()):
    """A Network with hosts ``0``, ``1`` … at places such as 'a/b'."""
    return topology.Network({
        str(number): node('%03d' % number, *filter(None, place.split('/')),
                          steps=steps)
        for number, place in enumerate(places)})


@strategies.composite
def clouds(draw):
    """(Network, room, number of servers) of up to six hosts."""
    steps = topology.link_costs(draw(strategies.lists(
        strategies.sampled_from([1, 1.5, 2, 4]), min_size=2, max_size=2)))
    nodes = {}
    for number in range(draw(strategies.integers(1, 6))):
        known = draw(strategies.booleans()) or number < 3
        place = (draw(strategies.sampled_from('ab')),
                 draw(strategies.sampled_from('xyz'))) if known else ()
        nodes['n%d' % number] = node('h%d' % number, *place,
                                     steps=steps if known else ())
    room = {uuid: draw(strategies.integers(0, 3)) for uuid in nodes}
    return topology.Network(nodes), room, draw(strategies.integers(1, 6))


def brute_force(net, room, count, rank):
    """The least (cost, sum of ranks) of all that fits, or None."""
    best = None
    uuids = sorted(room)
    for numbers in itertools.product(*(range(room[uuid] + 1)
                                       for uuid in uuids)):
        if sum(numbers) == count:
            chosen = [uuid for uuid, number in zip(uuids, numbers)
                      for _ in range(number)]
            cost = (sum(net.distance(*pair) for pair
                        in itertools.combinations(chosen, 2)),
                    sum(rank[uuid] for uuid in chosen))
            best = min(best or cost, cost)
    return best


class DistanceTest(base.BaseTestCase):

    def test_links_on_the_way(self):
        net = network('a/x', 'a/x', 'a/y', 'b/x')
        self.assertEqual([0, 2, 4, 6], [
            net.distance('0', other) for other in '0123'])
        self.assertTrue(net.known)

    def test_a_link_of_half_the_bandwidth_costs_twice(self):
        # Two sites of switches with 2:1 uplinks to their site.
        self.assertEqual((2, 2), topology.link_costs([1, 2]))
        self.assertEqual((4, 2), topology.link_costs([2, 2]))
        net = network('a/x', 'a/x', 'a/y', 'b/x',
                      steps=topology.link_costs([2, 2]))
        self.assertEqual([0, 2, 6, 14], [
            net.distance('0', other) for other in '0123'])

    def test_an_unknown_place_is_far(self):
        net = network('a/x', 'b/x', '', '')
        self.assertEqual([6, 6], [net.distance(*pair)
                                  for pair in ('01', '02')])
        self.assertEqual(6, net.distance('2', '3'))
        self.assertFalse(network('', '').known)

    def test_places_of_unequal_depth(self):
        net = network('a', 'a/x/y', 'a/x')
        self.assertEqual([4, 3], [net.distance('0', '1'),
                                  net.distance('0', '2')])

    def test_names_are_of_their_branch(self):
        self.assertEqual(6, network('a/x', 'b/x').distance('0', '1'))

    def test_cost_of_a_gang_is_that_of_its_pairs(self):
        net = network('a/x', 'a/x', 'a/y', 'b/x')
        gang = ['0', '0', '1', '2', '3']
        self.assertEqual(
            sum(net.distance(*pair)
                for pair in itertools.combinations(gang, 2)), net.cost(gang))


class ChooseTest(base.BaseTestCase):

    def test_one_switch_rather_than_the_first_hosts(self):
        net = network('a/x', 'a/y', 'b/x', 'b/x')
        self.assertEqual(['2', '3'], net.choose(
            dict.fromkeys('0123', 1), 2))

    def test_one_host_rather_than_one_rack(self):
        net = network('a/x', 'a/x', 'b/x')
        self.assertEqual(['2', '2'], net.choose(
            {'0': 1, '1': 1, '2': 2}, 2))

    def test_ties_by_rank_then_by_name(self):
        net = network('a/x', 'a/x', 'a/y', 'a/y')
        room = dict.fromkeys('3210', 1)
        self.assertEqual(['0', '1'], net.choose(room, 2))
        rank = {'0': 1, '1': 1, '2': 0, '3': 0}
        self.assertEqual(['2', '3'], net.choose(room, 2, rank))

    def test_avoided_only_where_no_other_can_be_had(self):
        net = network('a/x', 'a/x', 'b/x')
        room = dict.fromkeys('012', 1)
        for budget in (0, 1000):
            self.assertEqual(['0', '2'], net.choose(
                room, 2, avoid={'1'}, budget=budget))
            self.assertEqual(['0', '1', '2'], net.choose(
                room, 3, avoid={'1'}, budget=budget))
        self.assertEqual(['1', '1'], net.choose(
            {'1': 2, '2': 1}, 2, avoid={'1'}, budget=0))

    def test_too_little_room(self):
        self.assertIsNone(network('a', 'b').choose({'0': 1, '1': 1}, 3))
        self.assertIsNone(network('a', 'b').choose({'x': 9}, 1))
        self.assertIsNone(topology.Network({}).choose({}, 1))

    def test_two_far_hosts_beat_a_subtree_of_singles(self):
        # Eight racks of one switch, or half of it on each of two hosts.
        net = network(*('a/%d' % number for number in range(8)),
                      'b/1', 'c/1', steps=topology.link_costs([1, 2]))
        room = {**dict.fromkeys('01234567', 1), '8': 4, '9': 4}
        self.assertEqual(list('88889999'), net.choose(room, 8))

    @hypothesis.given(clouds(), strategies.randoms(use_true_random=False))
    @hypothesis.settings(deadline=None, max_examples=150)
    def test_as_brute_force(self, cloud, rng):
        net, room, count = cloud
        rank = {uuid: rng.randint(0, 3) for uuid in room}
        best = brute_force(net, room, count, rank)
        for budget in (10**9, 0):
            chosen = net.choose(room, count, rank, budget=budget)
            if best is None:
                self.assertIsNone(chosen)
                continue
            used = collections.Counter(chosen)
            self.assertEqual(count, len(chosen))
            self.assertTrue(all(number <= room[uuid]
                                for uuid, number in used.items()))
            cost = net.cost(chosen), sum(rank[uuid] for uuid in chosen)
            if budget:
                self.assertEqual(best, cost)
            else:
                self.assertLessEqual(best, cost)

    @hypothesis.given(clouds(), strategies.randoms(use_true_random=False),
                      strategies.sampled_from([0, 40, 10**9]))
    @hypothesis.settings(deadline=None, max_examples=100)
    def test_no_order_of_rows_matters(self, cloud, rng, budget):
        net, room, count = cloud
        shuffled = list(room.items())
        rng.shuffle(shuffled)
        self.assertEqual(net.choose(room, count, budget=budget),
                         net.choose(dict(shuffled), count, budget=budget))


class LingjunTest(base.BaseTestCase):
    """A real tree of 847 hosts: core, pods, groups of hosts."""

    def setUp(self):
        super().setUp()
        path = trace.folder() / 'topo_lingjun2023.csv'
        if not path.exists():
            self.skipTest('%s is not there; %s says where the traces are.' % (
                path, trace.VARIABLE))
        with open(path) as rows:
            self.nodes = {
                row['host']: node(row['host'].zfill(3), row['dsw'],
                                  row['psw'], row['asw'])
                for row in csv.DictReader(rows)}
        self.net = topology.Network(self.nodes)

    def test_gangs_are_nearer_than_at_random_or_packed(self):
        self.assertEqual(847, len(self.nodes))
        rng = random.Random(1)
        room = {uuid: 1 for uuid in self.nodes if rng.random() < 0.3}
        for count in (2, 4, 8, 16, 32):
            near = self.net.cost(self.net.choose(room, count))
            fast = self.net.cost(self.net.choose(room, count, budget=0))
            self.assertLessEqual(near, fast)
            self.assertLess(fast, self.net.cost(sorted(room)[:count]))
            self.assertLess(
                fast, self.net.cost(rng.sample(sorted(room), count)))
