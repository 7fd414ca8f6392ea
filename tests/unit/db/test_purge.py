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


"""Removal of what is over."""

from nova_gpu_lease.db import api
from nova_gpu_lease.db import models
from nova_gpu_lease.db import purge
from tests import fixtures
from tests.unit.db import base


class PurgeTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.clock = self.useFixture(fixtures.ClockFixture(base.NOW))

    def left(self):
        return [row.server_id for row in self.rows(models.Lease)]

    def test_nothing(self):
        self.assertEqual({'history': 0, 'leases': 0, 'requests': 0},
                         api.purge(base.NOW))

    def test_purge(self):
        self.queue('queued')
        self.place('building')
        self.activate('active')
        old, = self.activate('old')
        self.end(old, base.NOW + base.seconds(1))
        gang = self.activate('ended', 'runs')
        self.end(gang[0], base.NOW)
        failed = self.queue('failed')
        api.request_transition(failed, 'FAILED', base.HOST,
                               lease_state='CANCELLED')
        self.clock.advance(100)
        recent, = self.activate('recent')
        self.end(recent, self.clock.now)
        self.clock.advance(100)

        self.assertEqual({'history': 0, 'leases': 0, 'requests': 0},
                         api.purge(base.NOW))
        history = len(self.history())
        # FAILED: 2 + 2 rows of history; the old one: 3 + 4.
        self.assertEqual({'history': 11, 'leases': 2, 'requests': 2},
                         api.purge(base.NOW + base.seconds(100)))
        self.assertEqual(history - 11, len(self.history()))
        self.assertEqual(['queued', 'building', 'active', 'ended', 'runs',
                          'recent'], self.left())
        self.assertEqual(5, len(self.rows(models.Request)))
        self.assertEqual({'history': 7, 'leases': 1, 'requests': 1},
                         api.purge(self.clock.now))

    def test_purge_waits_for_the_trust(self):
        """Else nobody would know what to delete in Keystone."""
        request = self.queue('s', trust_id='trust')
        request = api.request_transition(request, 'CANCELLED', base.HOST,
                                         lease_state='CANCELLED')
        self.clock.advance(1)
        self.assertEqual(0, api.purge(self.clock.now)['requests'])
        api.request_set(request, trust_id=None)
        self.clock.advance(1)
        self.assertEqual(1, api.purge(self.clock.now)['requests'])

    def test_purge_in_batches(self):
        self.useFixture(fixtures.fixtures.MonkeyPatch(
            'nova_gpu_lease.db.purge.BATCH', 2))
        self.assertEqual(2, purge.BATCH)
        for _ in range(5):
            api.request_transition(self.queue(), 'CANCELLED', base.HOST,
                                   lease_state='CANCELLED')
        self.queue('stays')
        self.clock.advance(1)
        self.assertEqual({'history': 20, 'leases': 5, 'requests': 5},
                         api.purge(self.clock.now))
        self.assertEqual(['stays'], self.left())
