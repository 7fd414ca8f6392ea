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


"""Simulated time, figures and the command, on small traces."""

import contextlib
import csv
import io
import json
import logging
import pathlib

import fixtures
from oslotest import base

from perf.replay import cli
from perf.replay import fill
from perf.replay import hosts
from perf.replay import loop
from perf.replay import metrics
from perf.replay import policies
from perf.replay import promises
from perf.replay import trace


def jobs(*rows):
    """Jobs of one model from (submit, duration, lease, servers, gpus)."""
    return [trace.Job(number, *row, 'any') for number, row in enumerate(rows)]


def starts(policy, where, *rows, held=False):
    """When each job starts, in the order of the rows."""
    found = loop.replay(jobs(*rows), hosts.parse(where),
                        policies.parse(policy)[policy], held)
    return [found.starts[number] for number in range(len(rows))]


class LoopTest(base.BaseTestCase):

    def test_ends_before_arrivals_of_the_same_second(self):
        # The third comes when the first ends; the second waits longer.
        self.assertEqual([0, 10, 20], starts(
            'fifo', '1x1', (0, 10, 10, 1, 1), (5, 10, 10, 1, 1),
            (20, 5, 5, 1, 1)))

    def test_leases_left_early_or_held(self):
        rows = (0, 10, 30, 1, 1), (5, 10, 10, 1, 1)
        self.assertEqual([0, 10], starts('fifo', '1x1', *rows))
        self.assertEqual([0, 30], starts('fifo', '1x1', *rows, held=True))

    def test_nobody_passes_a_blocked_request(self):
        rows = ((0, 10, 10, 1, 1), (1, 10, 10, 1, 2), (2, 3, 3, 1, 1),
                (3, 50, 50, 1, 1))
        self.assertEqual([0, 10, 20, 20], starts('fifo', '1x2', *rows))

    def test_short_one_slips_in_and_a_long_one_does_not(self):
        rows = ((0, 10, 10, 1, 1), (1, 10, 10, 1, 2), (2, 3, 3, 1, 1),
                (3, 50, 50, 1, 1))
        for policy in ('easy', 'backfill', 'conservative'):
            self.assertEqual([0, 10, 2, 20], starts(policy, '1x2', *rows))

    def test_shortest_first_protects_nobody(self):
        rows = ((0, 10, 10, 1, 1), (1, 10, 10, 1, 2), (2, 3, 3, 1, 1),
                (3, 50, 50, 1, 1))
        # The two-GPU request waits for the long one that came last.
        self.assertEqual([0, 55, 2, 5], starts('sjf', '1x2', *rows))

    def test_gang_starts_together(self):
        self.assertEqual([0, 10], starts(
            'fifo', '2x2', (0, 10, 10, 1, 1), (1, 5, 5, 2, 2)))

    def test_jobs_that_fit_nowhere_are_left_out(self):
        found = loop.replay(jobs((0, 1, 1, 1, 4), (0, 1, 1, 1, 1)),
                            hosts.parse('1x2'), policies.parse('fifo')['fifo'])
        self.assertEqual([0], found.left_out)
        self.assertEqual({1: 0}, found.starts)

    def test_synthetic_trace(self):
        rows = trace.load(trace.find('synthetic'), 'lease_s')[:200]
        for name in ('fifo', 'easy', 'easy:depth=3', 'backfill', 'sjf',
                     'conservative'):
            found = loop.replay(rows, hosts.parse('3x8'),
                                policies.parse(name)[name])
            self.assertEqual(len(rows), len(found.starts))
            self.assertEqual([], found.promises.broken)
            self.assertEqual(0, found.promises.figures()['later'])
            # All is free in the end, and never was less than nothing.
            self.assertEqual(0, found.series['used'][-1])
            self.assertLessEqual(max(found.series['used']), 24)


class PromisesTest(base.BaseTestCase):

    def test_earliest_promise_counts(self):
        kept = promises.Promises()
        kept.promised(1, 100)
        kept.promised(1, 80)
        kept.promised(1, 80)
        kept.promised(2, 50)
        kept.promised(2, 60)
        kept.started(1, 80)
        kept.started(2, 60)
        kept.started(3, 60)
        self.assertEqual([(2, 50, 60)], kept.broken)
        self.assertEqual({'heads': 2, 'changed': 2, 'later': 1, 'broken': 1},
                         kept.figures())


class MetricsTest(base.BaseTestCase):

    def figures(self):
        found = loop.replay(jobs(
            (0, 10, 10, 1, 8), (0, 100, 100, 1, 1), (20, 5, 5, 1, 4)),
            hosts.parse('1x8'), policies.parse('fifo')['fifo'])
        return metrics.figures(found)

    def test_waits_and_slowdown(self):
        # Starts: 0, 10 and 20.
        found = self.figures()
        self.assertEqual({'jobs': 3, 'mean': 3.3, 'median': 0, 'p95': 10,
                          'max': 10}, found['wait_s'])
        self.assertEqual(['1', '2-7', '8'],
                         sorted(found['wait_by_size_s']))
        self.assertEqual(10, found['wait_by_size_s']['1']['max'])
        self.assertAlmostEqual((1 + 1.1 + 1) / 3,
                               found['bounded_slowdown']['10 s'], 3)
        self.assertEqual(1, found['bounded_slowdown']['600 s'])

    def test_use_until_the_last_submit(self):
        # Ten seconds of eight GPUs and ten of one, of 20 times eight; free
        # GPUs were never on a host that is wholly free.
        found = self.figures()
        self.assertAlmostEqual(90 / 160, found['utilisation'], 4)
        self.assertEqual(0, found['free_on_whole_hosts'])

    def test_whole_hosts(self):
        found = loop.replay(jobs((0, 10, 10, 1, 1), (10, 1, 1, 1, 1)),
                            hosts.parse('2x8'), policies.parse('fifo')['fifo'])
        self.assertAlmostEqual(
            8 / 15, metrics.figures(found)['free_on_whole_hosts'], 4)

    def test_compare(self):
        found = loop.replay(jobs((0, 10, 10, 1, 1), (1, 1, 1, 1, 1)),
                            hosts.parse('1x1'), policies.parse('fifo')['fifo'])
        self.assertEqual(
            {'column': 'ref', 'jobs': 2, 'equal': 1, 'different_rows': [1]},
            metrics.compare(found, 'ref', {0: 0, 1: 9}))


class FillTest(base.BaseTestCase):

    def test_refused_and_not_tried_again(self):
        found = fill.fill(
            jobs(*[(second, 1, 1, 1, 3) for second in range(6)]),
            hosts.parse('2x4'), policies.parse('fifo')['fifo'])
        self.assertEqual([3, 6, 9], found.series['asked'])
        self.assertEqual([3, 6, 6], found.series['used'])
        self.assertEqual({'any': 3}, found.refused)

    def test_marks(self):
        found = fill.figures(fill.fill(
            jobs(*[(0, 1, 1, 1, 4)] * 6), hosts.parse('3x8'),
            policies.parse('backfill')['backfill']))
        self.assertEqual(1, found['allocated_when_asked']['100 %'])
        # Twelve free GPUs, eight of them on a host that nobody uses.
        self.assertEqual(
            0.6667, found['free_on_whole_hosts_when_used']['50 %'])


class CommandTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        # It tells every font it looks at.
        logger = logging.getLogger('matplotlib')
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.WARNING)

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

    def test_table_files_and_pictures(self):
        status, out, err = self.call(
            'synthetic', '--hosts', '5x8', '--lease', 'lease_s', '--policy',
            'fifo,backfill', '--last', 20000, '--json',
            self.folder / 'result.json', '--starts',
            self.folder / 'starts-{}.csv', '--plots', self.folder / 'plots')
        self.assertEqual(0, status, err)
        self.assertIn('utilisation', out)
        self.assertIn('gangs, backfill', out)
        self.assertIn('backfill: ', err)
        result = json.loads((self.folder / 'result.json').read_text())
        self.assertEqual({'fifo', 'backfill'}, set(result['policies']))
        self.assertEqual(0, result['policies']['backfill']['promises'][
            'broken'])
        with open(self.folder / 'starts-fifo.csv') as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([str(row) for row in range(result['jobs'])],
                         [row['row'] for row in rows])
        for name in ('queue-length', 'utilisation', 'waits'):
            self.assertTrue((self.folder / 'plots' / (name + '.png'))
                            .read_bytes().startswith(b'\x89PNG'))

    def test_filling(self):
        status, out, _ = self.call(
            'synthetic', '--hosts', '2x8', '--fill', '--policy',
            'backfill,backfill:hosts=scarce', '--plots', self.folder)
        self.assertEqual(0, status)
        self.assertIn('GPUs in use when this share was asked for', out)
        self.assertTrue((self.folder / 'filling.png').exists())

    def test_starts_compared(self):
        path = self.folder / 'known.csv'
        path.write_text('submit_s,duration_s,gpus,gpu_model,node_count,ref\n'
                        '0,10,1,any,1,0\n1,10,1,any,1,99\n')
        _, out, _ = self.call(path, '--hosts', '1x1', '--policy', 'fifo',
                              '--compare', 'ref')
        self.assertIn('1 of 2 starts are those of ref; others: rows 1', out)

    def test_mistakes(self):
        for arguments, what in (
                (('none', '--hosts', '1x1'), 'no trace'),
                (('synthetic', '--hosts', 'x'), '80x8'),
                (('synthetic', '--hosts', '1x1', '--policy', 'best'),
                 'easy'),
                (('synthetic', '--hosts', '1x1', '--lease', 'none'),
                 'no column'),
                (('synthetic', '--hosts', '1x1', '--starts', 'x'), '{}'),
                (('synthetic', '--hosts', '1x1', '--fill', '--held'),
                 'not allowed')):
            status, _, err = self.call(*arguments)
            self.assertEqual(2, status)
            self.assertIn(what, err)

    def test_convert(self):
        source = self.folder / 'in.csv'
        source.write_text('timestamp,duration,num_gpus\n0,9,8\n')
        status, out, _ = self.call('convert', 'philly', source,
                                   self.folder / 'out.csv')
        self.assertEqual((0, '1 jobs written, 0 left out (no GPU or never '
                          'ran)\n'), (status, out))
