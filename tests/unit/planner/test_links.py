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


"""Devices of one host, compared with all sets of them."""

import collections
import itertools

import hypothesis
from hypothesis import strategies
from oslotest import base

from nova_gpu_lease.planner import links
from nova_gpu_lease.planner import topology_file

#: Two NUMA nodes with an NVLink group of four each.
HOST = [(number, (number // 4, 'ab'[number // 4])) for number in range(8)]


def without(*used):
    return [device for device in HOST if device[0] not in used]


@strategies.composite
def hosts(draw):
    kinds = strategies.tuples(strategies.sampled_from([None, 0, 1]),
                              strategies.sampled_from([None, 'a', 'b']))
    devices = list(enumerate(draw(strategies.lists(
        kinds, min_size=1, max_size=8))))
    return devices, draw(strategies.integers(1, len(devices)))


class CostTest(base.BaseTestCase):

    def test_pairs(self):
        self.assertEqual(0, links.cost([(0, 'a'), (0, 'a')]))
        self.assertEqual(1, links.cost([(0, 'a'), (1, 'a')]))
        self.assertEqual(2, links.cost([(0, 'a'), (0, 'b')]))
        self.assertEqual(2, links.cost([(0, None), (0, None)]))
        self.assertEqual(3, links.cost([(0, 'a'), (1, None)]))
        self.assertEqual(6, links.cost([(0, 'a'), (0, 'a'), (1, 'b')]))


class ChooseTest(base.BaseTestCase):

    def test_one_group(self):
        self.assertEqual([0, 1], links.choose(HOST, 2))
        self.assertEqual([4, 5, 6, 7], links.choose(without(1), 4))
        self.assertEqual([6, 7], links.choose(without(0, 4, 5), 2))

    def test_the_fuller_group_for_few(self):
        self.assertEqual([7], links.choose(without(4, 5, 6), 1))
        self.assertEqual([5, 6], links.choose(without(4), 2))

    def test_more_than_one_group(self):
        self.assertEqual(8, len(links.choose(HOST, 8)))
        self.assertEqual([0, 1, 2, 3, 4], links.choose(HOST, 5))
        self.assertEqual([1, 4, 5, 6, 7], links.choose(without(0), 5))

    def test_a_link_counts_more_than_a_numa_node(self):
        self.assertEqual([0, 2], links.choose(
            [(0, (0, 'a')), (1, (0, 'b')), (2, (1, 'a'))], 2))

    def test_all_alike(self):
        self.assertEqual([3, 1], links.choose(
            [(key, (None, None)) for key in (3, 1, 2)], 2))

    def test_many_kinds(self):
        devices = [(number, (number // 25, number // 2))
                   for number in range(200)]
        self.assertEqual([0, 1, 2, 3], links.choose(devices, 4))
        # Without the half of each pair but one.
        self.assertEqual([14, 15], links.choose(
            [device for device in devices
             if device[0] % 2 or device[0] == 14], 2))

    @hypothesis.given(hosts())
    @hypothesis.settings(deadline=None)
    def test_as_brute_force(self, host):
        devices, count = host
        free = collections.Counter(kind for _, kind in devices)
        kinds = dict(devices)
        chosen = links.choose(devices, count)
        self.assertEqual(count, len(set(chosen)))

        def rank(keys):
            some = [kinds[key] for key in keys]
            return links.cost(some), links.left_over(some, free)

        self.assertEqual(min(map(rank, itertools.combinations(
            kinds, count))), rank(chosen))


class PreferTest(base.BaseTestCase):

    @staticmethod
    def pools(*kinds):
        return [{'product_id': product, 'numa_node': int(numa), 'count': 1,
                 'address': '0000:%02x:00.0' % number}
                for number, (product, numa) in enumerate(kinds)]

    def order(self, pools, count, described=None):
        return [int(pool['address'][5:7]) for pool in links.prefer(
            pools, count, described or {})]

    def test_one_numa_node(self):
        pools = self.pools('a0', 'a1', 'a1', 'a0')
        self.assertEqual([0, 3, 1, 2], self.order(pools, 2))
        self.assertEqual([1, 2, 0], self.order(pools[:3], 2))

    def test_the_file_and_the_tag(self):
        pools = self.pools('a0', 'a0', 'a0')
        self.assertEqual([1, 2, 0], self.order(pools, 2, {
            '0000:01:00.0': topology_file.Device(None, 'x'),
            '0000:02:00.0': topology_file.Device(None, 'x')}))
        self.assertEqual([1, 2, 0], self.order(pools, 2, {
            '0000:00:00.0': topology_file.Device(1, None)}))
        pools[0][links.TAG] = pools[2][links.TAG] = 'x'
        self.assertEqual([0, 2, 1], self.order(pools, 2))

    def test_the_models_stay(self):
        pools = self.pools('a0', 'b1', 'b0', 'a1')
        # Nova would take one of each, so that is what others were asked for.
        self.assertEqual(['a', 'b'], sorted(
            pools[number]['product_id']
            for number in self.order(pools, 2)[:2]))

    def test_several_devices_in_a_pool(self):
        pools = self.pools('a0', 'a1')
        pools[1]['count'] = 3
        self.assertEqual([1, 0], self.order(pools, 2))
        self.assertEqual([1, 0], self.order(pools, 4))
