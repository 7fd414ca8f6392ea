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

"""Servers that change their flavor: the lease follows.

One test for each row of the second table of
``doc/source/reference/server-actions.rst``.
"""

import fixtures

from tests.functional import actions
from tests.functional import nova_fixtures


class ResizeCases:
    """In both ways that Nova counts devices."""

    def setUp(self):
        super().setUp()
        self.cpu = self.flavor('')
        self.one = self.flavor('gpu:1')
        self.two = self.flavor('gpu:2')
        self.timed = self.flavor('gpu:1', gpu_lease__default_duration='2h')

    def resize(self, server, flavor, api=None):
        self.act(server, 'resize', {'flavorRef': flavor}, api or self.api)

    def resized(self, server, flavor):
        self.resize(server, flavor)
        self.wait_until_idle(server, 'VERIFY_RESIZE')

    def confirm(self, server):
        self.act(server, 'confirmResize', api=self.api)
        self.wait_until_idle(server, 'ACTIVE')

    def revert(self, server):
        self.act(server, 'revertResize', api=self.api)
        self.wait_until_idle(server, 'ACTIVE')

    def without_gpu(self):
        server = self.create('cpu', hints={}, flavor=self.cpu)
        self.wait_for_status(server, 'ACTIVE')
        return server

    def test_into_begins_a_lease(self):
        server = self.without_gpu()
        self.resized(server, self.timed)
        lease = self.wait_for_lease(server, 'ACTIVE')
        launched = self.api.get_server(server)['OS-SRV-USG:launched_at']
        self.assertEqual(launched[:19], lease['started_at'][:19])
        self.assertEqual((7200, {'gpu': 1}),
                         (lease['duration'], lease['devices']))
        self.confirm(server)
        self.assert_goes_on(server, lease)
        self.assertEqual({self.host_of(server): 1}, self.held(server))
        self.assert_ends_shelved(server)
        # From then on it is a leased server like any other.
        self.act(server, 'unshelve', api=self.api)
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual(7200, self.wait_for_lease(
            server, 'ACTIVE')['duration'])

    def test_within_changes_the_devices(self):
        server = self.leased()
        before = self.lease(server)
        source = self.host_of(server)
        self.resized(server, self.two)
        target = self.host_of(server)
        self.wait_for_held(server, {source: 1, target: 2})
        self.wait_for('two devices', lambda: self.lease(
            server)['devices'] == {'gpu': 2})
        self.confirm(server)
        self.wait_for_held(server, {target: 2})
        self.assert_goes_on(server, before, devices={'gpu': 2},
                            flavor=self.api.get_server(server)['flavor'][
                                'original_name'])
        self.assert_ends_shelved(server)

    def test_within_and_reverted(self):
        server = self.leased()
        before = self.lease(server)
        source = self.host_of(server)
        self.resized(server, self.two)
        self.wait_for('two devices', lambda: self.lease(
            server)['devices'] == {'gpu': 2})
        self.revert(server)
        self.wait_for_held(server, {source: 1})
        self.wait_for('one device', lambda: self.lease(
            server)['devices'] == {'gpu': 1})
        self.assert_goes_on(server, before)
        # The next move asks for what it has.
        self.assert_ends_shelved(server)
        self.act(server, 'unshelve', api=self.api)
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual(1, sum(self.held(server).values()))

    def test_out_ends_the_lease_when_confirmed(self):
        server = self.leased()
        before = self.lease(server)
        source = self.host_of(server)
        self.resized(server, self.cpu)
        self.wait_for_held(server, {source: 1})
        self.assert_goes_on(server, before)
        self.confirm(server)
        lease = self.wait_for_lease(server, 'RELEASED')
        self.assertIn('resized', lease['reason'])
        self.wait_for_held(server, {})
        self.assertEqual('ACTIVE', self.status(server))


class ResizeTest(ResizeCases, actions.ActionTestCase):

    # Into a GPU flavor

    def test_into_and_reverted(self):
        server = self.without_gpu()
        self.resized(server, self.timed)
        self.wait_for_lease(server, 'ACTIVE')
        self.revert(server)
        lease = self.wait_for_lease(server, 'RELEASED')
        self.assertIn('resized', lease['reason'])
        self.wait_for_held(server, {})

    def test_into_ends_before_it_is_confirmed(self):
        """The work since the resize is kept."""
        server = self.without_gpu()
        self.resized(server, self.timed)
        self.wait_for_lease(server, 'ACTIVE')
        self.assert_ends_shelved(server)
        self.assertEqual(self.timed, self.instance(server).flavor.flavorid)

    def test_into_without_a_free_device_is_refused(self):
        full = self.create_gang('full', 4)
        self.wait_for_status(full, 'ACTIVE')
        server = self.without_gpu()
        self.resize(server, self.timed)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertIn('No valid host', lease['reason'])
        self.wait_until_idle(server, 'ACTIVE')
        self.assertEqual(self.cpu, self.instance(server).flavor.flavorid)

    def test_into_without_terms_has_no_lease(self):
        server = self.without_gpu()
        self.resized(server, self.one)
        self.confirm(server)
        self.assertIsNone(self.lease(server))
        self.assertEqual({self.host_of(server): 1}, self.held(server))

    def test_into_is_refused_where_a_lease_is_required(self):
        server = self.without_gpu()
        required = self.flavor('gpu:1', gpu_lease__required='true')
        answer = self.api.api_post(
            '/servers/%s/action' % server,
            {'resize': {'flavorRef': required}}, check_response_status=None)
        self.assertEqual(400, answer.status)
        error = answer.body['badRequest']
        self.assertEqual('gpu_lease.resize.refused', error['gpu_lease_code'])
        self.assertIn('gpu_lease=2h', error['message'])
        self.assertEqual('ACTIVE', self.status(server))
        # Somebody else learns nothing.
        other = self.client_of('other', 'other-project')
        self.assertRaises(nova_fixtures.NotFound, self.resize, server,
                          required, api=other)

    def test_into_whose_lease_cannot_be_noted_is_refused(self):
        server = self.without_gpu()
        self.useFixture(fixtures.MockPatch(
            'nova_gpu_lease.db.api.request_create',
            side_effect=RuntimeError('away')))
        self.resize(server, self.timed)
        self.wait_for('a fault', lambda: 'could not be written down' in str(
            self.faults(server)))
        self.wait_until_idle(server, 'ACTIVE')
        self.assertEqual(self.cpu, self.instance(server).flavor.flavorid)
        self.assertEqual(4, self.free_devices())

    def test_into_fails_on_its_host(self):
        server = self.without_gpu()
        self.useFixture(fixtures.MockPatchObject(
            self.virt.driver, 'finish_migration',
            side_effect=RuntimeError('no guest')))
        self.resize(server, self.timed)
        self.wait_until_idle(server, 'ERROR')
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertIn('RuntimeError', lease['reason'])
        # Nova leaves the device with the server.
        self.api.delete_server(server)
        self.wait_for_held(server, {})
        self.assert_no_leaks()

    # Within GPU flavors

    def test_within_ends_before_it_is_confirmed(self):
        server = self.leased()
        self.resized(server, self.two)
        self.assert_ends_shelved(server)

    def test_within_is_refused_when_the_lease_is_too_long(self):
        server = self.leased()
        short = self.flavor('gpu:1', gpu_lease__max_duration='30m')
        self.assertIn('30m', str(self.assertRaises(
            nova_fixtures.ApiException, self.resize, server, short)))
        self.assertEqual('ACTIVE', self.status(server))

    # Out of a GPU flavor

    def test_out_and_reverted(self):
        server = self.leased()
        before = self.lease(server)
        self.resized(server, self.cpu)
        self.revert(server)
        self.assert_goes_on(server, before)
        self.wait_for_held(server, {self.host_of(server): 1})
        self.assert_ends_shelved(server)

    def test_out_ends_before_it_is_confirmed(self):
        """Confirming it frees the device: the server may stay."""
        for on_expiry in ('shelve', 'delete'):
            server = self.leased(on_expiry, {
                'gpu_lease': '1h', 'gpu_lease_on_expiry': on_expiry})
            self.resized(server, self.cpu)
            self.end(server)
            self.wait_for_lease(server, 'RELEASED')
            self.wait_until_idle(server, 'ACTIVE')
            self.wait_for_held(server, {})


class ResizePlacementTest(ResizeCases, actions.ActionTestCase):
    PCI_IN_PLACEMENT = True
