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


"""What a compute is answered that says a lease is over."""

from nova_gpu_lease.conductor import leases
from nova_gpu_lease.db import api
from nova_gpu_lease import exception
from tests import fixtures
from tests.unit.db import base

NOW = base.NOW


class DueTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.clock = self.useFixture(fixtures.ClockFixture(NOW))
        self.endpoint = leases.LeaseEndpoint(base.HOST)
        self.lease, = self.activate(
            'server', started_at=NOW - base.seconds(60), duration=60)

    def due(self):
        """The compute knows the lease as it was at first."""
        return self.endpoint.lease_due(
            None, self.lease.uuid, self.lease.generation)

    def test_due(self):
        self.assertEqual('EXPIRING', self.due()['state'])

    def test_due_of_an_extended_lease(self):
        """The compute learns of the later end, and asks again then."""
        later = NOW + base.seconds(600)
        now = api.lease_change(self.lease, base.HOST, 'extended',
                               {'expires_at': later, 'duration': 660})
        answer = self.due()
        self.assertEqual(
            ('ACTIVE', later.isoformat(), now.generation),
            (answer['state'], answer['expires_at'], answer['generation']))
        self.clock.now = later
        self.assertEqual('EXPIRING', self.endpoint.lease_due(
            None, self.lease.uuid, answer['generation'])['state'])

    def test_extension_is_too_late(self):
        self.due()
        self.assertRaises(
            exception.StaleState, api.lease_change, self.lease, base.HOST,
            'extended', {'expires_at': NOW + base.seconds(600)})

    def test_change_is_noted(self):
        api.lease_change(self.lease, base.HOST, 'extended',
                         {'duration': 660}, {'priority': 'urgent'})
        self.assertEqual(
            [(False, 'PLACED', 'PLACED', 'extended'),
             (True, 'ACTIVE', 'ACTIVE', 'extended')], self.history()[-2:])
