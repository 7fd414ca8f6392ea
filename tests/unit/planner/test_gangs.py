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


"""Gangs go where they are near to each other, now and when promised."""

import hypothesis
from hypothesis import strategies

from nova_gpu_lease import planner
from nova_gpu_lease.planner import topology
from tests import base

BACKFILL = planner.Policy('backfill')


def cloud(**places):
    """Nodes of these names, each with one device, at places like 'a/b'."""
    return {uuid: planner.Node(
        uuid, (planner.Pool('gpu', 1, frozenset(['gpu']), 1),),
        place=tuple(filter(None, place.split('/'))))
        for uuid, place in places.items()}


def gang(uuid, count, nodes, **values):
    return planner.Waiting(uuid, count, {'gpu': 1}, dict.fromkeys(nodes, 1),
                           duration=600, **values)


def running(node, ends_at):
    return planner.Running('on-' + node, node, {'gpu': 1}, ends_at)


def busy(nodes, *names):
    """The same nodes without free devices on some."""
    return {uuid: planner.Node(
        node.host, (planner.Pool('gpu', int(uuid not in names),
                                 frozenset(['gpu']), 1),), place=node.place)
            for uuid, node in nodes.items()}


class GangTest(base.TestCase):
    NODES = {'h1': 'a/x', 'h2': 'b/x', 'h3': 'b/y', 'h4': 'b/y'}

    def plan(self, waiting, nodes, runs=(), policy=BACKFILL, **kwargs):
        return planner.plan(waiting, nodes, runs, 1000, policy, **kwargs)

    def test_one_switch_under_every_policy(self):
        nodes = cloud(**self.NODES)
        for policy in ('fifo', 'backfill', 'conservative'):
            plan = self.plan([gang('g', 2, nodes)], nodes,
                             policy=planner.Policy(policy))
            self.assertEqual({'g': ['h3', 'h4']}, plan.starts)

    def test_unknown_places_change_nothing(self):
        nodes = cloud(h1='', h2='', h3='')
        self.assertEqual({'g': ['h1', 'h2']}, self.plan(
            [gang('g', 2, nodes)], nodes).starts)

    def test_a_node_that_failed_is_avoided(self):
        nodes = cloud(**self.NODES)
        plan = self.plan(
            [gang('g', 2, nodes, avoid=frozenset(['h4']))], nodes)
        self.assertEqual({'g': ['h2', 'h3']}, plan.starts)

    def test_a_blocked_gang_is_promised_near_nodes(self):
        nodes = busy(cloud(**self.NODES), 'h1', 'h2', 'h3', 'h4')
        runs = [running('h1', 2000), running('h2', 2000),
                running('h3', 1500), running('h4', 2000)]
        plan = self.plan([gang('g', 2, nodes)], nodes, runs)
        self.assertEqual(2000, plan.promises['g'].start)
        self.assertEqual({'h3': 1, 'h4': 1}, plan.promises['g'].nodes)

    def test_a_node_that_moves(self):
        nodes = cloud(**self.NODES)
        state = planner.State(nodes, policy=BACKFILL)
        state.submit(gang('g', 2, nodes))
        self.assertEqual({'g': ['h3', 'h4']}, state.plan(0).starts)
        state.set_node('h1', cloud(h1='b/x')['h1'])
        state.set_node('h4', cloud(h4='c/x')['h4'])
        self.assertEqual({'g': ['h1', 'h2']}, state.plan(0).starts)

    @hypothesis.given(
        strategies.lists(
            strategies.tuples(strategies.sampled_from('ab'),
                              strategies.sampled_from('xyz'),
                              strategies.booleans()), min_size=2, max_size=7),
        strategies.integers(2, 4), strategies.randoms())
    @hypothesis.settings(deadline=None, max_examples=60)
    def test_least_distance_whatever_the_order_of_rows(
            self, hosts, count, rng):
        nodes = cloud(**{'h%d' % number: '%s/%s' % (switch, rack)
                         for number, (switch, rack, _) in enumerate(hosts)})
        free = ['h%d' % number for number, host in enumerate(hosts)
                if host[2]]
        nodes = busy(nodes, *(set(nodes) - set(free)))
        request = gang('g', count, nodes)
        plan = self.plan([request], nodes)
        if len(free) < count:
            self.assertEqual({}, plan.starts)
            return
        net = topology.Network(nodes)
        best = net.cost(net.choose(dict.fromkeys(free, 1), count))
        self.assertEqual(best, net.cost(plan.starts['g']))
        shuffled = list(nodes.items())
        rng.shuffle(shuffled)
        self.assertEqual(plan.starts,
                         self.plan([request], dict(shuffled)).starts)
