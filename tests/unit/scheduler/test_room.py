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


import ddt

from nova_gpu_lease.scheduler import room
from tests import base


def tree(root_traits=(), child_traits=(), memory=(100, 40), gpus=2):
    return room.Tree('root', {
        'root': room.Provider(frozenset(root_traits),
                              {'MEMORY_MB': memory, 'VCPU': (8, 2)}),
        'child': room.Provider(frozenset(child_traits),
                               {'CUSTOM_GPU': (gpus, 0)})})


@ddt.ddt
class RoomTest(base.TestCase):
    def test_parse_query(self):
        query = room.parse_query(
            'limit=1000&group_policy=none'
            '&resources=VCPU%3A2%2CMEMORY_MB%3A512&required=A%2C%21B'
            '&member_of=in%3Ax%2Cy&member_of=in%3Az&member_of=%21in%3Aw'
            '&in_tree=root&root_required=C%2C%21COMPUTE_STATUS_DISABLED'
            '&resources_p-1=CUSTOM_BW%3A5&required_p-1=D')
        self.assertEqual(
            room.Query({
                '': room.Group({'VCPU': 2, 'MEMORY_MB': 512}, {'A'}, {'B'},
                               [{'x', 'y'}, {'z'}], {'w'}, 'root'),
                '_p-1': room.Group({'CUSTOM_BW': 5}, {'D'})},
                {'C'}, {'COMPUTE_STATUS_DISABLED'}), query)
        self.assertEqual({'VCPU': 2, 'MEMORY_MB': 512}, query.amounts)

    def test_parse_summaries(self):
        def summary(root, traits, **resources):
            return {'traits': traits, 'root_provider_uuid': root,
                    'resources': {name: {'capacity': capacity, 'used': used}
                                  for name, (capacity, used)
                                  in resources.items()}}
        trees, shared = room.parse_summaries({
            'root': summary('root', ['T'], MEMORY_MB=(100, 40), VCPU=(8, 2)),
            'child': summary('root', [], CUSTOM_GPU=(2, 0)),
            'nfs': summary('nfs', [room.SHARING], DISK_GB=(1000, 1))})
        self.assertEqual(tree(['T']), trees['root'])
        self.assertEqual({'DISK_GB'}, shared)

    def test_amounts(self):
        self.assertEqual({'MEMORY_MB': 60, 'VCPU': 6, 'CUSTOM_GPU': 2},
                         tree().amounts())
        self.assertEqual(
            {'MEMORY_MB': 100, 'VCPU': 7, 'CUSTOM_GPU': 2},
            tree().amounts({'MEMORY_MB': 70, 'VCPU': 1, 'OTHER': 3}))
        self.assertEqual({'MEMORY_MB': 100, 'VCPU': 8, 'CUSTOM_GPU': 2},
                         tree(memory=(100, 400)).amounts(empty=True))

    @ddt.data(
        ('resources=VCPU:1', None),
        ('resources=VCPU:1&required=IN_CHILD,IN_ROOT', None),
        ('resources=VCPU:1&root_required=IN_CHILD', 'traits IN_CHILD'),
        ('resources=VCPU:1&required=GONE', 'traits GONE'),
        ('resources=VCPU:1&required=!IN_ROOT', 'forbidden'),
        ('resources=VCPU:1&root_required=!IN_ROOT', 'forbidden'),
        ('resources=VCPU:1&member_of=in:x,agg', None),
        ('resources=VCPU:1&member_of=in:x', 'zone or aggregate'),
        ('resources=VCPU:1&member_of=!in:agg', 'zone or aggregate'),
        ('resources=VCPU:1&in_tree=root', None),
        ('resources=VCPU:1&in_tree=other', 'another host'))
    @ddt.unpack
    def test_suits(self, query, expected):
        problem = room.suits(room.parse_query(query),
                             tree(['IN_ROOT'], ['IN_CHILD']), {'agg'})
        if expected is None:
            self.assertIsNone(problem)
        else:
            self.assertIn(expected, problem)

    def test_disabled_node_suits_later(self):
        query = room.parse_query('root_required=!' + room.DISABLED)
        one = tree([room.DISABLED])
        self.assertIn('disabled', room.suits(query, one, set()))
        self.assertIsNone(room.suits(query, one, set(), True))

    @ddt.data(
        ('resources=VCPU:2,MEMORY_MB:10', (3, None)),
        ('resources=VCPU:1,MEMORY_MB:60', (1, None)),
        ('resources=VCPU:1,MEMORY_MB:61', (0, '61 MB of memory')),
        ('resources=CUSTOM_MAGIC:1', (0, '1 of CUSTOM_MAGIC')),
        # From a provider that shares.
        ('resources=VCPU:3,DISK_GB:9', (2, None)),
        ('resources=VCPU:1&resources1=CUSTOM_GPU:2', (6, None)),
        ('resources=VCPU:1&resources1=CUSTOM_GPU:3', (0, '3 of CUSTOM_GPU')),
        ('resources1=CUSTOM_GPU:1&required1=GONE', (0, '1 of CUSTOM_GPU')))
    @ddt.unpack
    def test_slots(self, query, expected):
        one = tree()
        self.assertEqual(expected, room.slots(
            room.parse_query(query), one, {'DISK_GB'}, one.amounts()))

    def test_one_server_is_not_larger_than_the_host(self):
        one = tree()
        query = room.parse_query('resources=VCPU:6')
        self.assertEqual((1, None), room.slots(
            query, one, set(), one.amounts(), {'VCPU': 6}))
        self.assertEqual((0, '6 vCPUs'), room.slots(
            query, one, set(), one.amounts(), {'VCPU': 5}))
