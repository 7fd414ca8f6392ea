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


"""The arithmetic of ratios, against known distributions and SciPy's Welch."""

import math

import numpy
from oslotest import base
from scipy import stats as scipy_stats

from perf.gpu import stats

HOST = [10.0, 10.1, 9.9, 10.2, 10.05]
GUEST = [11.5, 12.1, 11.8, 12.4, 11.9, 12.0]


class RatioTest(base.BaseTestCase):

    def test_interval_is_that_of_welch_on_logarithms(self):
        found = stats.cost_ratio(HOST, GUEST, 'lower', shift=0)
        test = scipy_stats.ttest_ind(numpy.log(GUEST), numpy.log(HOST),
                                     equal_var=False)
        interval = test.confidence_interval(0.95)
        self.assertAlmostEqual(math.exp(interval.low), found.low)
        self.assertAlmostEqual(math.exp(interval.high), found.high)
        self.assertAlmostEqual(
            scipy_stats.gmean(GUEST) / scipy_stats.gmean(HOST), found.value)

    def test_joint_interval_is_that_of_bonferroni(self):
        found = stats.cost_ratio(HOST, GUEST, 'lower', tests=40, shift=0)
        interval = scipy_stats.ttest_ind(
            numpy.log(GUEST), numpy.log(HOST),
            equal_var=False).confidence_interval(1 - 0.05 / 40)
        self.assertAlmostEqual(math.exp(interval.low), found.joint_low)
        self.assertAlmostEqual(math.exp(interval.high), found.joint_high)

    def test_rates_are_turned_round(self):
        times = stats.cost_ratio(HOST, GUEST, 'lower', tests=3)
        rates = stats.cost_ratio([1 / one for one in HOST],
                                 [1 / one for one in GUEST], 'higher',
                                 tests=3)
        for name in ('value', 'low', 'high', 'joint_low', 'joint_high'):
            self.assertAlmostEqual(getattr(times, name),
                                   getattr(rates, name))

    def test_shift_alone_makes_an_interval_of_its_own(self):
        found = stats.cost_ratio([1.0] * 5, [1.0] * 5, 'lower', shift=0.01)
        self.assertAlmostEqual(math.exp(1.959964 * 0.01 * math.sqrt(2)),
                               found.high, places=6)

    def test_equal_rounds_without_a_shift_have_no_width(self):
        found = stats.cost_ratio([2.0] * 3, [3.0] * 3, 'lower', shift=0)
        self.assertAlmostEqual(1.5, found.low)
        self.assertAlmostEqual(1.5, found.joint_high)

    def test_two_rounds_are_too_few(self):
        self.assertIsNone(stats.cost_ratio(HOST[:2], GUEST, 'lower'))
        self.assertIsNone(stats.cost_ratio(HOST, GUEST[:2], 'lower'))
        self.assertIsNotNone(stats.cost_ratio(HOST[:3], GUEST[:3], 'lower'))

    def test_intervals_cover_as_they_say(self):
        random = numpy.random.default_rng(3)
        ratio = 1.17
        alone = joint = 0
        for _ in range(400):
            covered = []
            for _ in range(10):
                # Sides with noise of their own, one much noisier.
                host = numpy.exp(random.normal(0, 0.02, 6))
                guest = ratio * numpy.exp(random.normal(0, 0.05, 9))
                found = stats.cost_ratio(host, guest, 'lower', tests=10,
                                         shift=0)
                alone += found.low <= ratio <= found.high
                covered.append(
                    found.joint_low <= ratio <= found.joint_high)
            joint += all(covered)
        # Four standard errors of 4000 and 400 tries.
        self.assertAlmostEqual(0.95, alone / 4000, delta=0.014)
        self.assertGreater(joint / 400, 0.95 - 0.044)

    def test_verdict_says_what_the_joint_interval_says(self):
        def ratio(low, high):
            return stats.Ratio(1, 1, 1, low, high)
        self.assertEqual('over', ratio(1.11, 1.3).verdict(0.1))
        self.assertEqual('within', ratio(0.9, 1.1).verdict(0.1))
        self.assertEqual('undecided', ratio(1.09, 1.3).verdict(0.1))
        self.assertEqual('undecided', ratio(1.1, 1.3).verdict(0.1))
        self.assertEqual('slower', ratio(1.01, 1.1).change)
        self.assertEqual('faster', ratio(0.9, 0.99).change)
        self.assertEqual('none', ratio(0.99, 1.01).change)
