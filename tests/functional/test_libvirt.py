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

"""A lease on Nova's libvirt driver, with a fake libvirt under it."""

import fixtures
from lxml import etree
from oslo_serialization import jsonutils

from tests.functional import base
from tests.functional import nova_fixtures

DEVICE = {'vendor_id': nova_fixtures.PCI_VENDOR_ID,
          'product_id': nova_fixtures.PCI_PRODUCT_ID}
RESOURCE_CLASS = 'CUSTOM_PCI_%(vendor_id)s_%(product_id)s' % DEVICE


class LibvirtTest(base.CloudMixin, nova_fixtures.LibvirtTestBase):

    def setUp(self):
        self.useFixture(fixtures.MockPatch(
            'nova.pci.utils.is_physical_function', return_value=False))
        self.flags(device_spec=[jsonutils.dumps(DEVICE)],
                   alias=[jsonutils.dumps(dict(DEVICE, name='gpu'))],
                   group='pci')
        super().setUp()
        self.start_compute('host1', pci_info=nova_fixtures.HostPCIDevicesInfo(
            num_pci=2, num_pfs=0, num_vfs=0))

    def guest_addresses(self, server_id):
        """The PCI addresses of the host devices in a guest's XML."""
        connection = self.computes['host1'].driver._host.get_connection()
        guest = connection.lookupByUUIDString(server_id)
        return ['%04x:%02x:%02x.%x' % tuple(
            int(source.get(part), 16)
            for part in ('domain', 'bus', 'slot', 'function'))
            for source in etree.fromstring(guest.XMLDesc(0)).findall(
                './devices/hostdev/source/address')]

    def placement_free(self):
        """The addresses of devices that are free in Placement."""
        root = self._get_provider_uuid_by_name('host1')
        return {provider['name'].partition('_')[2]
                for provider in self._get_all_rps_in_a_tree(root)
                if self._get_provider_usages(provider['uuid']).get(
                    RESOURCE_CLASS) == 0}

    def test_guest_has_the_leased_device_until_expiry(self):
        server = self.create('one', {'gpu_lease': '8s'})
        self.wait_for_status(server, 'ACTIVE')
        held = [address for address, holder in self.devices('host1').items()
                if holder == server]
        self.assertEqual(1, len(held))
        self.assertEqual(held, self.guest_addresses(server))
        if self.PCI_IN_PLACEMENT:
            self.assertEqual(set(self.devices('host1')) - set(held),
                             self.placement_free())
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual({None}, set(self.devices('host1').values()))
        if self.PCI_IN_PLACEMENT:
            self.assertEqual(set(self.devices('host1')),
                             self.placement_free())
        self.assert_no_leaks()


class LibvirtPlacementTest(LibvirtTest):
    PCI_IN_PLACEMENT = True
