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

"""What happens at the end of a lease, and after it."""

import time

from nova.compute import task_states
from oslo_utils import timeutils

from tests.functional import base
from tests.functional import nova_fixtures


def seconds_between(earlier, later):
    return (timeutils.parse_isotime(later) -
            timeutils.parse_isotime(earlier)).total_seconds()


class ExpiryCases:
    """Two GPUs on two hosts, in both ways that Nova counts devices."""

    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        self.flags(expiry_attempts=2, group='gpu_lease')

    def leased(self, name, duration='6s', **hints):
        """A server that runs, with a short lease."""
        server = self.create(name, dict({'gpu_lease': duration}, **hints))
        self.wait_for_begin(server)
        return server

    def images(self, name):
        return [image for image in self.glance.detail(None)
                if image['name'] == '%s-shelved' % name]

    def test_shelve_at_expiry_keeps_the_work_and_starts_the_next(self):
        servers = [self.leased('one'), self.leased('two', '1h')]
        after = self.create('after')
        self.wait_for_lease(after, 'QUEUED')
        self.wait_for_status(servers[0], 'SHELVED_OFFLOADED')
        self.wait_for_status(after, 'ACTIVE')
        lease = self.wait_for_lease(servers[0], 'EXPIRED')
        self.assertEqual('shelved', lease['end_action'])
        self.assertLess(seconds_between(
            lease['expires_at'], lease['ended_at']), 10)
        image, = self.images('one')
        self.assertEqual(
            self.api.project_id, image['properties']['owner_project_name']
            if 'owner_project_name' in image['properties'] else
            image['properties']['owner'])
        self.assertEqual('ACTIVE', self.status(servers[1]))
        self.assert_no_leaks()

    def test_delete_at_expiry(self):
        server = self.leased('one', gpu_lease_on_expiry='delete')
        self.wait_for_status(server, None)
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual('deleted', lease['end_action'])
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.assert_no_leaks()

    def test_fallback_delete(self):
        self.flags(on_expiry_fallback='delete', group='gpu_lease')
        self.virt.driver.fail_snapshot.add('one')
        server = self.leased('one')
        self.wait_for_status(server, None)
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual('deleted', lease['end_action'])

    def test_unshelve_waits_in_the_queue(self):
        server = self.leased('one', '12s')
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')
        others = self.create_gang('other', 2)
        self.wait_for_status(others, 'ACTIVE')
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_lease(server, 'QUEUED')
        self.wait_for(lambda: self.queue(), lambda: [
            request['kind'] for request in self.queue()] == ['unshelve'])
        self.assertEqual('SHELVED_OFFLOADED', self.status(server))
        self.api.delete_server(others[0])
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')

    def test_failed_unshelve_keeps_the_work_and_the_queue_goes_on(self):
        server = self.leased('one', '12s')
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')
        self.virt.driver.fail_spawn.add('one')
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_lease(server, 'CANCELLED')
        self.assertEqual('SHELVED_OFFLOADED', self.status(server))
        self.assertIsNone(
            self.api.get_server(server)['OS-EXT-STS:task_state'])
        self.virt.driver.fail_spawn.clear()
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')


class ExpiryTest(ExpiryCases, base.CloudTestCase):

    def test_lease_starts_when_server_is_active(self):
        server = self.create('one', {'gpu_lease': '2h'})
        self.wait_for_status(server, 'ACTIVE')
        lease = self.wait_for_lease(server, 'ACTIVE')
        launched = self.api.get_server(server)['OS-SRV-USG:launched_at']
        self.assertEqual(launched[:19], lease['started_at'][:19])
        self.assertEqual(7200, seconds_between(
            lease['started_at'], lease['expires_at']))
        self.assertTrue(7100 < lease['remaining'] <= 7200)

    def test_locked_server_is_deleted_when_that_was_agreed(self):
        server = self.leased('one', gpu_lease_on_expiry='delete')
        self.admin_api.post_server_action(server, {'lock': None})
        self.wait_for_status(server, None)

    def test_fallback_keep_goes_on_trying(self):
        self.virt.driver.fail_snapshot.add('one')
        server = self.leased('one')
        lease = self.wait_for_lease(server, 'ERROR')
        self.assertTrue(lease['reason'])
        self.assertEqual('ACTIVE', self.status(server))
        self.assertEqual(1, self.free_devices())
        self.virt.driver.fail_snapshot.clear()
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')

    def test_locked_server_cannot_be_shelved_and_is_kept(self):
        server = self.leased('one')
        self.api.post_server_action(server, {'lock': None})
        lease = self.wait_for_lease(server, 'ERROR')
        self.assertIn('locked', lease['reason'])
        self.assertEqual('ACTIVE', self.status(server))
        self.api.post_server_action(server, {'unlock': None})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')

    def test_stopped_server_is_shelved_too(self):
        server = self.leased('one')
        self.api.post_server_action(server, {'os-stop': None})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')

    def test_busy_server_is_shelved_when_it_is_done(self):
        server = self.leased('one')
        self.admin_api.post_server_action(
            server, {'os-resetState': {'state': 'active'}})
        instance = self.instance(server)
        instance.task_state = task_states.REBOOTING
        instance.save()
        self.wait_for_lease(server, 'EXPIRING')
        time.sleep(1)
        self.assertEqual('EXPIRING', self.lease(server)['status'])
        instance.task_state = None
        instance.save()
        self.wait_for_status(server, 'SHELVED_OFFLOADED')

    def test_deleted_by_its_owner_is_released(self):
        server = self.leased('one', '1h')
        self.api.delete_server(server)
        lease = self.wait_for_lease(server, 'RELEASED')
        self.assertIsNotNone(lease['ended_at'])

    def test_shelved_by_its_owner_is_released_and_comes_back(self):
        self.flags(shelved_offload_time=0)
        server = self.leased('one', '1h')
        first = self.lease(server)
        self.api.post_server_action(server, {'shelve': None})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'RELEASED')
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')
        second = self.wait_for_lease(server, 'ACTIVE')
        self.assertNotEqual(first['id'], second['id'])

    def test_unshelve_after_expiry_is_a_new_lease_of_the_same_length(self):
        server = self.leased('one', '12s')
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        first = self.wait_for_lease(server, 'EXPIRED')
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')
        second = self.wait_for_lease(server, 'ACTIVE')
        self.assertNotEqual(first['id'], second['id'])
        self.assertEqual(12, second['duration'])
        self.assertEqual(2, len(self.leases('?server_id=%s' % server)))
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')

    def test_auto_extend_until_somebody_waits(self):
        self.flags(auto_extend_step='2s', group='gpu_lease')
        server = self.leased('one', gpu_lease_auto_extend='true')
        first = self.wait_for_lease(server, 'ACTIVE')['expires_at']
        self.wait_for('the extension', lambda: self.lease(
            server)['expires_at'] > first)
        others = self.create_gang('other', 2)
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_status(others, 'ACTIVE')

    def test_restarted_compute_ends_what_ended_meanwhile(self):
        server = self.leased('one', '12s')
        host = self.host_of(server)
        lease = self.wait_for_lease(server, 'ACTIVE')
        self.computes[host].stop()
        time.sleep(max(0, lease['remaining']) + 1)
        self.assertEqual('ACTIVE', self.lease(server)['status'])
        self.computes[host] = self.restart_compute_service(
            self.computes[host])
        self.wait_for_status(server, 'SHELVED_OFFLOADED', 10)
        self.wait_for_lease(server, 'EXPIRED')

    def test_restarted_conductor_ends_what_ended_meanwhile(self):
        server = self.leased('one', '12s')
        lease = self.wait_for_lease(server, 'ACTIVE')
        self.conductor.stop()
        time.sleep(max(0, lease['remaining']) + 1)
        self.conductor = self.start_service('conductor')
        self.addCleanup(self.conductor.stop)
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')

    def test_volume_backed_server_is_shelved_with_its_volume(self):
        volume = nova_fixtures.CinderFixture.IMAGE_BACKED_VOL
        body = self.body('volume', {'gpu_lease': '12s'})
        del body['server']['imageRef']
        body['server']['block_device_mapping_v2'] = [{
            'boot_index': 0, 'uuid': volume, 'source_type': 'volume',
            'destination_type': 'volume'}]
        server = self.api.post_server(body)['id']
        self.wait_for_status(server, 'ACTIVE')
        self.assertIn(volume, self.cinder.volume_ids_for_instance(server))
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual([], self.images('volume'))
        self.assertIn(volume, self.cinder.volume_ids_for_instance(server))
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')
        self.assertIn(volume, self.cinder.volume_ids_for_instance(server))
        self.wait_for_lease(server, 'ACTIVE')


class ExpiryPlacementTest(ExpiryCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True
