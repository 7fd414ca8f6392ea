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

"""Actions that leave a server where it is, with the devices it has.

One test for each row of the first tables of
``doc/source/reference/server-actions.rst``.
"""

import time

from nova.compute import power_state
from nova.compute import vm_states
from nova import context as nova_context
from nova.virt import event as virt_event

from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.db import api as db
from tests.functional import actions
from tests.functional import base
from tests.functional import nova_fixtures


class StayTest(actions.ActionTestCase):
    """The clock goes on and the devices stay held; at its end it ends."""

    GPUS = {'host1': {'gpu': 2}}

    def setUp(self):
        super().setUp()
        self.server = self.leased()
        self.before = self.lease(self.server)

    def does(self, action, body, status):
        self.act(self.server, action, body, api=self.api)
        self.wait_until_idle(self.server, status)
        self.assert_goes_on(self.server, self.before)
        self.assertEqual({'host1': 1}, self.held(self.server))

    def test_stop_and_end(self):
        self.does('os-stop', None, 'SHUTOFF')
        self.assert_ends_shelved(self.server)

    def test_start(self):
        self.does('os-stop', None, 'SHUTOFF')
        self.does('os-start', None, 'ACTIVE')

    def test_reboot_soft(self):
        self.does('reboot', {'type': 'SOFT'}, 'ACTIVE')

    def test_reboot_hard(self):
        self.does('reboot', {'type': 'HARD'}, 'ACTIVE')

    def test_pause_and_end(self):
        self.does('pause', None, 'PAUSED')
        self.assert_ends_shelved(self.server)

    def test_unpause(self):
        self.does('pause', None, 'PAUSED')
        self.does('unpause', None, 'ACTIVE')

    def test_suspend_and_end(self):
        self.does('suspend', None, 'SUSPENDED')
        self.assert_ends_shelved(self.server)

    def test_resume(self):
        self.does('suspend', None, 'SUSPENDED')
        self.does('resume', None, 'ACTIVE')

    def test_rescue_and_end(self):
        self.does('rescue', None, 'RESCUE')
        self.assert_ends_shelved(self.server)

    def test_unrescue(self):
        self.does('rescue', None, 'RESCUE')
        self.does('unrescue', None, 'ACTIVE')

    def test_rebuild(self):
        self.does('rebuild', {'imageRef': base.IMAGE}, 'ACTIVE')

    def test_lock(self):
        self.does('lock', None, 'ACTIVE')
        self.flags(expiry_attempts=1, group='gpu_lease')
        self.end(self.server)
        lease = self.wait_for_lease(self.server, 'ERROR')
        self.assertIn('locked', lease['reason'])
        self.assertEqual({'host1': 1}, self.held(self.server))

    def test_unlock(self):
        self.does('lock', None, 'ACTIVE')
        self.does('unlock', None, 'ACTIVE')
        self.assert_ends_shelved(self.server)

    def test_backup(self):
        self.does('createBackup', {
            'name': 'copy', 'backup_type': 'daily', 'rotation': 1}, 'ACTIVE')

    def test_create_image(self):
        self.does('createImage', {'name': 'copy'}, 'ACTIVE')

    def test_swap_volume(self):
        old = nova_fixtures.CinderFixture.SWAP_OLD_VOL
        new = nova_fixtures.CinderFixture.SWAP_NEW_VOL
        self.api.post_server_volume(
            self.server, {'volumeAttachment': {'volumeId': old}})
        self.wait_for('the volume', lambda: old in
                      self.cinder.volume_ids_for_instance(self.server))
        self.admin_api.put_server_volume(self.server, old, new)
        self.wait_for('the swap', lambda: [new] == [
            volume['volumeId'] for volume in
            self.api.get_server_volumes(self.server)])
        self.assert_goes_on(self.server, self.before)
        self.assertEqual({'host1': 1}, self.held(self.server))

    def test_reset_state_to_error_and_end(self):
        self.act(self.server, 'os-resetState', {'state': 'error'})
        self.wait_until_idle(self.server, 'ERROR')
        self.assert_goes_on(self.server, self.before)
        self.assertEqual({'host1': 1}, self.held(self.server))
        self.assert_ends_shelved(self.server)

    def test_reset_state_to_active(self):
        self.act(self.server, 'os-resetState', {'state': 'error'})
        self.act(self.server, 'os-resetState', {'state': 'active'})
        self.wait_until_idle(self.server, 'ACTIVE')
        self.assert_goes_on(self.server, self.before)
        self.assert_ends_shelved(self.server)

    def test_soft_delete_and_end(self):
        self.flags(reclaim_instance_interval=3600)
        self.api.delete_server(self.server)
        self.wait_until_idle(self.server, 'SOFT_DELETED')
        self.assert_goes_on(self.server, self.before)
        self.assertEqual({'host1': 1}, self.held(self.server))
        self.end(self.server)
        self.wait_for_status(self.server, None)
        self.wait_for_lease(self.server, 'RELEASED')
        self.wait_for_held(self.server, {})

    def test_restore(self):
        self.flags(reclaim_instance_interval=3600)
        self.api.delete_server(self.server)
        self.wait_until_idle(self.server, 'SOFT_DELETED')
        self.does('restore', None, 'ACTIVE')

    def test_force_delete(self):
        self.flags(reclaim_instance_interval=3600)
        self.act(self.server, 'forceDelete', api=self.api)
        self.wait_for_status(self.server, None)
        self.wait_for_lease(self.server, 'RELEASED')
        self.wait_for_held(self.server, {})

    def test_action_that_runs_at_the_end_is_no_failed_try(self):
        instance = self.instance(self.server)
        instance.task_state = 'rebooting'
        instance.save()
        self.end(self.server)
        self.wait_for('the reason', lambda: 'busy' in (
            self.lease(self.server)['reason'] or ''))
        instance.vm_state = vm_states.ERROR
        instance.task_state = None
        instance.save()
        self.wait_for_status(self.server, 'SHELVED_OFFLOADED')
        self.assertEqual(0, self.wait_for_lease(
            self.server, 'EXPIRED')['attempts'])


class ShelveTest(actions.ActionTestCase):
    """The end that an owner brings about, and the way back."""

    def test_shelve_holds_the_devices(self):
        server = self.leased()
        before = self.lease(server)
        host = self.host_of(server)
        self.act(server, 'shelve', api=self.api)
        self.wait_until_idle(server, 'SHELVED')
        self.assert_goes_on(server, before)
        self.assertEqual({host: 1}, self.held(server))
        # Unshelved from there it needs no place in the queue.
        self.act(server, 'unshelve', api=self.api)
        self.wait_until_idle(server, 'ACTIVE')
        self.assert_goes_on(server, before)
        self.act(server, 'shelve', api=self.api)
        self.wait_until_idle(server, 'SHELVED')
        self.assert_ends_shelved(server)

    def shelved(self):
        server = self.leased()
        self.act(server, 'shelve', api=self.api)
        self.wait_until_idle(server, 'SHELVED')
        self.act(server, 'shelveOffload')
        self.wait_until_idle(server, 'SHELVED_OFFLOADED')
        return server

    def test_shelve_offload_ends_the_lease(self):
        server = self.shelved()
        self.assertEqual('the server was shelved', self.wait_for_lease(
            server, 'RELEASED')['reason'])
        self.wait_for_held(server, {})

    def test_unshelve_to_host(self):
        server = self.shelved()
        first = self.wait_for_lease(server, 'RELEASED')
        others = self.create_gang('other', 4)
        self.wait_for_status(others, 'ACTIVE')
        self.act(server, 'unshelve', {'host': 'host2'})
        self.wait_for_lease(server, 'QUEUED')
        on_host = {self.host_of(other): other for other in others}
        # What frees elsewhere is not for it.
        self.api.delete_server(on_host['host1'])
        self.wait_for('a free device', lambda: self.free_devices() == 1)
        time.sleep(1)
        self.assertEqual('QUEUED', self.lease(server)['status'])
        self.api.delete_server(on_host['host2'])
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual('host2', self.host_of(server))
        second = self.wait_for_lease(server, 'ACTIVE')
        self.assertNotEqual(first['id'], second['id'])

    def test_unshelve_to_zone(self):
        server = self.shelved()
        self.wait_for_lease(server, 'RELEASED')
        aggregate = self.admin_api.post_aggregate({'aggregate': {
            'name': 'far', 'availability_zone': 'far'}})
        self.admin_api.add_host_to_aggregate(aggregate['id'], 'host2')
        self.act(server, 'unshelve', {'availability_zone': 'far'},
                 api=self.api)
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual('host2', self.host_of(server))
        self.wait_for_lease(server, 'ACTIVE')


class PoweredOffTest(actions.ActionTestCase):
    """Where the lease of a server that is off ends early."""

    GPUS = {'host1': {'gpu': 1}}

    def leased_until_off(self, limit):
        self.server = self.leased(flavor=self.flavor(
            gpu_lease__end_when_off=limit))
        self.before = self.lease(self.server)

    def stop(self):
        self.act(self.server, 'os-stop', api=self.api)
        self.wait_for_status(self.server, 'SHUTOFF')

    def assert_ended_early(self):
        lease = self.wait_for_lease(self.server, 'EXPIRED')
        self.assertIn('powered off', lease['reason'])
        self.assertEqual('powered_off', db.lease_get(
            self.server).reason_code)
        self.assertLess(lease['expires_at'],
                        self.before['expires_at'])
        return lease

    def test_stopped_server_ends_its_lease(self):
        self.leased_until_off('3s')
        after = self.create('after')
        self.wait_for_lease(after, 'QUEUED')
        self.stop()
        self.assertEqual('shelved', self.assert_ended_early()['end_action'])
        self.assertEqual('SHELVED_OFFLOADED', self.status(self.server))
        self.wait_for_status(after, 'ACTIVE')
        self.assert_no_leaks()

    def test_guest_that_powers_itself_off_ends_its_lease(self):
        self.leased_until_off('1s')
        self.virt.driver.fail_snapshot.add('one')
        driver = self.computes['host1'].manager.driver
        driver.instances[self.server].state = power_state.SHUTDOWN
        driver.emit_event(virt_event.LifecycleEvent(
            self.server, virt_event.EVENT_LIFECYCLE_STOPPED))
        # It says so after a failed try, too.
        self.wait_for('a failed try',
                      lambda: self.lease(self.server)['attempts'])
        self.virt.driver.fail_snapshot.clear()
        self.assertEqual('shelved', self.assert_ended_early()['end_action'])

    def test_started_before_its_end_is_told(self):
        self.leased_until_off('1h')

        def tell():
            lease = db.lease_current(self.server)
            rpcapi.ConductorAPI().lease_off(
                nova_context.get_admin_context(), lease.uuid,
                lease.generation, 3600)

        tell()
        self.assert_goes_on(self.server, self.before)
        self.stop()
        tell()
        self.assert_ended_early()

    def test_started_again_in_time(self):
        self.leased_until_off('10s')
        self.stop()
        self.act(self.server, 'os-start', api=self.api)
        self.wait_until_idle(self.server, 'ACTIVE')
        time.sleep(11)
        self.assert_goes_on(self.server, self.before)
