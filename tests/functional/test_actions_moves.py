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

"""Servers that are moved, and hosts that go: the lease follows.

One test for each row of the last tables of
``doc/source/reference/server-actions.rst``.
"""

from tests.functional import actions


class MoveCases:
    """In both ways that Nova counts devices."""

    def down(self, host):
        """A host that Nova, being told, holds for down."""
        self.service(host, forced_down=True)
        self.computes[host].stop()

    def migrated(self, server, host=None):
        self.act(server, 'migrate', {'host': host} if host else None)
        self.wait_until_idle(server, 'VERIFY_RESIZE')

    def test_cold_migration(self):
        server = self.leased()
        before = self.lease(server)
        source = self.host_of(server)
        target = self.other(source)
        self.migrated(server)
        self.wait_for_held(server, {source: 1, target: 1})
        self.assert_goes_on(server, before)
        self.act(server, 'confirmResize', api=self.api)
        self.wait_until_idle(server, 'ACTIVE')
        self.wait_for_held(server, {target: 1})
        self.assert_goes_on(server, before)
        self.assert_ends_shelved(server)

    def test_cold_migration_takes_no_device_that_is_next(self):
        server, _, head = self.blocked()
        before = self.lease(server)
        for count, body in enumerate((None, {'host': 'host2'}), 1):
            self.act(server, 'migrate', body)
            self.wait_for('the refusal', lambda: len(
                self.faults(server)) == count)
            self.wait_until_idle(server, 'ACTIVE')
            self.assertEqual('host1', self.host_of(server))
            self.assert_goes_on(server, before)
        self.assertIn('No valid host', self.faults(server)[0])
        self.assertEqual('QUEUED', self.lease(head)['status'])
        self.assertEqual(1, self.free_devices())

    def test_evacuation(self):
        server = self.leased(hints={'gpu_lease': '1h'})
        before = self.lease(server)
        source = self.host_of(server)
        self.down(source)
        self.act(server, 'evacuate', {})
        self.wait_until_idle(server, 'SHUTOFF')
        target = self.other(source)
        self.assertEqual(target, self.host_of(server))
        self.assert_goes_on(server, before)
        self.wait_for('the host', lambda: self.lease(
            server, self.admin_api)['host'] == target)
        self.end(server)
        self.wait_for_status(server, 'SHELVED_OFFLOADED')


class MoveTest(MoveCases, actions.ActionTestCase):

    # Cold migration

    def test_cold_migration_to_host(self):
        server = self.leased()
        before = self.lease(server)
        target = self.other(self.host_of(server))
        self.migrated(server, target)
        self.assertEqual(target, self.host_of(server))
        self.assert_goes_on(server, before)

    def test_cold_migration_reverted(self):
        server = self.leased()
        before = self.lease(server)
        source = self.host_of(server)
        self.migrated(server)
        self.act(server, 'revertResize', api=self.api)
        self.wait_until_idle(server, 'ACTIVE')
        self.wait_for_held(server, {source: 1})
        self.assert_goes_on(server, before)

    def test_cold_migration_ends_before_it_is_confirmed(self):
        server = self.leased()
        self.migrated(server)
        self.assert_ends_shelved(server)

    def test_resize_takes_no_device_that_is_next(self):
        _, _, head = self.blocked()
        server = self.create('cpu', hints={}, flavor=self.flavor(''))
        self.wait_for_status(server, 'ACTIVE')
        self.act(server, 'resize', {'flavorRef': self.flavor(
            'gpu:1', gpu_lease__default_duration='2h')}, api=self.api)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertIn('No valid host', lease['reason'])
        self.wait_until_idle(server, 'ACTIVE')
        self.assertEqual('QUEUED', self.lease(head)['status'])

    # Live migration

    def test_live_migration_is_refused_by_nova(self):
        server = self.leased()
        before = self.lease(server)
        host = self.host_of(server)
        for count, (target, more, api) in enumerate((
                (None, {}, None), (self.other(host), {}, None),
                (self.other(host), {'force': True}, self.admin_of('2.67'))),
                1):
            self.act(server, 'os-migrateLive', dict(
                more, host=target, block_migration='auto'), api)
            self.wait_for('the refusal', lambda: len(
                self.faults(server)) == count)
            self.wait_until_idle(server, 'ACTIVE')
            self.assertEqual(host, self.host_of(server))
        self.assert_goes_on(server, before)
        self.assertEqual({host: 1}, self.held(server))

    # Hosts that are away

    def test_evacuated_server_ends_where_it_is(self):
        """The new host's own clock says so."""
        server = self.leased(hints={'gpu_lease': '12s'})
        self.down(self.host_of(server))
        self.act(server, 'evacuate', {})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')

    def test_evacuation_takes_no_device_that_is_next(self):
        server, _, head = self.blocked()
        before = self.lease(server)
        self.down('host1')
        self.act(server, 'evacuate', {})
        self.wait_until_idle(server, 'ERROR')
        self.assertIn('No valid host', self.faults(server)[0])
        self.assertEqual('host1', self.host_of(server))
        self.assert_goes_on(server, before)
        self.assertEqual('QUEUED', self.lease(head)['status'])

    def test_forced_evacuation_takes_it_and_the_plan_adapts(self):
        server, there, head = self.blocked()
        before = self.lease(server)
        self.down('host1')
        self.act(server, 'evacuate', {'host': 'host2', 'force': True},
                 self.admin_of('2.67'))
        self.wait_for('the move', lambda: self.host_of(server) == 'host2')
        self.wait_for_held(server, {'host1': 1, 'host2': 1})
        self.assert_goes_on(server, before)
        self.assert_plan_adapts(server, there, head)

    def test_host_disabled(self):
        server = self.leased()
        before = self.lease(server)
        host = self.host_of(server)
        self.service(host, status='disabled')
        elsewhere = self.leased('elsewhere', flavor=self.flavor('gpu:2'))
        self.assertEqual(self.other(host), self.host_of(elsewhere))
        waits = self.create('waits')
        self.wait_for_lease(waits, 'QUEUED')
        self.assert_goes_on(server, before)
        self.assert_ends_shelved(server)
        self.look()
        self.assertEqual(2, self.free_devices())
        self.assertEqual('QUEUED', self.lease(waits)['status'])
        self.service(host, status='enabled')
        self.wait_for_status(waits, 'ACTIVE')
        self.assertEqual(host, self.host_of(waits))

    def test_host_down_and_back(self):
        server = self.leased(hints={'gpu_lease': '12s'})
        before = self.lease(server)
        host = self.host_of(server)
        self.down(host)
        self.wait_for('the time', lambda: self.lease(
            server)['remaining'] <= 0)
        self.assert_goes_on(server, before)
        self.service(host, forced_down=False)
        self.computes[host] = self.restart_compute_service(
            self.computes[host])
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')

    def test_compute_service_deleted(self):
        server = self.leased()
        before = self.lease(server)
        host = self.host_of(server)
        service = self.admin_api.get_services(
            binary='nova-compute', host=host)[0]
        answer = self.admin_api.api_delete(
            '/os-services/%s' % service['id'], check_response_status=None)
        # Nova deletes no service that has servers.
        self.assertEqual(409, answer.status)
        self.assert_goes_on(server, before)
        self.assert_ends_shelved(server)

    # At create

    def test_create_in_zone_on_host(self):
        """``az:host`` leaves the filters out, not the queue."""
        first = self.leased('first', flavor=self.flavor('gpu:2'),
                            host='host1', api=self.admin_api)
        server = self.create('second', api=self.admin_api,
                             availability_zone='nova:host1')
        self.wait_for_lease(server, 'QUEUED')
        self.assertEqual(2, self.free_devices())
        self.api.delete_server(first)
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual('host1', self.host_of(server))
        self.wait_for_lease(server, 'ACTIVE')


class MovePlacementTest(MoveCases, actions.ActionTestCase):
    PCI_IN_PLACEMENT = True

    def test_forced_evacuation_is_refused_by_nova(self):
        server, _, head = self.blocked()
        before = self.lease(server)
        self.down('host1')
        self.act(server, 'evacuate', {'host': 'host2', 'force': True},
                 self.admin_of('2.67'))
        self.wait_for('the refusal', lambda: 'complex allocations' in str(
            self.faults(server)))
        self.assertEqual('host1', self.host_of(server))
        self.assert_goes_on(server, before)
        self.assertEqual('QUEUED', self.lease(head)['status'])
