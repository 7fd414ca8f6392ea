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


"""How a project's use of GPUs counts, from the rows of its leases."""

from nova_gpu_lease.conductor import shares
from tests.unit.db import base

NOW = base.NOW


class FairShareTest(base.TestCase):

    def use(self, project, begun, ended=None, **values):
        """A lease from so many to so many seconds ago."""
        lease, = self.activate(
            project_id=project, started_at=NOW - base.seconds(begun),
            **values)
        if ended is not None:
            self.end(lease, NOW - base.seconds(ended))

    def test_off(self):
        self.use('a', 100)
        self.assertIsNone(shares.FairShare().factors(NOW))

    def test_factors(self):
        self.flags(fair_share_half_life='1h', group='gpu_lease')
        self.use('much', 7200, 3600, devices={'gpu': 4})
        self.use('little', 7200, 3600)
        self.use('running', 3600, devices={'gpu': 1, 'big': 1})
        self.use('once', 10 ** 6, 3600 * 11)
        self.queue(project_id='waits')
        factors = shares.FairShare().factors(NOW)
        self.assertEqual({'much', 'little', 'running'}, set(factors))
        # Two devices now count as four did an hour ago.
        self.assertAlmostEqual(factors['much'], factors['running'])
        self.assertGreater(factors['little'], factors['much'])

    def test_factors_hold_for_a_minute(self):
        self.flags(fair_share_half_life='1h', group='gpu_lease')
        share = shares.FairShare()
        self.assertEqual({}, share.factors(NOW))
        self.use('a', 100)
        self.assertEqual({}, share.factors(NOW + base.seconds(59)))
        self.assertEqual(['a'], list(share.factors(NOW + base.seconds(60))))
