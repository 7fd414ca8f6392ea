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

"""Who starts when, and what becomes of requests that do not start."""

import time

from nova import context as nova_context
from nova import objects

from tests.functional import base
from tests.functional import nova_fixtures


class QueueCases:
    """One host with two GPUs, in both ways that Nova counts devices."""

    GPUS = {'host1': {'gpu': 2}}

    def test_two_devices_are_not_starved_by_one(self):
        first = [self.create('first-%d' % number) for number in (1, 2)]
        self.wait_for_status(first, 'ACTIVE')
        both = self.create('both', flavor=self.flavor('gpu:2'))
        later = self.create('later')
        self.wait_for_lease(later, 'QUEUED')
        self.api.delete_server(first[0])
        self.wait_for('a free device', lambda: self.free_devices() == 1)
        # It is kept for the one that was first.
        time.sleep(1)
        self.assertEqual(['QUEUED', 'QUEUED'], [
            self.lease(server)['status'] for server in (both, later)])
        self.api.delete_server(first[1])
        self.wait_for_status(both, 'ACTIVE')
        self.assertEqual([['later']], self.waiting())
        self.api.delete_server(both)
        self.wait_for_status(later, 'ACTIVE')

    def test_server_without_lease_cannot_take_reserved_device(self):
        first = [self.create('first-%d' % number) for number in (1, 2)]
        self.wait_for_status(first, 'ACTIVE')
        both = self.create('both', flavor=self.flavor('gpu:2'))
        self.wait_for_lease(both, 'QUEUED')
        # What comes before the first plan with it is not behind it.
        self.look()
        self.api.delete_server(first[0])
        self.wait_for('a free device', lambda: self.free_devices() == 1)
        thief = self.create('thief', hints={})
        self.wait_for_status(thief, 'ERROR')
        self.api.delete_server(first[1])
        self.wait_for_status(both, 'ACTIVE')

    def test_deleted_while_waiting_leaves_the_queue(self):
        first = self.create('first', flavor=self.flavor('gpu:2'))
        self.wait_for_status(first, 'ACTIVE')
        gone = self.create('gone')
        after = self.create('after')
        self.wait_for_lease(after, 'QUEUED')
        self.api.delete_server(gone)
        self.wait_for_status(gone, None)
        self.wait_for(lambda: self.waiting(),
                      lambda: self.waiting() == [['after']])
        self.wait_for_lease(gone, 'CANCELLED')
        self.wait_for('position 1', lambda: self.lease(
            after)['position'] == 1)
        self.api.delete_server(first)
        self.wait_for_status(after, 'ACTIVE')
        self.assertIsNone(self.status(gone))

    def test_request_that_never_fits_fails_at_once(self):
        first = self.create('first', flavor=self.flavor('gpu:2'))
        self.wait_for_status(first, 'ACTIVE')
        server = self.create('many', flavor=self.flavor('gpu:3'))
        self.wait_for_status(server, 'ERROR')
        self.assertIn('gpu', self.api.get_server(server)['fault']['message'])
        self.wait_for_lease(server, 'CANCELLED')

    def test_temporary_lack_of_memory_waits_and_blocks_nobody(self):
        large = dict(memory_mb=self.virt.driver.memory_mb - 2048, vcpu=1,
                     disk=1)
        cpu = self.create('cpu', hints={},
                          flavor=self._create_flavor(**large))
        self.wait_for_status(cpu, 'ACTIVE')
        server = self.create('large', flavor=self._create_flavor(
            extra_spec={'pci_passthrough:alias': 'gpu:1'}, **large))
        self.wait_for_lease(server, 'QUEUED')
        self.wait_for(lambda: self.lease(server)['reason'], lambda:
                      'MB of memory' in self.lease(server)['reason'])
        other = self.create('other')
        self.wait_for_status(other, 'ACTIVE')
        self.api.delete_server(cpu)
        self.api.delete_server(other)
        self.wait_for_status(server, 'ACTIVE')

    def test_failed_build_wakes_the_next(self):
        self.virt.driver.fail_spawn.add('broken')
        blocker = self.create('blocker')
        self.wait_for_status(blocker, 'ACTIVE')
        with self.virt.hold('host1'):
            broken = self.create('broken')
            self.wait_for_lease(broken, 'BUILDING')
            after = self.create('after')
            self.wait_for_lease(after, 'QUEUED')
        self.wait_for_status(broken, 'ERROR')
        self.wait_for_status(after, 'ACTIVE')

    def test_deleted_while_building(self):
        with self.virt.hold('host1'):
            server = self.create('one', flavor=self.flavor('gpu:2'))
            self.wait_for_lease(server, 'BUILDING')
            self.wait_for('the claim', lambda: self.free_devices() == 0)
            after = self.create('after')
            self.wait_for_lease(after, 'QUEUED')
            self.api.delete_server(server)
        self.wait_for_status(server, None)
        self.wait_for_status(after, 'ACTIVE')
        # Nova deletes it when it is built.
        self.wait_for('the end of the lease', lambda: self.lease(server)[
            'status'] in ('CANCELLED', 'RELEASED'))
        self.assert_no_leaks()


class QueueTest(QueueCases, base.CloudTestCase):

    def test_twenty_requests_start_in_order(self):
        names = ['s%02d' % number for number in range(20)]
        servers = {name: self.create(name) for name in names}
        self.wait_for_status([servers['s00'], servers['s01']], 'ACTIVE')
        self.wait_for(lambda: self.waiting(), lambda: self.waiting() == [
            [name] for name in names[2:]])
        self.wait_for('positions', lambda: [
            self.lease(servers[name])['position']
            for name in names[2:]] == list(range(1, 19)))
        for number, name in enumerate(names):
            self.wait_for_status(servers[name], 'ACTIVE')
            left = [[later] for later in names[number + 2:]]
            self.wait_for(lambda: self.waiting(),
                          lambda: self.waiting() == left)
            self.api.delete_server(servers[name])
        started = [lease['server_name'] for lease in self.leases(
            '?sort=started_at:asc')]
        self.assertEqual(names, started)
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.assert_no_leaks()

    def test_wait_limit_ends_in_error_with_reason(self):
        first = self.create('first', flavor=self.flavor('gpu:2'))
        self.wait_for_status(first, 'ACTIVE')
        late = self.create('late', {'gpu_lease': '1h',
                                    'gpu_lease_wait': '4s'})
        lease = self.wait_for_lease(late, 'QUEUED')
        self.assertIsNotNone(lease['wait_until'])
        self.wait_for_status(late, 'ERROR')
        fault = self.api.get_server(late)['fault']['message']
        self.assertIn('wait limit of 4s', fault)
        self.wait_for_lease(late, 'CANCELLED')
        self.assertEqual([], self.queue())
        self.api.delete_server(late)
        self.wait_for_status(late, None)
        self.assertEqual('ACTIVE', self.status(first))

    def test_renamed_while_waiting_keeps_its_name(self):
        first = self.create('first', flavor=self.flavor('gpu:2'))
        self.wait_for_status(first, 'ACTIVE')
        waiting = self.create('old')
        self.wait_for_lease(waiting, 'QUEUED')
        self.api.put_server(waiting, {'server': {'name': 'new'}})
        self.api.delete_server(first)
        self.wait_for_status(waiting, 'ACTIVE')
        self.assertEqual('new', self.api.get_server(waiting)['name'])

    def test_too_much_memory_fails_at_once(self):
        flavor = self._create_flavor(
            memory_mb=10 ** 6, vcpu=1, disk=1,
            extra_spec={'pci_passthrough:alias': 'gpu:1'})
        server = self.create('large', flavor=flavor)
        self.wait_for_status(server, 'ERROR')
        self.assertIn('1000000 MB of memory',
                      self.api.get_server(server)['fault']['message'])

    def test_failed_build_buries_the_server_and_frees_the_device(self):
        self.virt.driver.fail_spawn.add('broken')
        blocker = self.create('blocker')
        self.wait_for_status(blocker, 'ACTIVE')
        broken = self.create('broken')
        self.wait_for_status(broken, 'ERROR')
        self.wait_for_lease(broken, 'CANCELLED')
        self.assertIn('the guest did not start',
                      self.lease(broken)['reason'])
        after = self.create('after')
        self.wait_for_status(after, 'ACTIVE')

    def test_other_failures_still_bury_the_server(self):
        """What Nova's own path fails is failed as under stock Nova."""
        server = self.create('one', hints={}, flavor=self.flavor('gpu:3'))
        self.wait_for_status(server, 'ERROR')
        self.assertIn('No valid host',
                      self.api.get_server(server)['fault']['message'])
        self.assertIsNone(self.lease(server))

    def test_vanished_image_fails_with_reason(self):
        first = self.create('first', flavor=self.flavor('gpu:2'))
        self.wait_for_status(first, 'ACTIVE')
        image = self.glance.create(None, {
            'name': 'short-lived', 'disk_format': 'raw',
            'container_format': 'bare'})
        server = self.create('one', imageRef=image['id'])
        self.wait_for_lease(server, 'QUEUED')
        self.glance.delete(None, image['id'])
        self.api.delete_server(first)
        self.wait_for_status(server, 'ERROR')
        self.assertIn(image['id'],
                      self.api.get_server(server)['fault']['message'])
        self.wait_for_lease(server, 'CANCELLED')

    def test_other_project_sees_nothing(self):
        other = self.client_of('other', 'other-project')
        server = self.create('mine')
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual([], self.leases(api=other))
        self.assertIsNone(self.lease(server, api=other))
        self.assertEqual([], self.queue(api=other))
        self.assertRaises(nova_fixtures.ApiException, self.leases,
                          '?all_projects=1', api=other)
        self.assertEqual(1, len(self.leases('?all_projects=1',
                                            api=self.admin_api)))

    def test_disabled_host_waits_until_enabled(self):
        self.service('host1', status='disabled')
        server = self.create('one')
        self.wait_for_lease(server, 'QUEUED')
        time.sleep(1)
        self.assertEqual('QUEUED', self.lease(server)['status'])
        self.service('host1', status='enabled')
        self.wait_for_status(server, 'ACTIVE')

    def test_host_that_comes_back_wakes_the_queue(self):
        self.admin_api.put_service_force_down(
            self.admin_api.get_services(binary='nova-compute')[0]['id'],
            True)
        self.computes['host1'].stop()
        server = self.create('one')
        self.wait_for_lease(server, 'QUEUED')
        self.computes['host1'] = self.restart_compute_service(
            self.computes['host1'])
        # Not through the API, which would wake the queue itself.
        context = nova_context.get_admin_context()
        nova_context.set_target_cell(context, self.cell_mappings['cell1'])
        service = objects.Service.get_by_compute_host(context, 'host1')
        service.forced_down = False
        service.save()
        self.wait_for_status(server, 'ACTIVE')


class GangCases:
    """Four GPUs on three hosts, and another model."""

    GPUS = {'host1': {'gpu': 2, 'h200': 1}, 'host2': {'gpu': 1},
            'host3': {'gpu': 1}}

    def test_gang_of_three_waits_for_gang_of_two(self):
        two = self.create_gang('two', 2)
        self.wait_for_status(two, 'ACTIVE')
        three = self.create_gang('three', 3)
        self.wait_for_lease(three[0], 'QUEUED')
        after = self.create('after')
        other_model = self.create('model', flavor=self.flavor('h200:1'))
        self.wait_for_status(other_model, 'ACTIVE')
        time.sleep(1)
        # Two of four devices are free: the gang of three is not torn apart,
        # and the one behind it does not pass.
        self.assertEqual([['three-1', 'three-2', 'three-3'], ['after']],
                         self.waiting())
        self.assertEqual({'QUEUED'}, {
            self.lease(server)['status'] for server in three + [after]})
        self.api.delete_server(two[0])
        self.wait_for_status(three, 'ACTIVE')
        self.assertEqual([['after']], self.waiting())
        self.assertEqual(0, len([
            1 for host in ('host2', 'host3')
            for server in self.devices(host).values() if server is None]))
        leases = [self.lease(server) for server in three]
        self.assertEqual(1, len({lease['request_id'] for lease in leases}))
        self.api.delete_server(two[1])
        self.wait_for_status(after, 'ACTIVE')
        self.assert_no_leaks()


class GangTest(GangCases, base.CloudTestCase):

    def test_one_of_a_waiting_gang_deleted(self):
        first = self.create_gang('first', 4)
        self.wait_for_status(first, 'ACTIVE')
        gang = self.create_gang('gang', 3)
        self.wait_for_lease(gang[0], 'QUEUED')
        self.api.delete_server(gang[1])
        self.wait_for_lease(gang[1], 'CANCELLED')
        for server in first[:2]:
            self.api.delete_server(server)
        self.wait_for_status([gang[0], gang[2]], 'ACTIVE')

    def test_gang_that_never_fits_fails_as_a_whole(self):
        gang = self.create_gang('gang', 5)
        self.wait_for_status(gang, 'ERROR')
        for server in gang:
            self.wait_for_lease(server, 'CANCELLED')

    def test_servers_are_packed(self):
        first = self.create('first')
        self.wait_for_status(first, 'ACTIVE')
        self.assertIn(self.host_of(first), ('host2', 'host3'))
        both = self.create('both', flavor=self.flavor('gpu:2'))
        self.wait_for_status(both, 'ACTIVE')
        self.assertEqual('host1', self.host_of(both))


class QueuePlacementTest(QueueCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True


class GangPlacementTest(GangCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True
