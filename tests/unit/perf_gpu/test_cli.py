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


"""The command line, from measuring to the report."""

import contextlib
import io
import json
import pathlib

import fixtures

from perf.gpu import cli
from perf.gpu import schema
from tests.unit.perf_gpu import helpers

VALUES = [1.0, 1.001, 0.999, 1.0]


class CommandLineTest(helpers.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def call(self, *arguments):
        """Run a command.

        :returns: (status, standard output, standard error).
        """
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main([str(one) for one in arguments])
            except SystemExit as stop:
                status = stop.code
        return status, out.getvalue(), err.getvalue()

    def write(self, name, factor=1, **more):
        path = self.folder / name
        path.write_text(schema.dump(helpers.result(
            {'copy/a': ('ms', 'lower', [factor * one for one in VALUES])},
            **more)))
        return path

    def test_measured_compared_and_reported(self):
        results = []
        for name in ('host', 'guest'):
            path = self.folder / (name + '.json')
            status, _, err = self.call(
                'run', '--backend', 'cpu', '--only', 'matmul/', '--only',
                'cpu/pipe', '--rounds', '3', '--max-rounds', '3',
                '--time-limit', '3s', '--out', path)
            self.assertEqual(0, status, err)
            results.append(path)
        status, out, err = self.call('compare', *results, '-o',
                                     self.folder / 'report',
                                     '--max-overhead', '100%')
        # Two looks at one busy machine may differ in anything.
        self.assertIn(status, (0, cli.OVER), err)
        self.assertIn('3 tests compared, limit 100 %', out)
        for name in ('report.md', 'report.html', 'plots/overhead-matmul.png',
                     'plots/sizes-matmul.png'):
            self.assertTrue((self.folder / 'report' / name).exists(), name)

    def test_status_of_compare_is_the_verdict(self):
        host = self.write('host.json')
        for factor, more, status in (
                (1.02, (), 0), (1.3, (), cli.OVER),
                (1.3, ('--max-overhead', '40%'), 0),
                (1.3, ('--max-overhead', '0.2'), cli.OVER)):
            guest = self.write('guest.json', factor)
            self.assertEqual(status, self.call(
                'compare', host, guest, '-o', self.folder / 'r', *more)[0])

    def test_mistakes_are_one_sentence(self):
        good = self.write('good.json')
        cpu = self.write('cpu.json', backend='cpu')
        (self.folder / 'bad.json').write_text('{')
        for arguments, text in (
                ((good, self.folder / 'none.json'), 'cannot be read'),
                ((good, self.folder / 'bad.json'), 'holds no JSON'),
                ((good, cpu), 'measured on a gpu, the guest on a cpu'),
                ((good, good, '--reference', good), 'cannot be used'),
                ((good, good, '-o', good / 'x'), 'cannot be written')):
            status, _, err = self.call('compare', '-o', self.folder / 'r',
                                       *arguments)
            self.assertEqual(cli.ERROR, status)
            self.assertIn(text, err)
            self.assertEqual(1, len(err.splitlines()), err)

    def test_arguments_that_make_no_sense(self):
        for arguments, text in (
                (('compare', 'a', 'b', '-o', 'c', '--max-overhead', '10'),
                 'no share from 0% to 100%'),
                (('compare', 'a', 'b', '-o', 'c', '--max-overhead=-1%'),
                 'no share'),
                (('compare', 'a', 'b'), '-o'),
                (('run', '--out', 'x', '--rounds', '0'), 'at least 1'),
                (('run', '--out', 'x', '--time-limit', 'soon'), 'no time'),
                (('run', '--out', 'x', '--time-limit=-1'), 'no time'),
                (('run',), '--out'), ((), 'command')):
            status, _, err = self.call(*arguments)
            self.assertEqual(2, status)
            self.assertIn(text, err)

    def test_test_that_does_not_exist(self):
        status, _, err = self.call('run', '--backend', 'cpu', '--only',
                                   'cpu/pope', '--out', self.folder / 'x')
        self.assertEqual(cli.ERROR, status)
        self.assertIn("No test begins with 'cpu/pope'", err)
        self.assertFalse((self.folder / 'x').exists())

    def test_nothing_that_can_be_measured(self):
        status, _, err = self.call('run', '--backend', 'cpu', '--only',
                                   'launch/', '--out', self.folder / 'x')
        self.assertEqual(cli.ERROR, status)
        self.assertIn('Nothing was measured. needs a GPU: the CPU backend '
                      'was asked for', err)
        self.assertEqual(2, len(schema.load(self.folder / 'x')['skipped']))

    def test_list_says_what_runs_and_what_not(self):
        status, out, _ = self.call('list', '--backend', 'cpu', '--only',
                                   'cpu/pipe', '--only', 'launch/')
        self.assertEqual(0, status)
        lines = out.splitlines()
        self.assertEqual(3, len(lines))
        self.assertIn('needs a GPU', lines[0])
        self.assertTrue(lines[2].startswith('cpu/pipe'))
        self.assertTrue(lines[2].endswith('runs'))

    def test_through_a_console_log(self):
        path = self.write('guest.json')
        status, out, _ = self.call('emit', path)
        self.assertEqual(0, status)
        log = self.folder / 'console.log'
        log.write_bytes(b'\xff[ 1.0] boot\n' + out.encode())
        status, _, err = self.call('extract', log, '--out',
                                   self.folder / 'got.json')
        self.assertEqual(0, status, err)
        self.assertEqual(json.loads(path.read_text()),
                         json.loads((self.folder / 'got.json').read_text()))

    def test_console_log_without_a_result(self):
        log = self.folder / 'console.log'
        log.write_text('login:\n')
        for path in (log, self.folder / 'none.log'):
            status, _, err = self.call('extract', path, '--out',
                                       self.folder / 'got.json')
            self.assertEqual(cli.ERROR, status)
            self.assertEqual(1, len(err.splitlines()))
        self.assertFalse((self.folder / 'got.json').exists())
