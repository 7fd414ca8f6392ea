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


"""Real traces, as far as seconds go; the whole of them is perf/results.

They are not part of the source: where they are absent each test is skipped.
"""

from oslotest import base

from perf.gpu import errors
from perf.replay import fill
from perf.replay import hosts
from perf.replay import loop
from perf.replay import metrics
from perf.replay import policies
from perf.replay import trace


class RealTraceTest(base.BaseTestCase):

    def find(self, name):
        """The file of a trace; skips the test where there is none."""
        try:
            return trace.find(name)
        except errors.PerfError as error:
            self.skipTest(str(error))

    def compared(self, name, where, policy, lease, column, last=None):
        """Rows that do not start when a column says."""
        path = self.find(name)
        found = loop.replay(
            trace.load(path, lease, last=last), hosts.parse(where),
            policies.parse(policy)[policy])
        self.assertEqual([], found.promises.broken)
        rows = trace.read(path, column)
        return metrics.compare(found, column, {
            number: int(row[column]) for number, row in enumerate(rows)})

    def test_first_come_first_served_as_others_simulate_it(self):
        found = self.compared('sdsc_sp2_5k_requested', '128x1', 'fifo',
                              'requested_s', 'ref_fifo_start_s')
        self.assertEqual((4961, 4961), (found['jobs'], found['equal']))

    def test_easy_backfill_as_others_simulate_it(self):
        found = self.compared('sdsc_sp2_5k_requested', '128x1', 'easy',
                              'requested_s', 'ref_easy_start_s')
        # The other simulator lets arrivals see GPUs that end in that second
        # as taken.
        self.assertEqual([2239, 2240, 2243, 2244, 2245],
                         found['different_rows'])

    def test_best_fit_as_others_simulate_it(self):
        # Three days: the first jobs that wait for hours are among them, and
        # who comes later changes none of these starts.
        found = self.compared('philly_oct28d_ref80x8', '80x8', 'fifo',
                              'duration_s', 'ref_fifo_start_s', 300000)
        self.assertEqual([], found['different_rows'])
        self.assertGreater(found['jobs'], 5000)

    def test_default_is_better_than_easy_on_a_busy_week(self):
        jobs = trace.load(self.find('philly_oct28d_lease'), 'lease_s',
                          last=400000)
        means = {}
        for name in ('easy', 'backfill'):
            found = loop.replay(jobs, hosts.parse('64x8'),
                                policies.parse(name)[name])
            self.assertEqual([], found.promises.broken)
            means[name] = metrics.figures(found)['wait_s']['mean']
        self.assertLessEqual(means['backfill'], means['easy'])

    def test_fill_keeps_scarce_models_or_whole_hosts(self):
        jobs = trace.load(self.find('openb_gpuspec33'))
        where = hosts.parse(str(self.find('hosts_openb2023')))
        found = {name: fill.figures(fill.fill(
            jobs, where, policies.parse(name)[name]))
            for name in ('backfill:hosts=scarce', 'backfill:hosts=pack')}
        self.assertGreaterEqual(
            found['backfill:hosts=scarce']['allocated_when_asked']['100 %'],
            0.96)
        self.assertGreaterEqual(found['backfill:hosts=pack'][
            'free_on_whole_hosts_when_used']['70 %'], 0.99)
