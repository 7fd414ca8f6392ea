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


"""Whole runs: the real command, its real processes, on the CPU backend."""

import json
import pathlib
import queue
import signal
import subprocess
import sys
import time

import fixtures
from oslotest import base
import psutil

from perf.gpu.backends import gpu
from perf.gpu import errors
from perf.gpu import process
from perf.gpu import runner
from perf.gpu import schema

ROOT = pathlib.Path(__file__).parents[3]
# Seconds within which anything here should have happened.
PATIENCE = 60


class CommandTestCase(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.out = self.folder / 'host.json'

    def start(self, *arguments):
        """A run in the background, which the test has to end."""
        started = subprocess.Popen(
            [sys.executable, '-m', 'perf.gpu', 'run', '--backend', 'cpu',
             '--out', str(self.out), *arguments], cwd=ROOT, text=True,
            stderr=subprocess.PIPE)
        self.addCleanup(started.wait)
        self.addCleanup(started.kill)
        self.addCleanup(started.stderr.close)
        return started

    def until(self, condition):
        """Wait for something to become true, and return it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        self.fail('It did not happen in %d s' % PATIENCE)

    def rounds(self):
        """How many rounds the file holds."""
        if not self.out.exists():
            return 0
        return max((len(test['rounds']) for test in
                    schema.load(self.out)['tests'].values()), default=0)


class RunTest(CommandTestCase):

    def test_run_measures_every_round_of_every_test(self):
        run = self.start('--only', 'cpu/pipe', '--only', 'cpu/hash',
                         '--only', 'copy/d2d', '--rounds', '3',
                         '--max-rounds', '3', '--time-limit', '4s')
        _, said = run.communicate(timeout=PATIENCE)
        self.assertEqual(0, run.returncode, said)
        result = schema.load(self.out)
        self.assertEqual(['cpu/hash', 'cpu/pipe'], sorted(result['tests']))
        for test in result['tests'].values():
            self.assertEqual([0, 1, 2],
                             [one['round'] for one in test['rounds']])
        self.assertEqual({'copy/d2d/1MiB', 'copy/d2d/4MiB'},
                         set(result['skipped']))
        self.assertEqual(('host', 'cpu', 'tiny', False), tuple(
            result[key] for key in ('label', 'backend', 'sizes',
                                    'interrupted')))
        self.assertIn('processor', result['machine'])
        self.assertIn('round 3: 2 cases', said)
        self.assertIn('2 tests measured, 2 skipped, 0 failed', said)

    def test_time_limit_ends_a_run(self):
        start = time.monotonic()
        run = self.start('--only', 'cpu/pipe', '--rounds', '500',
                         '--time-limit', '1s')
        run.communicate(timeout=PATIENCE)
        self.assertEqual(0, run.returncode)
        self.assertLess(time.monotonic() - start, PATIENCE / 2)
        # As many as can be compared, all the same.
        self.assertGreaterEqual(self.rounds(), runner.MIN_ROUNDS)
        self.assertLess(self.rounds(), 500)

    def _interrupt(self, number):
        run = self.start('--only', 'cpu/', '--rounds', '500',
                         '--time-limit', '2m')
        self.until(self.rounds)
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        _, said = run.communicate(timeout=PATIENCE)
        self.assertEqual(130, run.returncode, said)
        result = schema.load(self.out)
        self.assertTrue(result['interrupted'])
        self.assertGreater(len(result['tests']), 3)
        self.assertIn('Interrupted. %d tests measured' % len(
            result['tests']), said)
        self.assertNotIn('Traceback', said)
        _gone, alive = psutil.wait_procs(children, timeout=10)
        self.assertEqual([], [child for child in alive if
                              child.status() != psutil.STATUS_ZOMBIE])
        self.assertEqual([self.out], list(self.folder.iterdir()))

    def test_ctrl_c_keeps_what_was_measured(self):
        self._interrupt(signal.SIGINT)

    def test_end_of_a_lease_keeps_what_was_measured(self):
        self._interrupt(signal.SIGTERM)

    def _switching(self, pid):
        """The round's process while it measures cpu/switch, else None.

        Only that case keeps a process of its own, which says so: other
        children come and go, the machine's description has some too.
        """
        for worker in psutil.Process(pid).children():
            try:
                if any('-S' in child.cmdline()
                       for child in worker.children()):
                    return worker
            except psutil.NoSuchProcess:
                continue
        return None

    def test_process_that_dies_costs_one_test(self):
        run = self.start(
            '--only', 'cpu/switch', '--only', 'cpu/pipe', '--only',
            'cpu/hash', '--rounds', '3', '--max-rounds', '3',
            '--time-limit', '9s')
        worker = self.until(lambda: self._switching(run.pid))
        worker.kill()
        _, said = run.communicate(timeout=2 * PATIENCE)
        self.assertEqual(0, run.returncode, said)
        result = schema.load(self.out)
        self.assertEqual(['cpu/switch'], list(result['failed']))
        self.assertIn('ended with status -9', result['failed']['cpu/switch'])
        self.assertIn('failed: cpu/switch: ', said)
        for name in ('cpu/pipe', 'cpu/hash'):
            self.assertEqual(3, len(result['tests'][name]['rounds']))

    def test_place_that_cannot_be_written_is_known_at_once(self):
        self.out = self.folder / 'none' / 'host.json'
        run = self.start()
        _, said = run.communicate(timeout=PATIENCE)
        self.assertEqual(2, run.returncode)
        self.assertIn('cannot be written', said)
        self.assertNotIn('Traceback', said)


class Log:
    """A progress bar that remembers."""

    def __init__(self):
        self.started = []

    def start(self, name):
        self.started.append(name)

    def __getattr__(self, name):
        return lambda *_arguments: None


class FailureTest(base.BaseTestCase):

    def test_what_failed_is_not_tried_again(self):
        log, saved = Log(), []
        run = runner.Run(
            {'backend': 'cpu', 'sizes': 'tiny', 'cifar10': '/nowhere',
             'rounds': 3, 'max_rounds': 3, 'time_limit': 1, 'seed': '1',
             'only': ['training/numpy/16', 'cpu/pipe']}, 'x', log,
            saved.append)
        result = run()
        self.assertEqual(1, log.started.count('training/numpy/16'))
        self.assertEqual(3, log.started.count('cpu/pipe'))
        self.assertIn('CIFAR-10', result['failed']['training/numpy/16'])
        self.assertEqual(['cpu/pipe'], list(result['tests']))
        self.assertEqual(3, len(saved))

    def test_backend_that_is_not_there_ends_the_run(self):
        if gpu.unusable() is None:
            self.skipTest('this machine has a GPU')
        run = runner.Run(
            {'backend': 'gpu', 'sizes': 'tiny', 'cifar10': None, 'rounds': 3,
             'max_rounds': 3, 'time_limit': 1, 'seed': '1', 'only': None},
            'x', Log(), None)
        error = self.assertRaises(errors.PerfError, run)
        self.assertIn('No GPU can be measured', str(error))


class FurtherRoundsTest(base.BaseTestCase):
    """Which tests get more rounds; no process is needed to decide that."""

    def test_only_what_differs_from_round_to_round(self):
        run = runner.Run({'sizes': 'tiny'}, 'x', None, None)
        for name, values in (('steady', (1, 1.001, 0.999)),
                             ('unsteady', (1, 1.1, 0.9)),
                             ('broken', (1, 1.1, 0.9)), ('once', (1,))):
            run.result['tests'][name] = {
                'rounds': [{'value': value} for value in values]}
        run.result['failed']['broken'] = 'it broke'
        self.assertEqual(['unsteady'], run.uncertain())


class ProcessTest(base.BaseTestCase):

    def test_process_in_the_middle_of_a_case_ends_at_once(self):
        lines = queue.SimpleQueue()
        work = process.Process({
            'backend': 'cpu', 'sizes': 'tiny', 'cifar10': None,
            'seconds': 600, 'seed': '1', 'only': ['cpu/switch', 'cpu/file'],
            'without': [], 'describe': False}, lines)
        self.addCleanup(work.stop)
        events = work.events()
        self.assertEqual('plan', next(events)['event'])
        self.assertEqual('start', next(events)['event'])
        lines.put(process.Interrupted)
        self.assertRaises(process.Interrupted, list, events)
        self.assertEqual(-signal.SIGKILL, work.stop())


class WorkerTest(base.BaseTestCase):

    def _work(self, **more):
        orders = {'backend': 'cpu', 'sizes': 'tiny', 'cifar10': None,
                  'seconds': 0.1, 'seed': '1 0', 'only': ['cpu/pipe'],
                  'without': [], 'describe': False, **more}
        done = subprocess.run(
            [sys.executable, '-m', 'perf.gpu.worker'], cwd=ROOT, text=True,
            input=json.dumps(orders) + '\n', stdout=subprocess.PIPE,
            timeout=PATIENCE)
        return done.returncode, [json.loads(line) for line in
                                 done.stdout.splitlines()]

    def test_round_says_what_happens(self):
        status, events = self._work()
        self.assertEqual(0, status)
        self.assertEqual(['plan', 'start', 'result'],
                         [event['event'] for event in events])
        self.assertEqual(['cpu/pipe'], events[0]['names'])
        self.assertGreater(events[2]['round']['value'], 0)

    def test_order_differs_from_round_to_round(self):
        orders = [tuple(self._work(seed='1 %d' % number, seconds=0, only=[
            'cpu/pipe', 'cpu/hash', 'cpu/syscall', 'cpu/file',
            'matmul/numpy/64'])[1][0]['names']) for number in range(3)]
        self.assertGreater(len(set(orders)), 1)
        self.assertEqual(1, len({frozenset(order) for order in orders}))

    def test_case_that_fails_is_told_and_the_others_run(self):
        status, events = self._work(
            only=['training/numpy/16', 'cpu/pipe'], cifar10='/nowhere')
        self.assertEqual(0, status)
        kinds = {event.get('name'): event for event in events}
        self.assertEqual('result', kinds['cpu/pipe']['event'])
        self.assertEqual('fail', kinds['training/numpy/16']['event'])
        self.assertIn('CIFAR-10', kinds['training/numpy/16']['reason'])
