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

"""One GPU server from the API to the guest and back."""

from tests.functional import base


class StockTest(base.CloudTestCase):
    """The harness itself: Nova without this package."""

    HOOKS = False

    def test_server_with_gpu_becomes_active(self):
        server = self.create('one', hints={})
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual(3, self.free_devices())
        self.api.delete_server(server)
        self.wait_for_status(server, None)
        self.wait_for('a free device', lambda: self.free_devices() == 4)


class StockPlacementTest(StockTest):
    PCI_IN_PLACEMENT = True


class LeaseTest(base.CloudTestCase):

    def test_leased_server_becomes_active(self):
        server = self.create('one', {'gpu_lease': '2h'})
        self.wait_for_status(server, 'ACTIVE')
        lease = self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual(7200, lease['duration'])
        self.assertEqual(3, self.free_devices())
        self.api.delete_server(server)
        self.wait_for_status(server, None)
        self.wait_for_lease(server, 'RELEASED')
        self.wait_for('a free device', lambda: self.free_devices() == 4)
        self.assert_no_leaks()


class LeasePlacementTest(LeaseTest):
    PCI_IN_PLACEMENT = True
