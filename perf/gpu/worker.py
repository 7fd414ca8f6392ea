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


"""One round: a process that measures every case once.

It gets its orders as one line of JSON on its standard input and answers with
one line of JSON for each thing that happens, on a descriptor of its own: what
libraries print to the standard output disturbs nothing. A process of its own
for each round, because much that makes two runs differ is settled when a
process starts: where its memory lies, what the libraries choose.
"""

import json
import os
import random
import sys
import time

from perf.gpu import backends
from perf.gpu import case
from perf.gpu import errors
from perf.gpu import groups
from perf.gpu import machine
from perf.gpu import measure

# Seconds. A case gets an equal share of what is left of the round, within
# these; what one leaves over is for the others.
SHORTEST = 0.05
LONGEST = 2.0


class Worker:
    """The round.

    :param orders: a dictionary with ``backend``, ``sizes``, ``cifar10``,
        ``seconds`` (for the whole round), ``seed`` (of the order of cases),
        ``only`` (names, None for all), ``without`` (names) and ``describe``
        (whether the machine's description is wanted).
    :param say: called with a dictionary for each thing that happened.
    """

    def __init__(self, orders, say):
        self.orders = orders
        self.say = say

    def run(self):
        """Measure.

        :returns: whether all cases had their turn. After a failure on a GPU
            they have not: its context may be broken for good.
        """
        backend = backends.choose(self.orders['backend'])
        cases = groups.cases(case.SIZES[self.orders['sizes']],
                             self.orders['cifar10'])
        if self.orders['describe']:
            self.say({'event': 'machine', 'backend': backend.name,
                      'machine': machine.describe(backend)})
        only, without = self.orders['only'], self.orders['without']
        todo = []
        for found in cases.values():
            if found.name in without or (
                    only is not None and found.name not in only):
                continue
            reason = found.blocked(backend)
            if reason:
                self.say({'event': 'skip', 'name': found.name,
                          'reason': reason})
            else:
                todo.append(found)
        random.Random(self.orders['seed']).shuffle(todo)
        self.say({'event': 'plan', 'names': [one.name for one in todo]})
        deadline = time.monotonic() + self.orders['seconds']
        for number, chosen in enumerate(todo):
            left = deadline - time.monotonic()
            seconds = min(LONGEST, max(SHORTEST, left / (len(todo) - number)))
            if not self._one(chosen, backend, seconds):
                return False
        return True

    def _one(self, chosen, backend, seconds):
        """Measure one case.

        :returns: False if the process should end now.
        """
        self.say({'event': 'start', 'name': chosen.name})
        try:
            with chosen.open(backend) as run:
                measured = measure.measure(run, seconds, chosen.min_sample)
                clocks = backend.clocks()
                clocks.update(getattr(run, 'extra', dict)())
        # A case may fail in any way a driver can; it fails alone, and the
        # result says how.
        except Exception as error:
            self.say({'event': 'fail', 'name': chosen.name,
                      'reason': '%s: %s' % (type(error).__name__, error)})
            return backend.name == 'cpu'
        values = sorted(chosen.value(part) for part in (
            measured.low, measured.high))
        self.say({
            'event': 'result', 'name': chosen.name, 'unit': chosen.unit,
            'better': chosen.better, 'method': chosen.method, 'round': {
                'samples': measured.samples, 'loops': measured.loops,
                'value': chosen.value(measured.median), 'low': values[0],
                'high': values[1], 'tight': measured.tight, **clocks}})
        backend.release()
        return True


def main():
    """Read the orders, run the round.

    :returns: the exit status: 0 if all cases had their turn, 3 if the rest
        needs a new process.
    """
    # Keep the standard output for the answers, and away from everybody else.
    answers = os.fdopen(os.dup(1), 'w', buffering=1, encoding='utf-8')
    os.dup2(2, 1)
    orders = json.loads(sys.stdin.readline())

    def say(what):
        print(json.dumps(what), file=answers)
    try:
        return 0 if Worker(orders, say).run() else 3
    except errors.PerfError as error:
        say({'event': 'error', 'reason': str(error)})
        return 1
    except BrokenPipeError:
        # Whoever asked is gone.
        return 1


if __name__ == '__main__':
    sys.exit(main())
