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


"""The checker of measured figures."""

import contextlib
import io
import json
import pathlib

import fixtures
from oslotest import base

from perf import ranges

RUNS = {'quiet': '2026-11-26, two cores'}


class RangesTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def call(self, results, limits, runs=RUNS):
        """Run the command.

        :returns: (status, standard output, standard error).
        """
        for name, content in (('results', results), (
                'ranges', {'runs': runs, 'ranges': limits})):
            (self.folder / name).write_text(json.dumps(content))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = ranges.main([str(self.folder / 'results'),
                                  str(self.folder / 'ranges')])
        return status, out.getvalue(), err.getvalue()

    def test_figures_within(self):
        status, out, _ = self.call(
            {'a': {'b': [1, 2]}},
            {'a/b/1': {'min': 2, 'max': 2, 'from': ['quiet']}})
        self.assertEqual(0, status)
        self.assertIn('ok: a/b/1 is 2, allowed is at least 2 and at most 2 '
                      '(quiet)', out)

    def test_figure_outside(self):
        status, out, _ = self.call(
            {'a': 3, 'b': 1}, {'a': {'max': 2, 'from': ['quiet']},
                               'b': {'max': 2, 'from': ['quiet']}})
        self.assertEqual(1, status)
        self.assertIn('OUTSIDE: a is 3', out)
        self.assertIn('1 of 2 figures', out)

    def test_figure_is_a_multiple_of_another(self):
        limits = {'ours': {'max': 1, 'of': 'theirs', 'from': ['quiet']}}
        self.assertEqual(0, self.call({'ours': 5, 'theirs': 5}, limits)[0])
        self.assertEqual(1, self.call({'ours': 6, 'theirs': 5}, limits)[0])

    def test_figure_missing(self):
        for results in ({}, {'ours': 1}, {'ours': {}, 'theirs': 1}):
            self.assertEqual(1, self.call(
                results, {'ours': {'max': 1, 'of': 'theirs',
                                   'from': ['quiet']}})[0])

    def test_range_without_its_run(self):
        for limits in ({'max': 1}, {'max': 1, 'from': ['loud']},
                       {'from': ['quiet']},
                       {'max': 1, 'from': ['quiet'], 'maximum': 2}):
            status, _, err = self.call({'a': 1}, {'a': limits})
            self.assertEqual(2, status)
            self.assertIn("'a'", err)

    def test_file_unreadable(self):
        status = ranges.main([str(self.folder / 'none'),
                              str(self.folder / 'none')])
        self.assertEqual(2, status)

    def test_committed_figures(self):
        folder = pathlib.Path(ranges.__file__).parent / 'results'
        for results in folder.glob('*.json'):
            limits = results.with_name(results.stem + '-ranges.json')
            if limits.exists():
                found = ranges.check(ranges.read_json(results),
                                     ranges.load(limits))
                self.assertEqual([], [str(finding) for finding in found
                                      if not finding.holds])
