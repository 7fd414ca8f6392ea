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


"""The measuring loop, against a clock that only moves when work is done."""

import math
import random

from oslotest import base

from perf.gpu import measure


class Work:
    """What is measured, and its clock.

    :param times: a function that gives the seconds of the next loop.
    """

    def __init__(self, times):
        self.times = times
        self.now = 0.0
        self.samples = []

    def __call__(self, loops):
        spent = math.fsum(self.times() for _ in range(loops))
        self.now += spent
        self.samples.append(loops)
        return spent

    def clock(self):
        return self.now

    def measure(self, seconds, **more):
        return measure.measure(self, seconds, clock=self.clock, **more)


class MeasureTest(base.BaseTestCase):

    def test_steady_work_ends_when_the_median_is_known(self):
        work = Work(lambda: 0.01)
        found = work.measure(10)
        self.assertTrue(found.tight)
        self.assertEqual(measure.MIN_SAMPLES, found.samples)
        self.assertAlmostEqual(0.01, found.median)
        # A quarter of the time was for warming up.
        self.assertLess(work.now, 3)
        self.assertGreater(work.now, 2.5)

    def test_unsteady_work_ends_when_the_time_is_up(self):
        generator = random.Random(1)
        work = Work(lambda: generator.uniform(0.005, 0.02))
        found = work.measure(1)
        self.assertFalse(found.tight)
        self.assertGreater(found.samples, 30)
        self.assertAlmostEqual(1, work.now, delta=0.05)
        self.assertLess(found.low, found.median)
        self.assertLess(found.median, found.high)

    def test_short_work_is_repeated_until_the_clock_can_see_it(self):
        work = Work(lambda: 1e-6)
        found = work.measure(1, min_sample=0.002)
        self.assertGreaterEqual(found.loops, 2000)
        self.assertLess(found.loops, 20001)
        self.assertAlmostEqual(1e-6, found.median)

    def test_long_work_is_measured_twice_all_the_same(self):
        found = Work(lambda: 5).measure(0.1)
        self.assertEqual((2, 1), (found.samples, found.loops))
        self.assertFalse(found.tight)

    def test_slow_start_is_not_in_the_result(self):
        starts = iter([1.0] * 3)
        found = Work(lambda: next(starts, 0.001)).measure(16)
        self.assertAlmostEqual(0.001, found.high)

    def test_median_half_width_covers_as_it_says(self):
        generator = random.Random(2)
        for count in (5, 12, 40):
            hits = 0
            for _ in range(1000):
                # Skewed, as times are; the median is 1.
                ordered = sorted(generator.lognormvariate(0, 0.5)
                                 for _ in range(count))
                reach = 0.98 * math.sqrt(count)
                low = max(1, math.floor(count / 2 - reach))
                high = min(count - 1, math.ceil(count / 2 + reach))
                hits += ordered[low - 1] <= 1 <= ordered[high]
                self.assertAlmostEqual(
                    (ordered[high] - ordered[low - 1]) / 2 /
                    measure.quantile(ordered, 0.5),
                    measure.median_half_width(ordered))
            self.assertGreater(hits, 920)

    def test_median_half_width_of_few_is_unknown(self):
        self.assertEqual(math.inf, measure.median_half_width([1, 1, 1, 1]))

    def test_quantile_is_between_neighbours(self):
        self.assertEqual(2.5, measure.quantile([1, 2, 3, 4], 0.5))
        self.assertEqual(1, measure.quantile([1, 2, 3, 4], 0))
        self.assertEqual(4, measure.quantile([1, 2, 3, 4], 1))
        self.assertEqual(7, measure.quantile([7], 0.95))
