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

"""The devices of nodes, read again for as long as Nova still saves them."""

from unittest import mock

import fixtures
from nova import objects
from nova.objects import fields

from nova_gpu_lease.scheduler import landscape
from tests import base


class DeviceReaderTest(base.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.seconds = 0.0
        self.rows = []
        self.useFixture(fixtures.MonkeyPatch(
            'time.monotonic', lambda: self.seconds))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.PciDeviceList.get_by_compute_node',
            lambda cls, context, compute_id: list(self.rows)))
        self.reader = landscape.DeviceReader()
        self.node = objects.ComputeNode(
            id=1, uuid='5666ebf7-6d14-4ed6-8f3f-87cfeb3b4e72',
            updated_at=None, pci_device_pools=objects.PciDevicePoolList(
                objects=[objects.PciDevicePool(
                    vendor_id='10de', product_id='2330', numa_node=None,
                    tags={}, count=2)]))

    def read(self):
        self.seconds += landscape.SETTLED + 1
        return len(self.reader.read(None, self.node))

    def test_devices_saved_late_are_seen(self):
        """Nova's first save may fail; the row of the node stays the same."""
        self.assertEqual([0, 0, 0], [self.read() for _ in range(3)])
        self.assertEqual({self.node.uuid}, self.reader.doubtful)
        self.rows = [objects.PciDevice(
            status=fields.PciDeviceStatus.AVAILABLE) for _ in range(2)]
        self.assertEqual(2, self.read())
        self.assertEqual(set(), self.reader.doubtful)

    def test_settled_devices_are_read_once(self):
        self.rows = [objects.PciDevice(
            status=fields.PciDeviceStatus.AVAILABLE) for _ in range(2)]
        self.assertEqual([2, 2], [self.read() for _ in range(2)])
        self.rows = []
        self.assertEqual(2, self.read())


class RememberTest(base.TestCase):
    def test_what_there_is(self):
        def node(*pools):
            return mock.Mock(pools=[
                {'aliases': aliases, 'free': 0, 'total': total}
                for aliases, total in pools])

        self.addCleanup(landscape._remember, {})
        landscape._remember({'n1': node((['any', 'gpu'], 3)),
                             'n2': node((['any', 'gpu'], 1), (['big'], 2))})
        self.assertEqual({'n1', 'n2'}, landscape.gpu_nodes())
        self.assertEqual({frozenset(['any', 'gpu']): 4, frozenset(['big']): 2},
                         landscape.supply())
