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

"""The pauses between tries to end a lease."""

from nova_gpu_lease.conductor import endings
from nova_gpu_lease.conductor import tries
from nova_gpu_lease.db import api
from tests import base
from tests.unit.db import base as db_base


class PauseTest(base.TestCase):

    def pauses(self, count, outage=False):
        return [tries.pause(count, outage) for _ in range(200)]

    def test_pause_doubles_and_has_an_end(self):
        for count, longest in ((0, 10), (1, 20), (3, 80), (6, 600),
                               (10 ** 6, 600)):
            self.assertLessEqual(max(self.pauses(count)), longest)
            self.assertGreaterEqual(min(self.pauses(count)), longest / 2)

    def test_pause_of_an_outage_stays_short(self):
        for count, longest in ((0, 10), (1, 20), (2, 30), (50, 30)):
            self.assertLessEqual(max(self.pauses(count, True)), longest)

    def test_pause_differs(self):
        """Leases that ended together are not all tried together."""
        self.assertGreater(len(set(self.pauses(3))), 100)


class ReasonTest(db_base.TestCase):

    def ending(self, code=None):
        lease, = self.activate()
        return api.lease_transition(lease, 'EXPIRING', db_base.HOST,
                                    reason='why', reason_code=code)

    def test_lease_that_ends_early_says_so_after_a_failed_try(self):
        lease = self.ending(endings.POWERED_OFF)
        self.assertEqual(endings.POWERED_OFF, endings.why(lease)[0])
        values, gives_up = tries.failed(lease, 'it broke', False)
        self.assertEqual((endings.POWERED_OFF, False),
                         (values['reason_code'], gives_up))
        self.assertIn('it broke', values['last_error'])

    def test_lease_that_ends_in_time(self):
        lease = self.ending()
        self.assertEqual(('expired', 'the lease ended'), endings.why(lease))
        self.assertEqual('expiry_failed', tries.failed(
            lease, 'it broke', False)[0]['reason_code'])
