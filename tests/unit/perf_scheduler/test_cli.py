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

import contextlib
import io
import json
import pathlib
import tempfile

import ddt
from oslotest import base

from perf import ranges
from perf.scheduler import cli
from perf.scheduler import latency

RUN = {'date': 'today', 'cpu': 'a fast one'}


@ddt.ddt
class CommandTest(base.BaseTestCase):
    def run_cli(self, *args):
        """:returns: exit status, output, errors."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main([str(arg) for arg in args])
            except SystemExit as exc:
                status = exc.code
        return status, out.getvalue(), err.getvalue()

    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return pathlib.Path(folder.name)

    @ddt.data('', '5', '100,many', '100,,200')
    def test_sizes_that_are_none(self, sizes):
        status, _, errors = self.run_cli('run', '--sizes', sizes)
        self.assertEqual(2, status)
        self.assertIn('from 10 on', errors)

    def test_new_figures_replace_old_ones(self):
        path = self.folder() / 'deeper' / 'results.json'
        cli._save(path, {'planner': {'full_s': {'100': 1, '1000': 5}}})
        cli._save(path, {'planner': {'full_s': {'100': 2}},
                         'latency': {'p95_s': 1}})
        found = json.loads(path.read_text())
        self.assertEqual({'full_s': {'100': 2, '1000': 5}}, found['planner'])
        self.assertEqual({'p95_s': 1}, found['latency'])
        for part in ('planner', 'latency'):
            self.assertLessEqual({'cpu', 'date', 'kernel', 'versions'},
                                 set(found['runs'][part]))

    @ddt.data((0.5, 0), (2, 1))
    @ddt.unpack
    def test_check(self, value, expected):
        folder = self.folder()
        for name, content in (
                ('results', {'latency': {'p95_s': value}}),
                ('ranges', {'runs': {'one': 'here'}, 'ranges': {
                    'latency/p95_s': {'max': 1, 'from': ['one']}}})):
            (folder / name).write_text(json.dumps(content))
        status, out, _ = self.run_cli(
            'check', '--results', folder / 'results',
            '--ranges', folder / 'ranges')
        self.assertEqual(expected, status)
        self.assertIn('latency/p95_s', out)

    def test_results_that_are_not_there(self):
        status, _, errors = self.run_cli(
            'check', '--results', self.folder() / 'none')
        self.assertEqual(ranges.ERROR, status)
        self.assertIn('cannot be read', errors)

    def test_kept_results_are_within_their_ranges(self):
        status, out, _ = self.run_cli('check')
        self.assertEqual(0, status, out)


class LogTest(base.BaseTestCase):
    SERVER = '5666ebf7-6d14-4ed6-8f3f-87cfeb3b4e72'

    def test_lines_of_the_services(self):
        lines = {
            latency.FREED: '2026-11-26 12:00:00.123 7 INFO nova.scheduler.'
            'client.report [None req-1 admin] Deleted allocations for '
            'instance ' + self.SERVER,
            latency.SENT: '2026-11-26 12:00:00.623 9 INFO nova_gpu_lease.'
            'conductor.dispatcher [None req-2] Request %s starts.' %
            self.SERVER}
        for pattern, line in lines.items():
            for other, text in lines.items():
                (self.assertRegex if other == pattern
                 else self.assertNotRegex)(text, pattern)
