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

"""A nova-compute dies in the middle of its work, and comes back."""

import datetime

import fixtures
from nova.compute import claims

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.db import api as db
from tests.functional import base
from tests.functional import driver
from tests.functional import test_unshelve


class InterruptedCases(test_unshelve.UnshelveMixin):
    """For both ways in which Nova may count devices."""

    GPUS = {'host1': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        leave = claims.Claim.__exit__

        def die(claim, kind, *args):
            if kind is not driver.Died:
                leave(claim, kind, *args)

        self.useFixture(
            fixtures.MonkeyPatch('nova.compute.claims.Claim.__exit__', die))

    def dies(self, name, after=False):
        """Have nova-compute die in the next build of a server."""
        place = 'die_after' if after else 'die_before'
        getattr(self.virt.driver, place).add(name)

    def restart(self, server, task='spawning'):
        """Start a nova-compute again, once it died."""
        virt = self.virt.driver
        self.wait_for('its death', lambda: not (
            virt.die_before or virt.die_after or virt.die_snapshot))
        self.assertEqual(('host1', task),
                         (self.host_of(server), self.task(server)))
        self.assertEqual([server], list(self.devices('host1').values()))
        self.computes['host1'].stop()
        self.computes['host1'] = self.restart_compute_service(
            self.computes['host1'])

    def guests(self):
        return self.computes['host1'].manager.driver.list_instance_uuids()

    def assert_built_again(self, server):
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        lease = db.lease_current(server)
        self.assertEqual(1, lease.build_attempts)
        self.assertEqual([server], self.guests())
        self.assertEqual(0, self.free_devices())
        self.assert_no_leaks()

    def test_build_without_a_guest_yet(self):
        self.dies('again')
        server = self.create('again')
        self.restart(server)
        self.assert_built_again(server)

    def test_build_with_a_guest(self):
        self.dies('again', after=True)
        server = self.create('again')
        self.restart(server)
        self.assert_built_again(server)
        self.assertEqual(2, len(self.virt.driver.spawns))

    def test_it_is_before_those_who_wait(self):
        self.dies('first')
        first = self.create('first')
        self.create('second')
        self.restart(first)
        self.assert_built_again(first)
        self.assertEqual([['second']], self.waiting())

    def test_last_try_ends_with_its_reason(self):
        self.flags(max_build_attempts=1, group='gpu_lease')
        self.dies('once', after=True)
        server = self.create('once')
        self.restart(server)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertIn(rpcapi.INTERRUPTED, lease['reason'])
        shown = self.api.get_server(server)
        self.assertEqual('ERROR', shown['status'])
        self.assertEqual(lease['reason'], shown['fault']['message'])
        self.assertEqual([], self.guests())
        self.wait_for('the device', lambda: self.free_devices() == 1)
        self.assertEqual({}, self._get_allocations_by_server_uuid(server))
        after = self.create('after')
        self.wait_for_status(after, 'ACTIVE')

    def test_unshelve(self):
        server = self.shelved('again')
        image = self.instance(server).image_ref
        self.dies('again')
        self.unshelve(server)
        self.restart(server)
        self.assert_built_again(server)
        self.assertEqual(image, self.instance(server).image_ref)

    def test_last_try_to_unshelve_is_not_silent(self):
        server = self.shelved('once')
        self.flags(max_build_attempts=1, group='gpu_lease')
        self.dies('once')
        self.unshelve(server)
        self.restart(server)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertIn(rpcapi.INTERRUPTED, lease['reason'])
        self.assertEqual('SHELVED_OFFLOADED', self.status(server))
        self.assertEqual({}, self._get_allocations_by_server_uuid(server))
        self.assertIn(lease['reason'], str(self.events(server)))
        self.wait_for('the device', lambda: self.free_devices() == 1)
        self.unshelve(server)
        self.wait_for_status(server, 'ACTIVE')

    def events(self, server):
        """What the events of the newest action of a server say."""
        action = self.admin_api.get_instance_actions(server)[0]
        return [event['details'] for event in self.admin_api.api_get(
            '/servers/%s/os-instance-actions/%s' % (
                server, action['request_id'])
            ).body['instanceAction']['events']]

    def test_unshelve_keeps_a_guest(self):
        """Its snapshot may be gone: Nova deletes that before it is done."""
        server = self.shelved('kept')
        self.dies('kept', after=True)
        self.unshelve(server)
        self.restart(server)
        self.wait_for_status(server, 'ERROR')
        self.assertEqual(rpcapi.INTERRUPTED,
                         self.api.get_server(server)['fault']['message'])
        self.assertEqual([server], self.guests())
        self.assertEqual([server], list(self.devices('host1').values()))
        # It holds a device, and not for ever.
        lease = self.wait_for_lease(server, 'ACTIVE')
        db.lease_set(db.lease_get(lease['id']), expires_at=clock.now())
        self.computes['host1'].manager._lease_timer.freed()
        self.wait_for_lease(server, 'EXPIRED')
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for('the device', lambda: self.free_devices() == 1)

    def test_server_without_a_lease_is_left_to_nova(self):
        self.dies('stock')
        server = self.create('stock', hints={})
        self.restart(server)
        self.wait_for_status(server, 'ERROR')
        self.assertEqual('host1', self.host_of(server))
        self.assertEqual([server], list(self.devices('host1').values()))

    def test_shelve_at_the_end(self):
        """It is tried again at once, and counts as an outage."""
        # Of the images that are made from now on.
        self.glance.timestamp = clock.now()
        self.virt.driver.die_snapshot.add('ends')
        server = self.create('ends', {'gpu_lease': '4s'})
        self.wait_for('its death',
                      lambda: not self.virt.driver.die_snapshot)
        self.glance.timestamp += datetime.timedelta(seconds=1)
        self.restart(server, 'shelving_image_uploading')
        self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual('SHELVED_OFFLOADED', self.status(server))
        lease = db.lease_get(server)
        self.assertEqual((1, 1), (lease.attempts, lease.outages))
        self.assertIn(rpcapi.SHELVE_INTERRUPTED, lease.last_error)
        kept = self.instance(server).system_metadata['shelved_image_id']
        self.assertEqual([kept], [
            image['id'] for image in self.glance.images.values()
            if image['name'] == 'ends-shelved'])
        self.assert_no_leaks()


class InterruptedTest(InterruptedCases, base.CloudTestCase):
    pass


class InterruptedPlacementTest(InterruptedCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True
