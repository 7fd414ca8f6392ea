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


"""The ratio of two measurements and how far it can be trusted.

The unit of replication is the *round*: a process of its own that measures
every case once, in an order of its own. Samples within a round are correlated
and are reduced to their median before anything is inferred (Kalibera and
Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013: repeat at the
highest level at which the results vary).

All arithmetic is on logarithms: a ratio is a difference there, its interval
is as wide upwards as downwards, and noise that multiplies becomes noise that
adds. With the rounds' medians x of the host and y of the guest:

* estimate: d = mean(log y) - mean(log x), the ratio of geometric means;
* type A uncertainty: var(log x)/n + var(log y)/m (Welch, Biometrika 34, 1947);
* type B uncertainty: two runs of one machine differ by more than the rounds of
  either show, since these share a boot, a placement of memory, a temperature.
  No single run can tell by how much, so it is stated (``shift``, the standard
  deviation of a whole run) and added in quadrature, once for each side
  (JCGM 100:2008, Guide to the Expression of Uncertainty in Measurement, 4.3
  and 5.1);
* degrees of freedom by Welch and Satterthwaite (ibid., G.4), those of the type
  B part being infinite.

A report holds many tests. Its intervals are widened (Bonferroni) so that all
of them hold together with the confidence asked for: whatever is read from
them, for one test or for many, is wrong in at most 5 % of reports. Holm's
procedure finds a little more, but gives no intervals, and a verdict that
contradicts the interval beside it helps nobody.
"""

import dataclasses
import math

from scipy import special

from perf.gpu import measure

CONFIDENCE = 0.95
# Fewer rounds have a spread that is itself a guess.
MIN_ROUNDS = 3
# Two runs of one machine then agree within 3 % in 95 % of the cases:
# 1.96 * sqrt(2) * 1 % = 2.8 %.
SHIFT = 0.01


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times longer the guest takes than the host.

    :param value: the estimate; 1.2 is a slow-down of 20 %.
    :param low: with ``high``, the 95 % interval of this test alone.
    :param joint_low: with ``joint_high``, the interval that holds together
        with those of all other tests of the report.
    """

    value: float
    low: float
    high: float
    joint_low: float
    joint_high: float

    def verdict(self, limit):
        """What is certain about a limit.

        :param limit: the greatest overhead that is accepted, 0.1 for 10 %.
        :returns: ``over``, ``within``, or ``undecided`` if the interval
            contains the limit.
        """
        if self.joint_low > 1 + limit:
            return 'over'
        if self.joint_high <= 1 + limit:
            return 'within'
        return 'undecided'

    @property
    def change(self):
        """``slower`` or ``faster`` if that is certain, else ``none``."""
        if self.joint_low > 1:
            return 'slower'
        return 'faster' if self.joint_high < 1 else 'none'


def _freedom(parts, counts, whole):
    """Degrees of freedom by Welch and Satterthwaite."""
    known = math.fsum(part ** 2 / (count - 1)
                      for part, count in zip(parts, counts))
    return whole ** 2 / known if known else math.inf


def cost_ratio(host, guest, better, tests=1, shift=SHIFT,
               confidence=CONFIDENCE):
    """Compare one test of two runs.

    :param host: the medians of the host's rounds, all positive.
    :param guest: those of the guest's rounds.
    :param better: ``higher`` for rates, ``lower`` for times; rates are turned
        round, so that the ratio is always one of costs.
    :param tests: how many tests the report holds in all.
    :param shift: standard deviation of a whole run, relative.
    :param confidence: of each interval, and of all joint ones together.
    :returns: a :class:`Ratio`; None if a side has fewer than
        :data:`MIN_ROUNDS` rounds.
    """
    if min(len(host), len(guest)) < MIN_ROUNDS:
        return None
    host_mean, host_part = measure.log_mean(host)
    guest_mean, guest_part = measure.log_mean(guest)
    estimate = guest_mean - host_mean
    if better == 'higher':
        estimate = -estimate
    variance = host_part + guest_part + 2 * shift ** 2
    freedom = _freedom((host_part, guest_part), (len(host), len(guest)),
                       variance)
    error = math.sqrt(variance)
    alone, joint = (
        error * _student((1 - confidence) / 2 / family, freedom)
        for family in (1, tests))
    return Ratio(*(math.exp(estimate + reach) for reach in
                   (0, -alone, alone, -joint, joint)))


def _student(tail, freedom):
    """The value that Student's t exceeds with the probability ``tail``."""
    if math.isinf(freedom):
        return -float(special.ndtri(tail))
    return -float(special.stdtrit(freedom, tail))
