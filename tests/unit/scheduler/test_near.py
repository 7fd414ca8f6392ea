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


"""The order of allocation candidates of a host."""

import itertools

import fixtures

from nova_gpu_lease.planner import topology_file
from nova_gpu_lease.scheduler import filters
from nova_gpu_lease import topology_watch
from tests.unit.scheduler import hosts
from tests.unit.scheduler.hosts import pool


class CandidatesTest(hosts.TestCase):
    """Four devices, two on each NUMA node, in Placement."""

    def setUp(self):
        super().setUp()
        self.flags(group='filter_scheduler', pci_in_placement=True)
        self.filter = filters.GPULeaseFilter()

    def first(self, count, numa_nodes='0101', **tags):
        """The devices of the first candidate once the filter has passed."""
        pools = [pool('gpu', 1, int(numa), rp_uuid=str(number),
                      address='0000:%02x:00.0' % number,
                      **{name: values[number]
                         for name, values in tags.items() if values[number]})
                 for number, numa in enumerate(numa_nodes)]
        nic = pool('nic', 9, 1, rp_uuid='nic', address='0000:90:00.0')
        spec = hosts.spec(gpu=count)
        request = spec.pci_requests.requests[0].request_id
        candidates = [
            {'': ['root'], **{'%s-%d' % (request, index): [provider]
                              for index, provider in enumerate(some)}}
            for some in itertools.permutations(
                [one['rp_uuid'] for one in pools], count)]
        host = hosts.host('a', [nic, *pools], candidates)
        self.assertEqual([host], list(self.filter.filter_all([host], spec)))
        self.assertEqual(len(candidates), len(host.allocation_candidates))
        mappings = host.allocation_candidates[0]['mappings']
        return [mappings['%s-%d' % (request, index)][0]
                for index in range(count)]

    def test_one_numa_node(self):
        self.assertEqual(['0', '2'], self.first(2))
        self.assertEqual(['1', '2'], self.first(2, '011'))

    def test_one_nvlink_group_by_the_tag(self):
        self.assertEqual(['1', '2'], self.first(
            2, nvlink_group=['', 'x', 'x', '']))

    def test_one_nvlink_group_by_the_file(self):
        known = topology_file.Topology({}, {'a': {
            '0000:0%d:00.0' % number: topology_file.Device(0, 'x')
            for number in (1, 2)}})
        self.useFixture(fixtures.MockPatchObject(
            topology_watch, 'current', lambda: known))
        self.assertEqual(['1', '2'], self.first(2, '0000'))

    def test_one_device_leaves_groups_whole(self):
        self.assertEqual(['2'], self.first(1, '001'))

    def test_all_alike(self):
        self.assertEqual(['0', '1'], self.first(2, '0000'))

    def test_without_placement_nothing_is_sorted(self):
        self.flags(group='filter_scheduler', pci_in_placement=False)
        self.assertEqual(['0', '1'], self.first(2))
