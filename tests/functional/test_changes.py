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

"""What a server is made of changes while it waits for its device."""

import copy
import datetime

import fixtures
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova import rpc
from oslo_utils import uuidutils

from nova_gpu_lease.conductor import dispatcher
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from tests.functional import base
from tests.functional import nova_fixtures


class ChangesBase(base.CloudTestCase):
    """One device, which is in use while things change."""

    GPUS = {'host1': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        self.blocker = self.create('blocker')
        self.wait_for_lease(self.blocker, 'ACTIVE')

    def queued(self, name, **values):
        server = self.create(name, **values)
        self.wait_for_lease(server, 'QUEUED')
        return server

    def refused(self, call, *args):
        exc = self.assertRaises(nova_fixtures.ApiException, call, *args)
        self.assertEqual(409, exc.response.status_code, exc)

    def volume(self, volume_id, boot=False):
        """The block devices of a server with a volume."""
        disks = [{'boot_index': 0, 'uuid': base.IMAGE,
                  'source_type': 'image', 'destination_type': 'local'}]
        if boot:
            disks = []
        return disks + [{
            'boot_index': 0 if boot else -1, 'uuid': volume_id,
            'source_type': 'volume', 'destination_type': 'volume'}]

    def left_of(self, server_id):
        """What Nova's API database still holds of a server."""
        context = nova_context.get_admin_context()
        left = set()
        for kind in (objects.BuildRequest, objects.InstanceMapping,
                     objects.RequestSpec):
            try:
                kind.get_by_instance_uuid(context, server_id)
            except nova_exception.NotFound:
                continue
            left.add(kind.__name__)
        return left


class UsedTest(ChangesBase):

    def test_what_is_renamed_or_deleted_without_harm(self):
        """What the server has from its create call, and what is new."""
        flavor = self._create_flavor(
            vcpu=2, memory_mb=1024, disk=1,
            extra_spec={'pci_passthrough:alias': 'gpu:1'})
        self.api.post_keypair({'keypair': {
            'name': 'mine', 'type': 'ssh', 'public_key':
                'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHb3SvO3eKSTSL4iFOQQGhYp'
                'uOnsx3ZKcX2PaTHi4tFt mine'}})
        group = self.api.post_server_groups(
            {'name': 'apart', 'policy': 'anti-affinity'})
        image = self.glance.create(None, {
            'name': 'changed', 'disk_format': 'raw',
            'container_format': 'bare', 'properties': {}})
        server = self.queued(
            'old', hints={'gpu_lease': '1h', 'group': group['id']},
            flavor=flavor, key_name='mine', imageRef=image['id'],
            tags=['first'], metadata={'kept': 'yes'})

        self.api.put_server(server, {'server': {
            'name': 'new', 'description': 'changed'}})
        self.assertEqual('new', self.lease(server)['server_name'])
        self.admin_api.post_extra_spec(
            flavor, {'extra_specs': {'pci_passthrough:alias': 'gpu:9'}})
        self.admin_api.delete_flavor(flavor)
        self.api.api_delete('/os-keypairs/mine')
        self.api.api_delete('/os-server-groups/%s' % group['id'])
        self.glance.update(None, image['id'], {
            'name': 'other', 'properties': {'hw_numa_nodes': '64'}})
        for action in ({'lock': {'locked_reason': 'mine'}},
                       {'addSecurityGroup': {'name': 'default'}},
                       {'rebuild': {'imageRef': base.IMAGE}},
                       {'os-stop': None}):
            self.refused(self.api.post_server_action, server, action)
        self.refused(self.admin_api.post_server_action, server,
                     {'os-resetState': {'state': 'error'}})
        self.refused(self.api.api_post, '/servers/%s/metadata' % server,
                     {'metadata': {'late': 'yes'}})
        self.refused(self.api.api_put, '/servers/%s/tags' % server,
                     {'tags': ['late']})

        self.api.delete_server(self.blocker)
        self.wait_for_status(server, 'ACTIVE')
        shown = self.api.get_server(server)
        self.assertEqual(
            ('new', 'changed', 'mine', {'kept': 'yes'}, ['first'], 2, False),
            (shown['name'], shown['description'], shown['key_name'],
             shown['metadata'], shown['tags'], shown['flavor']['vcpus'],
             shown['locked']))
        self.assertEqual('gpu:1', shown['flavor']['extra_specs'][
            'pci_passthrough:alias'])
        self.assertTrue(self.instance(server).keypairs[0].public_key)
        self.assertEqual([], shown['server_groups'])
        self.assert_no_leaks()


class GoneTest(ChangesBase):

    def test_what_is_gone_fails_and_the_next_starts_at_once(self):
        """Every part that can go, and one request behind them all."""
        images = [self.glance.create(None, {
            'name': 'short-lived', 'disk_format': 'raw',
            'container_format': 'bare'})['id'] for _ in range(2)]
        ports = [dict(self.neutron.port_1, id=uuidutils.generate_uuid(),
                      mac_address='00:0c:29:00:00:%02x' % number)
                 for number in range(2)]
        for port in ports:
            self.neutron._ports[port['id']] = port
        network = dict(copy.deepcopy(self.neutron.network_1),
                       id=uuidutils.generate_uuid())
        self.neutron._networks[network['id']] = network
        volumes = [uuidutils.generate_uuid(), self.cinder.IMAGE_BACKED_VOL]

        servers = {
            'image': self.queued('image', imageRef=images[0]),
            'deactivated': self.queued('deactivated', imageRef=images[1]),
            'port': self.queued('port', networks=[{'port': ports[0]['id']}]),
            'bound': self.queued('bound', networks=[
                {'port': ports[1]['id']}]),
            'network': self.queued('network', networks=[
                {'uuid': network['id']}]),
            'volume': self.queued(
                'volume', block_device_mapping_v2=self.volume(volumes[0])),
            'detached': self.queued(
                'detached', imageRef='',
                block_device_mapping_v2=self.volume(volumes[1], boot=True)),
        }
        last = self.queued('last')
        names = {
            'image': images[0], 'deactivated': images[1],
            'port': ports[0]['id'], 'bound': ports[1]['id'],
            'network': network['id'], 'volume': volumes[0]}

        self.glance.delete(None, images[0])
        self.glance.update(None, images[1], {'status': 'deactivated'})
        self.neutron.delete_port(ports[0]['id'])
        ports[1]['device_id'] = uuidutils.generate_uuid()
        del self.neutron._networks[network['id']]
        names['detached'], = self.cinder.attachment_ids_for_instance(
            servers['detached'])
        self.cinder.delete_vol_attachment(volumes[1])
        self.lose_volume(volumes[0])

        self.api.delete_server(self.blocker)
        self.wait_for_status(list(servers.values()), 'ERROR')
        self.wait_for_status(last, 'ACTIVE')
        for name, server in servers.items():
            fault = self.api.get_server(server)['fault']['message']
            self.assertIn('while the server waited', fault, name)
            self.assertIn(names[name], fault, name)
            lease = self.wait_for_lease(server, 'CANCELLED')
            self.assertEqual(fault, lease['reason'])
            self.assertEqual({}, self._get_allocations_by_server_uuid(server))
        # Nobody took a port from the one who has it.
        self.assertEqual({}, self.neutron._port_bindings[ports[1]['id']])
        for server in servers.values():
            self.api.delete_server(server)
        for server in servers.values():
            self.wait_for_status(server, None)
            self.assertEqual(
                [], self.cinder.attachment_ids_for_instance(server))
        self.assert_no_leaks()

    def lose_volume(self, lost):
        found = self.cinder.fake_get

        def get(context, volume_id, *args, **kwargs):
            if volume_id == lost:
                raise nova_exception.VolumeNotFound(volume_id=lost)
            return found(context, volume_id, *args, **kwargs)

        self.useFixture(fixtures.MockPatch(
            'nova.volume.cinder.API.get', side_effect=get, autospec=False))

    def test_snapshot_of_a_shelved_server(self):
        """It stays shelved, and can be unshelved when its image is back."""
        server = self.blocker
        self.api.post_server_action(server, {'shelve': {}})
        self.wait_for_status(server, 'SHELVED')
        self.admin_api.post_server_action(server, {'shelveOffload': {}})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        image = self.instance(server).system_metadata['shelved_image_id']
        other = self.create('other')
        self.wait_for_lease(other, 'ACTIVE')
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_lease(server, 'QUEUED')
        last = self.queued('last')
        self.glance.update(None, image, {'status': 'deactivated'})
        self.api.delete_server(other)
        self.wait_for_status(last, 'ACTIVE')
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertIn(image, lease['reason'])
        self.assertEqual('SHELVED_OFFLOADED', self.status(server))
        self.assertIsNone(self.instance(server).task_state)
        self.assertEqual({}, self._get_allocations_by_server_uuid(server))
        self.glance.update(None, image, {'status': 'active'})
        self.api.delete_server(last)
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')
        self.assert_no_leaks()


class DeletedTest(ChangesBase):

    def test_deleted_servers_leave_nothing(self):
        port = self.neutron.port_1['id']
        servers = []
        for delete in (
                self.api.delete_server,
                lambda server: self.api.post_server_action(
                    server, {'forceDelete': None})):
            server = self.queued(
                'volume', imageRef='', networks=[{'port': port}],
                block_device_mapping_v2=self.volume(
                    self.cinder.IMAGE_BACKED_VOL, boot=True))
            self.assertEqual(
                1, len(self.cinder.attachment_ids_for_instance(server)))
            delete(server)
            self.wait_for_status(server, None)
            self.wait_for_lease(server, 'CANCELLED')
            servers.append(server)
        for server in servers:
            self.assertEqual(
                [], self.cinder.attachment_ids_for_instance(server))
            self.assertEqual(set(), self.left_of(server))
        self.assertEqual({}, self.neutron._port_bindings[port])
        self.assertEqual([], self.queue())
        after = self.queued('after')
        self.api.delete_server(self.blocker)
        self.wait_for_status(after, 'ACTIVE')
        self.assert_no_leaks()

    def test_force_deleted_while_it_waits_to_be_unshelved(self):
        port = self.neutron.port_1['id']
        volume = self.cinder.IMAGE_BACKED_VOL
        server = self.queued(
            'volume', imageRef='', networks=[{'port': port}],
            block_device_mapping_v2=self.volume(volume, boot=True))
        self.api.delete_server(self.blocker)
        self.wait_for_lease(server, 'ACTIVE')
        self.api.post_server_action(server, {'shelve': {}})
        # Nova offloads at once what has no disk of its own.
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'RELEASED')
        blocker = self.create('blocker')
        self.wait_for_lease(blocker, 'ACTIVE')
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_lease(server, 'QUEUED')
        self.assertEqual('unshelving', self.instance(server).task_state)
        # Nova's tests know no force-delete of a server that has no host.
        self.useFixture(fixtures.MockPatchObject(
            rpc.LegacyValidatingNotifier, 'fatal', False))
        self.api.post_server_action(server, {'forceDelete': None})
        self.wait_for_status(server, None)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertIn('deleted', lease['reason'])
        self.assertEqual([], self.cinder.attachment_ids_for_instance(server))
        self.assertEqual({}, self.neutron._port_bindings[port])
        self.assertEqual({}, self._get_allocations_by_server_uuid(server))
        self.assertEqual([], self.queue())
        after = self.queued('after')
        self.api.delete_server(blocker)
        self.wait_for_status(after, 'ACTIVE')
        self.assert_no_leaks()


class BandwidthTest(ChangesBase):
    """Ports whose QoS policies change."""

    GPUS = {'host1': {'gpu': 4}}
    EGRESS = 'NET_BW_EGR_KILOBIT_PER_SEC'

    def setUp(self):
        super().setUp()
        self.nic = uuidutils.generate_uuid()
        self.placement.post('/resource_providers', {
            'name': 'nic', 'uuid': self.nic, 'parent_provider_uuid':
                self._get_provider_uuid_by_host('host1')}, version='1.20')
        self.placement.put(
            '/resource_providers/%s/inventories' % self.nic, {
                'resource_provider_generation': 0,
                'inventories': {self.EGRESS: {'total': 10000}}})

    def ask(self, port, bandwidth):
        """Have a port ask for so many kilobits per second, or for none."""
        port['resource_request'] = bandwidth and {
            'resources': {self.EGRESS: bandwidth}, 'required': []}

    def port(self, number, bandwidth):
        port = dict(copy.deepcopy(self.neutron.port_1),
                    id=uuidutils.generate_uuid(),
                    mac_address='00:0c:29:00:00:%02x' % number)
        self.ask(port, bandwidth)
        self.neutron._ports[port['id']] = port
        return port

    def claimed(self, server):
        claim = self._get_allocations_by_server_uuid(server).get(self.nic)
        return claim and claim['resources'][self.EGRESS]

    def test_bandwidth_is_what_the_port_asks_for_by_then(self):
        rest = self.create('rest', flavor=self.flavor('gpu:3'))
        self.wait_for_lease(rest, 'ACTIVE')
        # At first, and when it starts.
        changes = [(1000, 2000), (None, 3000), (1000, None)]
        ports = [self.port(number, before)
                 for number, (before, _) in enumerate(changes)]
        servers = [self.queued('server-%d' % number, networks=[
            {'port': port['id']}]) for number, port in enumerate(ports)]
        for port, (_, after) in zip(ports, changes):
            self.ask(port, after)
        self.api.delete_server(rest)
        self.api.delete_server(self.blocker)
        self.wait_for_status(servers, 'ACTIVE')
        self.assertEqual([2000, 3000, None],
                         [self.claimed(server) for server in servers])
        for server in servers:
            self.api.delete_server(server)
        for server in servers:
            self.wait_for_status(server, None)
        self.assert_no_leaks()

    def test_bandwidth_that_changes_while_a_build_fails(self):
        port = self.port(1, 1000)
        self.virt.driver.fail_spawn.add('again')
        with self.virt.hold('host1'):
            server = self.create('again', networks=[{'port': port['id']}])
            self.wait_for('the build', lambda: self.virt.driver.holds)
            self.assertEqual(1000, self.claimed(server))
            self.ask(port, 2000)
        self.wait_for('a failed try', lambda: self.virt.driver.spawns[1:])
        self.virt.driver.fail_spawn.clear()
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual(2000, self.claimed(server))


class PlacesBase(ChangesBase):
    """Where a server may go is what holds when it starts."""

    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    def setUp(self):
        super(ChangesBase, self).setUp()
        self.zone = self.admin_api.post_aggregate({'aggregate': {
            'name': 'there', 'availability_zone': 'there'}})['id']
        self.admin_api.add_host_to_aggregate(self.zone, 'host1')
        self.on = {}
        for host, zone in (('host1', 'there'), ('host2', 'nova')):
            self.on[host] = self.create(host, availability_zone=zone)
            self.wait_for_lease(self.on[host], 'ACTIVE')
            self.assertEqual(host, self.host_of(self.on[host]))

    def leave_zone(self, host):
        self.admin_api.post_aggregate_action(
            self.zone, {'remove_host': {'host': host}})

    def enable(self, host, enabled=True):
        self.service(host, status='enabled' if enabled else 'disabled')

    def empty(self, host):
        free = self.free_devices()
        self.api.delete_server(self.on[host])
        # Its record goes after its device.
        self.wait_for_status(self.on[host], None)
        self.wait_for('a free device',
                      lambda: self.free_devices() == free + 1)


class PlacesTest(PlacesBase):

    def test_zone_that_moves_and_goes(self):
        self.useFixture(fixtures.MockPatchObject(
            dispatcher, 'NEW', datetime.timedelta(0)))
        self.useFixture(fixtures.MockPatchObject(
            dispatcher, 'STANDS', datetime.timedelta(seconds=3)))
        moved = self.queued('moved', availability_zone='there')
        gone = self.queued('gone', availability_zone='there')
        last = self.queued('last')
        # Another host becomes the zone; only empty ones change theirs.
        for host in ('host1', 'host2'):
            self.enable(host, False)
            self.empty(host)
        self.admin_api.add_host_to_aggregate(self.zone, 'host2')
        self.leave_zone('host1')
        self.enable('host2')
        self.wait_for_status(moved, 'ACTIVE')
        self.assertEqual('host2', self.host_of(moved))

        self.enable('host2', False)
        self.on['host2'] = moved
        self.empty('host2')
        self.leave_zone('host2')
        self.enable('host1')
        self.wait_for_status(last, 'ACTIVE')
        self.wait_for_status(gone, 'ERROR')
        self.assertIn('the zone', self.api.get_server(
            gone)['fault']['message'])
        self.wait_for_lease(gone, 'CANCELLED')
        self.assert_no_leaks()

    def test_member_of_a_server_group_that_came_later(self):
        group = self.api.post_server_groups(
            {'name': 'apart', 'policy': 'anti-affinity'})
        waits = self.queued('waits', hints={
            'gpu_lease': '1h', 'group': group['id']})
        member = self.create(
            'member', hints={'group': group['id']}, flavor=self.flavor(''),
            availability_zone='there')
        self.wait_for_status(member, 'ACTIVE')
        # There its group is, by now.
        self.empty('host1')
        self.wait_for(
            lambda: self.lease(waits), lambda:
            db.lease_current(waits).request.reason_code == 'devices')
        self.assertEqual('QUEUED', self.lease(waits)['status'])
        self.api.delete_server(self.on['host2'])
        self.wait_for_status(waits, 'ACTIVE')
        self.assertEqual('host2', self.host_of(waits))
        self.assert_no_leaks()


class AggregateTest(PlacesBase):
    """Hosts are chosen by the metadata of their aggregates."""

    def _setup_services(self):
        self.flags(
            enabled_filters=CONF.filter_scheduler.enabled_filters + [
                'AggregateInstanceExtraSpecsFilter'],
            group='filter_scheduler')
        super()._setup_services()

    def describe(self, aggregate, model):
        self.admin_api.post_aggregate_action(
            aggregate, {'set_metadata': {'metadata': {'model': model}}})

    def test_metadata_that_moves(self):
        here = self.admin_api.post_aggregate(
            {'aggregate': {'name': 'here'}})['id']
        self.admin_api.add_host_to_aggregate(here, 'host2')
        self.describe(self.zone, 'new')
        self.describe(here, 'old')
        waits = self.queued('waits', flavor=self.flavor(
            'gpu:1', aggregate_instance_extra_specs__model='new'))
        self.describe(here, 'new')
        self.describe(self.zone, 'old')
        self.empty('host1')
        self.look()
        self.assertEqual('QUEUED', self.lease(waits)['status'])
        self.api.delete_server(self.on['host2'])
        self.wait_for_status(waits, 'ACTIVE')
        self.assertEqual('host2', self.host_of(waits))
        self.assert_no_leaks()
