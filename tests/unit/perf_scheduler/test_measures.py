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

import fixtures

from nova_gpu_lease.conf import CONF
from perf.scheduler import cloud
from perf.scheduler import plans
from perf.scheduler import requests
from tests import base


class RequestsTest(base.DatabaseTestCase):
    def setUp(self):
        super().setUp()
        for group, name in (
                ('pci', 'alias'),
                ('filter_scheduler', 'track_instance_changes'),
                ('filter_scheduler', 'available_filters'),
                ('filter_scheduler', 'enabled_filters'),
                ('filter_scheduler', 'weight_classes')):
            self.addCleanup(CONF.clear_override, name, group=group)
        self.addCleanup(CONF.clear_override, 'service_down_time')
        cloud.configure(self.database.url)
        self.addCleanup(cloud.pci_request.get_alias_from_config.cache_clear)

    def test_measure(self):
        """One query, and what was asked for is what was measured."""
        for name, value in (('ROUNDS', 2), ('CASES', ('no_gpu', 'gpu'))):
            self.useFixture(fixtures.MonkeyPatch(
                'perf.scheduler.requests.' + name, value))
        said = []
        found = requests.measure([24], said.append)
        self.assertEqual({'pair', 'whole'}, set(found))
        self.assertEqual(2 * len(requests.CASES), len(said))
        for cases in found.values():
            for case, sizes in cases.items():
                self.assertEqual(case != 'no_gpu',
                                 sizes['24']['statements'], case)
                self.assertGreater(sizes['24']['ratio'], 0)

    def test_both_find_hosts(self):
        """Else nothing would be weighed, and nothing measured."""
        for whole in (False, True):
            for case in requests.CASES:
                states = cloud.states(48, everywhere='all_hosts' in case)
                server = requests._prepare(case, states)
                counts = []
                for scheduler in cloud.schedulers(whole):
                    spec = cloud.request(server, int(case != 'no_gpu'))
                    cloud.offer(states, spec)
                    counts.append(len(scheduler.sort(spec, states)))
                if case == 'planned':
                    self.assertEqual(1, counts[1])
                elif 'others_wait' in case:
                    self.assertLess(0, counts[1])
                    self.assertLess(counts[1], counts[0])
                else:
                    self.assertLess(0, counts[0])
                    self.assertEqual(*counts)


class PlansTest(base.TestCase):
    def test_measure(self):
        found = plans.measure([20, 40], lambda text: None)
        for name in ('full_s', 'event_median_s', 'event_p95_s',
                     'reasons_median_s', 'reasons_p95_s'):
            self.assertEqual({'20', '40'}, set(found[name]))
            self.assertIn(name, found['growth'])
