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

"""Live migration of a server with devices that can be migrated.

Nova's libvirt driver, on a fake libvirt, is the one that can do it.
"""

from urllib import parse

import fixtures
from lxml import etree
from nova.virt.libvirt import driver
from oslo_serialization import jsonutils
from oslo_utils import versionutils

from tests.functional import actions
from tests.functional import base
from tests.functional import nova_fixtures

DEVICE = {'vendor_id': nova_fixtures.PCI_VENDOR_ID,
          'product_id': nova_fixtures.VF_PRODUCT_ID,
          'live_migratable': 'yes'}
#: {host: the PCI bus of its card}
BUSES = {'host1': 0x81, 'host2': 0x82}


def _version(numbers):
    return versionutils.convert_version_to_int(numbers)


class LiveCases(actions.ActionMixin, base.CloudMixin):
    """In both ways that Nova counts devices."""

    def setUp(self):
        self.flags(
            device_spec=[jsonutils.dumps(DEVICE)], group='pci',
            alias=[jsonutils.dumps(dict(
                DEVICE, name='gpu', device_type='type-VF'))])
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.migrateToURI3',
            self._move_guest))
        for host, bus in BUSES.items():
            self.start_compute(
                host, pci_info=nova_fixtures.HostPCIDevicesInfo(
                    num_pfs=1, num_vfs=2, bus=bus),
                libvirt_version=_version(
                    driver.MIN_VFIO_PCI_VARIANT_LIBVIRT_VERSION),
                qemu_version=_version(
                    driver.MIN_VFIO_PCI_VARIANT_QEMU_VERSION))

    def _move_guest(self, domain, destination, params, flags):
        """Do what two libvirts do with each other."""
        target = self.computes[parse.urlparse(destination).netloc]
        target.driver._host.get_connection().defineXML(
            params['destination_xml']).createWithFlags(0)
        domain.complete_job()

    def live(self, server, host=None, force=None):
        body = {'host': host, 'block_migration': 'auto'}
        if force is None:
            self.act(server, 'os-migrateLive', body)
        else:
            self.act(server, 'os-migrateLive', dict(body, force=force),
                     self.admin_of('2.67'))

    def guest_buses(self, host, server):
        """The PCI buses of the devices in a guest's XML."""
        guest = self.computes[host].driver._host.get_connection(
            ).lookupByUUIDString(server)
        return [int(source.get('bus'), 16)
                for source in etree.fromstring(guest.XMLDesc(0)).findall(
                    './devices/hostdev/source/address')]

    def assert_moved(self, server, target, before):
        """It is there, with its lease, and holds nothing elsewhere."""
        self.wait_for('the move', lambda: self.host_of(server) == target)
        self.wait_until_idle(server, 'ACTIVE')
        self.wait_for_held(server, {target: 1})
        self.assertEqual([BUSES[target]], self.guest_buses(target, server))
        self.assert_goes_on(server, before)
        self.wait_for('the host', lambda: self.lease(
            server, self.admin_api)['host'] == target)

    def test_live_migration(self):
        server = self.leased()
        before = self.lease(server)
        target = self.other(self.host_of(server))
        self.live(server)
        self.assert_moved(server, target, before)
        self.assert_ends_shelved(server)

    def test_live_migration_to_a_host(self):
        server = self.leased()
        before = self.lease(server)
        target = self.other(self.host_of(server))
        self.live(server, target)
        self.assert_moved(server, target, before)

    def test_device_that_it_leaves_starts_the_next(self):
        server, _ = [self.leased(name, host='host1', api=self.admin_api)
                     for name in ('leaves', 'stays')]
        waits = self.create('waits', availability_zone='nova:host1',
                            api=self.admin_api)
        self.wait_for_lease(waits, 'QUEUED')
        self.live(server)
        self.wait_for_status(waits, 'ACTIVE')
        self.assertEqual('host1', self.host_of(waits))
        self.assertEqual('host2', self.host_of(server))

    def test_live_migration_takes_no_device_that_is_next(self):
        server, _, head = self.blocked()
        before = self.lease(server)
        for count, host in enumerate((None, 'host2'), 1):
            self.live(server, host)
            self.wait_for('the refusal', lambda: len(
                self.faults(server)) == count)
            self.wait_until_idle(server, 'ACTIVE')
            self.assertEqual('host1', self.host_of(server))
        self.assert_goes_on(server, before)
        self.assertEqual('QUEUED', self.lease(head)['status'])
        self.assertEqual(1, self.free_devices())


class LiveTest(LiveCases, nova_fixtures.LibvirtTestBase):

    def test_forced_live_migration_takes_it_and_the_plan_adapts(self):
        server, there, head = self.blocked()
        before = self.lease(server)
        self.live(server, 'host2', force=True)
        self.assert_moved(server, 'host2', before)
        self.assert_plan_adapts(server, there, head)


class LivePlacementTest(LiveCases, nova_fixtures.LibvirtTestBase):
    PCI_IN_PLACEMENT = True

    def test_forced_live_migration_is_refused_by_nova(self):
        server, _, head = self.blocked()
        before = self.lease(server)
        self.live(server, 'host2', force=True)
        self.wait_for('the refusal', lambda: 'complex allocations' in str(
            self.faults(server)))
        self.wait_until_idle(server, 'ACTIVE')
        self.assertEqual('host1', self.host_of(server))
        self.assert_goes_on(server, before)
        self.assertEqual('QUEUED', self.lease(head)['status'])
