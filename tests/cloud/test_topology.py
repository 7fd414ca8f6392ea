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


"""Gangs and devices near to each other, by a topology file."""

import pathlib
import tempfile

from tests.cloud import base

LAYOUT = """
hosts:
  - name: a1
    gpus: [{count: 1}]
  - name: a2
    gpus: [{count: 1}]
  - name: b1
    gpus: [{count: 1}]
  - name: b2
    gpus:
      - {model: h100, nvlink_group: x}
      - {model: h100, nvlink_group: y}
      - {model: h100, nvlink_group: x}
      - {model: h100, nvlink_group: y}
  - name: c1
    gpus: [{count: 1}]
"""

# Not in the order of the names, in which a gang would go to a1 and a2.
TOPOLOGY = """
levels:
  - {name: site}
  - {name: switch, ratio: 2}
network:
  here:
    switch1: [a1]
    switch2: [b1, b2]
    switch3: [a2, c1]
"""


class TopologyTest(base.CloudTestCase):
    """Five hosts below three switches."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.topology = cls.folder / 'topology.yaml'
        cls.topology.write_text(TOPOLOGY)
        layout = cls.folder / 'layout.yaml'
        layout.write_text(LAYOUT)
        cls.UP = {'layout': str(layout)}
        cls.SET = ('gpu_lease.topology_file=%s' % cls.topology,)
        super().setUpClass()

    def hosts(self, *names):
        """The hosts of servers, as the client shows them to an admin."""
        return {server['Name']: server['Host'] for server in self.openstack(
            'server list --all-projects --long -c Name -c Host', base.ADMIN)
            if server['Name'] in names}

    def test_a_gang_of_two_is_under_one_switch(self):
        self.create('gang', extra=['--min', '2', '--max', '2'])
        self.wait_statuses(**{'gang-1': 'ACTIVE', 'gang-2': 'ACTIVE'})
        self.assertEqual({'a2', 'c1'}, set(
            self.hosts('gang-1', 'gang-2').values()))

    def test_two_devices_are_of_one_nvlink_group(self):
        self.openstack('flavor create --vcpus 1 --ram 512 --disk 1 '
                       '--property pci_passthrough:alias=h100:2 pair',
                       base.ADMIN)
        for name in ('first', 'second'):
            self.create(name, flavor='pair')
        self.wait_statuses(first='ACTIVE', second='ACTIVE')
        devices = {}
        for address, server in self.devices().items():
            devices.setdefault(server, set()).add(address)
        self.assertEqual(
            [{'b2 0000:10:00.0', 'b2 0000:12:00.0'},
             {'b2 0000:11:00.0', 'b2 0000:13:00.0'}],
            sorted(devices.values(), key=sorted))
