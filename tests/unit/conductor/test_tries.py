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

from nova_gpu_lease.conductor import tries
from tests import base


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
