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


"""The runs behind the committed results."""

import fixtures
from oslotest import base

from perf import ranges
from perf.replay import acceptance
from perf.replay import cli
from perf.replay import policies


class AcceptanceTest(base.BaseTestCase):

    def test_runs_can_be_made(self):
        for run in acceptance.RUNS.values():
            policies.parse(run['policy'])

    def test_committed_table_is_that_of_the_figures(self):
        results = ranges.read_json(acceptance.RESULTS / 'replay.json')
        self.assertLessEqual(set(results['runs']), set(acceptance.RUNS))
        self.assertEqual(
            acceptance.markdown(results),
            (acceptance.RESULTS / 'replay.md').read_text(encoding='utf-8'))

    def test_results_are_kept_and_checked(self):
        folder = self.useFixture(fixtures.TempDir()).path
        target = type(acceptance.RESULTS)(folder) / 'results'
        self.useFixture(fixtures.MonkeyPatch(
            'perf.replay.acceptance.RESULTS', target))
        self.useFixture(fixtures.MonkeyPatch(
            'perf.replay.acceptance.RUNS', {'small': {
                'trace': 'synthetic', 'hosts': '5x8', 'lease': 'lease_s',
                'policy': 'fifo,easy', 'how': 'early-end', 'compare': None,
                'first': None}}))
        self.assertEqual(0, cli.main(['acceptance', 'small']))
        found = ranges.read_json(target / 'replay.json')
        self.assertEqual(
            {'fifo', 'easy'}, set(found['runs']['small']['policies']))
        self.assertIn('## small', (target / 'replay.md').read_text())
        easy = found['runs']['small']['policies']['easy']['wait_s']
        row = next(line for line in (
            target / 'replay.md').read_text().splitlines()
            if line.startswith('easy')).split()
        self.assertEqual(
            [easy['jobs'], round(easy['mean']), round(easy['max'])],
            [int(row[1]), round(float(row[2])), round(float(row[5]))])
        self.assertEqual(2, cli.main(['acceptance', 'none']))
        self.assertEqual(2, cli.main(['check', str(target / 'replay.json'),
                                      str(target / 'none.json')]))
