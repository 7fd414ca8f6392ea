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


"""Devices of one server that are near to each other, chosen by the compute.

Without PCI in Placement Nova's tracker takes the first devices that match.
Here they are put into another order first: nothing is refused, and a server
whose NUMA topology asks for certain devices gets these. With PCI in Placement
the scheduler chooses, see :mod:`nova_gpu_lease.scheduler.near`.
"""

from nova.pci import stats as pci_stats
from oslo_log import log as logging

from nova_gpu_lease.planner import links
from nova_gpu_lease import topology_watch

LOG = logging.getLogger(__name__)

#: Methods that are overridden here: see hooks.check.
TESTED = (
    (pci_stats.PciDeviceStats, '_filter_pools',
     ('pools', 'request', 'numa_cells', 'rp_uuids')),
)


class DeviceStats(pci_stats.PciDeviceStats):
    """Nova's pools of free devices, the best for each request first."""

    def __init__(self, stats, described):
        """Take the place of other stats.

        :param stats: a PciDeviceStats.
        :param described: a function that returns {PCI address: Device}. Nova
            copies stats deeply, so it must not be a method.
        """
        super().__init__(stats.numa_topology, dev_filter=stats.dev_filter)
        self.pools = stats.pools
        self._described = described

    def _filter_pools(self, pools, request, numa_cells, rp_uuids):
        found = super()._filter_pools(pools, request, numa_cells, rp_uuids)
        if found and not rp_uuids and request.source == request.FLAVOR_ALIAS:
            return links.prefer(found, request.count, self._described())
        return found


class HostDevices:
    """What the topology file says about the devices of this host."""

    def __init__(self, host):
        self._host = host
        self._checked = None

    def described(self):
        """{PCI address: Device}; empty where the file does not know them."""
        return topology_watch.current().devices.get(self._host, {})

    def check(self, devices):
        """Say what the file has otherwise than Nova, once for each file.

        :param devices: the PciDevices of this host.
        """
        topology = topology_watch.current()
        if topology is self._checked or not devices:
            return
        self._checked = topology
        known = {device.address: device for device in devices}
        for address, device in sorted(self.described().items()):
            if address not in known:
                LOG.warning('[gpu_lease] topology_file has %s on this host, '
                            'where Nova has no such device; correct the file '
                            'or [pci] device_spec.', address)
            elif None not in (device.numa_node, known[address].numa_node) \
                    and device.numa_node != known[address].numa_node:
                LOG.warning(
                    '[gpu_lease] topology_file has %s on NUMA node %d, the '
                    'hypervisor reports %d. The file counts for which devices '
                    'a server gets together; correct it.', address,
                    device.numa_node, known[address].numa_node)
