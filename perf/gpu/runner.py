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


"""A whole run: rounds, each in a process of its own, until enough is known."""

import datetime
import math
import queue
import time

from perf.gpu import errors
from perf.gpu import measure
from perf.gpu import process
from perf.gpu import schema

# Standard error of the mean over rounds, relative, below which a test needs
# no further rounds: small beside what two runs differ by anyway (stats.SHIFT).
ENOUGH = 0.005
MIN_ROUNDS = 3
# A driver that loses its GPU must not make a run last for ever.
MAX_RESTARTS = 10


def _now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(
        timespec='seconds')


def _short(name, value):
    """A number in as many digits as mean something.

    A result has thousands of them, and has to fit into a console log.
    """
    if not isinstance(value, float):
        return value
    return float(('%.6g' if name == 'value' else '%.3g') % value)


class Run:
    """A run and its result, which is complete after every event.

    :param settings: a dictionary with ``backend``, ``sizes``, ``cifar10``,
        ``rounds``, ``max_rounds``, ``time_limit`` (seconds), ``seed``,
        ``only`` (names, None for all).
    :param label: what the report calls the machine.
    :param progress: a :class:`perf.gpu.progress.Progress`.
    :param save: called with the result after each round.
    """

    def __init__(self, settings, label, progress, save):
        self.settings = settings
        self.progress = progress
        self.save = save
        self.restarts = 0
        self.planned = 0
        self._interrupted = False
        # Lines of the process that runs now. A simple queue, for a signal
        # handler may put something there while the same thread waits for it.
        self._lines = None
        self.result = {
            'schema': schema.NAME, 'version': schema.VERSION, 'label': label,
            'started': _now(), 'ended': _now(), 'interrupted': False,
            'backend': 'cpu', 'sizes': settings['sizes'],
            'settings': settings, 'machine': {}, 'tests': {}, 'skipped': {},
            'failed': {}}

    def __call__(self):
        """Measure until enough is known, the time is up or Ctrl-C.

        :returns: the result.
        """
        try:
            self._rounds()
        except process.Interrupted:
            self.result['interrupted'] = True
        self.result['ended'] = _now()
        return self.result

    def interrupt(self, *_signal):
        """End the run at the next event; fit to be a signal handler.

        An exception out of the handler could come at any moment, between the
        start of a process and the note that it is there, for example.
        """
        self._interrupted = True
        if self._lines is not None:
            self._lines.put(process.Interrupted)

    def _rounds(self):
        rounds = self.settings['rounds']
        deadline = time.monotonic() + self.settings['time_limit']
        # What a round costs beside its measurements, as the last one did.
        overhead = 0
        each = None
        for number in range(max(rounds, self.settings['max_rounds'])):
            left = deadline - time.monotonic()
            only = self.settings['only']
            if number < rounds:
                if number >= MIN_ROUNDS and left <= overhead:
                    break
                seconds = max(0, left / (rounds - number) - overhead)
            else:
                only = self.uncertain()
                seconds = each * len(only)
                if not only or left <= overhead + seconds:
                    break
                self.progress.more(len(only))
            start = time.monotonic()
            self._round(number, only, seconds)
            spent = time.monotonic() - start
            if number < rounds:
                each = min(seconds, spent) / max(1, self.planned)
            overhead = max(0, spent - seconds)
            self.progress.round(number, self.planned, spent)
            self.result['ended'] = _now()
            self.save(self.result)
            if not self.result['tests']:
                # All were skipped or failed, and would be again.
                break

    def uncertain(self):
        """The names of tests that deserve a further round."""
        found = []
        for name, test in self.result['tests'].items():
            values = [one['value'] for one in test['rounds']]
            if name not in self.result['failed'] and len(values) > 1 and \
                    math.sqrt(measure.log_mean(values)[1]) > ENOUGH:
                found.append(name)
        return sorted(found)

    def _round(self, number, only, seconds):
        """One round, in more than one process if one of them fails."""
        deadline = time.monotonic() + seconds
        self.planned = 0
        todo = only
        while True:
            names = self._process(number, todo, max(
                0, deadline - time.monotonic()))
            if not names:
                return
            todo = sorted(names)

    def _process(self, number, only, seconds):
        """One process of a round.

        :returns: the names that still have to have their turn, empty if all
            had.
        """
        self._lines = queue.SimpleQueue()
        if self._interrupted:
            raise process.Interrupted
        work = process.Process({
            'backend': self.settings['backend'],
            'sizes': self.settings['sizes'],
            'cifar10': self.settings['cifar10'], 'seconds': seconds,
            'seed': '%s %d' % (self.settings['seed'], number), 'only': only,
            # What failed once would fail again.
            'without': sorted(self.result['failed']),
            'describe': not self.result['machine']}, self._lines)
        waiting = None
        running = None
        try:
            for event in work.events():
                kind = event['event']
                if kind == 'plan':
                    waiting = set(event['names'])
                    self.planned = self.planned or len(waiting)
                    self.progress.plan(len(waiting))
                elif kind == 'start':
                    running = event['name']
                    self.progress.start(running)
                elif kind in ('result', 'fail'):
                    running = None
                    waiting.discard(event['name'])
                    self.progress.done()
                self._note(number, event)
            status = work.end()
        except queue.Empty:
            status = work.stop()
            self._lost(running, work,
                       'said nothing for %d s' % process.SILENCE)
        finally:
            work.stop()
        if status == 0:
            return []
        if status != 3 and (running or waiting is None):
            self._lost(running, work, 'ended with status %d' % status)
        if running:
            waiting.discard(running)
            self.progress.done()
        self.restarts += 1
        if self.restarts > MAX_RESTARTS:
            raise errors.PerfError(
                'Gave up after %d failures of the GPU or its libraries; the '
                'last: %s' % (self.restarts,
                              list(self.result['failed'].values())[-1:]))
        return waiting

    def _lost(self, running, work, what):
        """A process that ended in the middle of a case."""
        text = 'the process %s: %s' % (what, work.complaints())
        if running is None:
            raise errors.PerfError('Nothing can be measured: ' + text)
        self.result['failed'].setdefault(running, text)

    def _note(self, number, event):
        """Keep what an event says."""
        kind, result = event['event'], self.result
        if kind == 'error':
            raise errors.PerfError(event['reason'])
        if kind == 'machine':
            result['machine'] = event['machine']
            result['backend'] = event['backend']
        elif kind == 'skip':
            result['skipped'][event['name']] = event['reason']
        elif kind == 'fail':
            result['failed'].setdefault(event['name'], event['reason'])
        elif kind == 'result':
            test = result['tests'].setdefault(event['name'], {
                'unit': event['unit'], 'better': event['better'],
                'method': event['method'], 'rounds': []})
            test['rounds'].append({'round': number, **{
                name: _short(name, value)
                for name, value in event['round'].items()}})
