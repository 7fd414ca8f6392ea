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


"""Which devices Nova's tracker gives to a server."""

import copy
import json
import os

import fixtures
from nova import objects
from nova.pci import stats as pci_stats
from nova.pci import whitelist
from oslo_utils import uuidutils

from nova_gpu_lease.compute import near
from nova_gpu_lease.planner import topology_file
from tests import base

objects.register_all()

SPEC = {'vendor_id': '10de', 'product_id': '26b9'}


def address(number):
    return '0000:%02x:00.0' % number


def device(number, numa_node):
    return objects.PciDevice(
        address=address(number), vendor_id='10de', product_id='26b9',
        numa_node=numa_node, dev_type='type-PCI', parent_addr=None,
        extra_info={}, status='available', compute_node_id=1)


class DeviceStatsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.file = {}

    def stats(self, numa_nodes, spec=SPEC):
        stats = pci_stats.PciDeviceStats(
            None, dev_filter=whitelist.Whitelist([json.dumps(spec)]))
        for number, numa_node in enumerate(numa_nodes):
            stats.add_device(device(number, int(numa_node)))
        return near.DeviceStats(stats, lambda: self.file)

    @staticmethod
    def requests(count, **spec):
        return [objects.InstancePCIRequest(
            alias_name='gpu', count=count, numa_policy='legacy',
            request_id=uuidutils.generate_uuid(), spec=[{**SPEC, **spec}])]

    def given(self, stats, count, **spec):
        return [found.address for found in stats.consume_requests(
            self.requests(count, **spec))]

    def test_one_numa_node(self):
        stats = self.stats('0101')
        self.assertEqual([address(0), address(2)], self.given(stats, 2))
        self.assertEqual([address(1), address(3)], self.given(stats, 2))
        self.assertEqual([], stats.pools and [
            pool for pool in stats.pools if pool['count']])

    def test_one_nvlink_group_by_the_file(self):
        self.file = {address(number): topology_file.Device(None, 'x')
                     for number in (1, 2)}
        self.assertEqual([address(1), address(2)],
                         self.given(self.stats('0000'), 2))

    def test_all_that_is_left(self):
        self.assertEqual(3, len(self.given(self.stats('010'), 3)))

    def test_what_placement_chose_counts(self):
        stats = self.stats('0101')
        for pool in stats.pools:
            pool['rp_uuid'] = pool['address']
        self.assertEqual(
            {address(0), address(1)}, set(self.given(
                stats, 2, rp_uuids='%s,%s' % (address(0), address(1)))))

    def test_a_copy_does_not_copy_the_file(self):
        stats = self.stats('01')
        self.assertIs(self.file, copy.deepcopy(stats)._described())
        self.assertTrue(stats.support_requests(
            self.requests(2), provider_mapping=None))
        self.assertFalse(stats.support_requests(
            self.requests(3), provider_mapping=None))


class HostDevicesTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        path = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'topology.yaml')
        with open(path, 'w') as stream:
            stream.write('devices: [{hosts: [h], numa_nodes: {0: [%s, %s]}}]'
                         % (address(0), address(9)))
        self.flags(topology_file=path)

    def test_described(self):
        self.assertEqual(
            {address(0), address(9)},
            near.HostDevices('h').described().keys())
        self.assertEqual({}, near.HostDevices('other').described())

    def test_contradictions_are_said_once(self):
        some = near.HostDevices('h')
        some.check([])
        for _ in range(2):
            some.check([device(0, 1), device(1, 0)])
        self.assertEqual(1, self.log.output.count(
            'has %s on this host, where Nova has no' % address(9)))
        self.assertEqual(1, self.log.output.count(
            'has %s on NUMA node 0, the hypervisor reports 1' % address(0)))
