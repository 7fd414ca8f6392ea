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


"""Results without a machine: what the simulated ones are made of."""

import logging
import math

import numpy
from oslotest import base

from perf.gpu import runner
from perf.gpu import schema


class TestCase(base.BaseTestCase):
    """A test that does not keep every thought of the libraries."""

    def setUp(self):
        super().setUp()
        for name in ('markdown_it', 'matplotlib', 'PIL'):
            logger = logging.getLogger(name)
            self.addCleanup(logger.setLevel, logger.level)
            logger.setLevel(logging.WARNING)


def result(tests, label='machine', **more):
    """A result with the given rounds.

    :param tests: by name, (unit, better, values of the rounds).
    """
    return {
        'schema': schema.NAME, 'version': schema.VERSION, 'label': label,
        'started': '2026-01-01T00:00:00+00:00',
        'ended': '2026-01-01T00:09:00+00:00', 'interrupted': False,
        'backend': 'gpu', 'sizes': 'full', 'settings': {'rounds': 8},
        'machine': {'hypervisor': 'none' if label == 'host' else 'kvm'},
        'tests': {name: {
            'unit': unit, 'better': better, 'method': 'by the clock',
            'rounds': [{
                'round': number, 'samples': 20, 'loops': 1, 'value': value,
                'low': value * 0.99, 'high': value * 1.01, 'tight': True}
                for number, value in enumerate(values)]}
            for name, (unit, better, values) in tests.items()},
        'skipped': {}, 'failed': {}, **more}


class Machine:
    """A machine whose noise has the parts that real ones have.

    Per test, the spread of its rounds is drawn from a log-normal distribution
    around 1 %, so that the noisiest of 120 tests vary by 4 % from process to
    process. Rounds have heavy tails (Student's t with five degrees of
    freedom). Within a round the samples are an autoregressive process with
    now and then an interrupt that takes half as long again; so their number
    does not make them independent. All tests of a run drift together, like
    temperature and clocks do, and each run as a whole lies beside the next.

    :param generator: NumPy's.
    :param names: of the tests.
    """

    rounds = 8
    max_rounds = 30
    samples = 20
    # Standard deviations, relative: of a whole run for a test and for all of
    # them, of a step of the drift from round to round.
    run_of_test = 0.007
    run_of_all = 0.004
    drift = 0.002

    def __init__(self, generator, names):
        self.random = generator
        # What is left of the step of the one sample in the other.
        age = numpy.subtract.outer(*[numpy.arange(self.samples)] * 2).T
        self.memory = numpy.where(age >= 0, 0.9 ** abs(age), 0)
        self.spreads = {name: math.exp(generator.normal(math.log(0.01), 0.6))
                        for name in names}

    def _rounds(self, levels, spread):
        """The medians of rounds, seconds."""
        random = self.random
        count = len(levels)
        levels = levels + spread * random.standard_t(5, count) * 0.6 ** 0.5
        noise = random.normal(0, 0.01, (count, self.samples)) @ self.memory
        noise += 0.4 * (random.random(noise.shape) < 0.03)
        return numpy.exp(levels + numpy.median(noise, axis=1)).tolist()

    def _enough(self, times):
        """How many rounds the runner would have made."""
        logs = numpy.log(times)
        counts = numpy.arange(1, len(logs) + 1)
        means = numpy.cumsum(logs) / counts
        squares = numpy.cumsum(logs ** 2) - counts * means ** 2
        for count in range(self.rounds, len(logs)):
            if squares[count - 1] <= count * (count - 1) * runner.ENOUGH ** 2:
                return count
        return len(logs)

    def run(self, label, slower=None):
        """A whole run, with further rounds where the first ones differ.

        :param slower: by name, how many times longer a test takes.
        :returns: a result.
        """
        drift = self.random.normal(0, self.run_of_all) + numpy.cumsum(
            self.random.normal(0, self.drift, self.max_rounds))
        tests = {}
        for number, (name, spread) in enumerate(self.spreads.items()):
            level = math.log((slower or {}).get(name, 1)) + \
                self.random.normal(0, self.run_of_test)
            times = self._rounds(level + drift, spread)
            times = times[:self._enough(times)]
            # Every other one is a rate.
            if number % 2:
                tests[name] = ('MB/s', 'higher', [1e3 / one for one in times])
            else:
                tests[name] = ('ms', 'lower', times)
        return result(tests, label)
