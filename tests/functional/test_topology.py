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


"""The topology: devices of one server, and servers that start together."""

import os

import fixtures

from nova_gpu_lease.cmd import status
from nova_gpu_lease.scheduler import places
from tests.functional import base
from tests.functional import test_survey

NVLINK = """
devices:
  - hosts: [host1]
    nvlink_groups:
      a: ["0000:81:00.0", "0000:83:00.0"]
      b: ["0000:82:00.0", "0000:84:00.0"]
"""

NETWORK = """
levels: [{name: switch, ratio: 2}, {name: rack}]
network:
  s1: {r1: [%s], r2: [%s]}
  s2: {r3: [%s, %s]}
"""


class TopologyFileMixin:
    """With a topology file for all services."""

    TOPOLOGY = None

    def _setup_services(self):
        self.path = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'topology.yaml')
        self.write(self.TOPOLOGY)
        self.flags(group='gpu_lease', topology_file=self.path)
        super()._setup_services()

    def write(self, text):
        with open(self.path, 'w') as stream:
            stream.write(text)


class DeviceCases(TopologyFileMixin):
    """Four devices in two NVLink groups, not in the order of addresses."""

    GPUS = {'host1': {'gpu': 4}}
    TOPOLOGY = NVLINK

    def addresses(self, name, number, hints=None):
        """The buses of the devices of a new server."""
        server = self.create(name, hints, self.flavor('gpu:%d' % number))
        self.wait_for_status(server, 'ACTIVE')
        return {address[5:7] for address, holder
                in self.devices('host1').items() if holder == server}

    def test_two_devices_are_of_one_nvlink_group(self):
        groups = [{'81', '83'}, {'82', '84'}]
        found = [self.addresses('one', 2), self.addresses('two', 2)]
        self.assertEqual(groups, sorted(found, key=sorted))
        guests = self.virt.driver.guests
        self.assertEqual(
            found, [{address[5:7] for address in guests[name]}
                    for name in ('one', 'two')])

    def test_one_device_leaves_a_group_whole(self):
        first, = self.addresses('first', 1)
        second, = self.addresses('second', 1)
        group = {'81', '83'} if first in ('81', '83') else {'82', '84'}
        self.assertEqual(group, {first, second})
        self.assertEqual({'81', '82', '83', '84'} - group,
                         self.addresses('both', 2))

    def test_it_is_no_reason_to_wait(self):
        self.assertEqual(3, len(self.addresses('three', 3)))
        self.assertEqual(1, len(self.addresses('last', 1)))

    def test_a_server_without_a_lease(self):
        self.assertIn(self.addresses('plain', 2, {}),
                      [{'81', '83'}, {'82', '84'}])


class DeviceTest(DeviceCases, base.CloudTestCase):
    """The compute chooses the devices."""


class DevicePlacementTest(DeviceCases, base.CloudTestCase):
    """The scheduler chooses the devices."""

    PCI_IN_PLACEMENT = True


class GangTest(TopologyFileMixin, test_survey.SurveyMixin,
               base.CloudTestCase):
    """Four hosts with a device each."""

    GPUS = {'host%d' % number: {'gpu': 1} for number in range(1, 5)}
    TOPOLOGY = NETWORK % ('host1', 'host2', 'host3', 'host4')

    def hosts_of_gang(self, name, count=2):
        servers = self.create_gang(name, count)
        self.wait_for_status(servers, 'ACTIVE')
        found = {self.host_of(server) for server in servers}
        for server in servers:
            self.api.delete_server(server)
            self.wait_for_status(server, None)
        self.wait_for('free devices', lambda: self.free_devices() == 4)
        return found

    def test_a_gang_is_under_one_switch(self):
        nodes, _ = self.survey()
        self.assertEqual([['s2', 'r3'], [2, 1]], [
            list(nodes['host4'][key]) for key in ('place', 'steps')])
        self.assertEqual({'host3', 'host4'}, self.hosts_of_gang('one'))
        # The file is read again when it changes, and not if it is wrong.
        self.write(NETWORK % ('host3', 'host4', 'host1', 'host2'))
        self.assertEqual({'host1', 'host2'}, self.hosts_of_gang('two'))
        self.write(NETWORK % ('host3', 'host3', 'host4', 'host2'))
        self.assertEqual({'host1', 'host2'}, self.hosts_of_gang('three'))

    def test_what_is_free_counts(self):
        plain = self.create('plain', {}, api=self.admin_api,
                            availability_zone='nova:host4')
        self.wait_for_status(plain, 'ACTIVE')
        servers = self.create_gang('gang', 2)
        self.wait_for_status(servers, 'ACTIVE')
        self.assertEqual({'host1', 'host2'},
                         {self.host_of(server) for server in servers})


class AggregateTest(test_survey.SurveyMixin, base.CloudTestCase):
    """Places from the metadata of aggregates."""

    GPUS = {'host%d' % number: {'gpu': 1} for number in range(1, 4)}

    def aggregate(self, place, *hosts):
        made = self.admin_api.post_aggregate(
            {'aggregate': {'name': place.replace('/', '-')}})
        for host in hosts:
            self.admin_api.add_host_to_aggregate(made['id'], host)
        self.admin_api.post_aggregate_action(
            made['id'], {'set_metadata': {'metadata': {places.KEY: place}}})

    def test_a_gang_is_under_one_switch(self):
        self.aggregate('s1/r1', 'host1')
        self.aggregate('s2', 'host2', 'host3')
        self.aggregate('s2/r2', 'host3')
        nodes, _ = self.survey()
        self.assertEqual(
            {'host1': ['s1', 'r1'], 'host2': ['s2'], 'host3': ['s2', 'r2']},
            {host: list(node['place']) for host, node in nodes.items()})
        # The upgrade check looks at the same.
        aggregates, hosts, with_devices = status.known_hosts()
        self.assertEqual({'host1', 'host2', 'host3'}, hosts & with_devices)
        self.assertEqual(['s1-r1', 's2', 's2-r2'],
                         sorted(item.name for item in aggregates))
        servers = self.create_gang('gang', 2)
        self.wait_for_status(servers, 'ACTIVE')
        self.assertEqual({'host2', 'host3'},
                         {self.host_of(server) for server in servers})
