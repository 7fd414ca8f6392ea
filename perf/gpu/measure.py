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


"""The measuring loop of one case in one round.

The samples of one round follow each other within a second and share the state
of the machine: clocks, placement of memory, neighbours. They are correlated,
so they say how well *this round's* median is known and nothing about the next
round's. What a report's intervals are made of is the spread between rounds,
see :mod:`perf.gpu.stats`.
"""

import dataclasses
import math
import time

# Half the width of the interval of a round's median, relative to it, at which
# the round stops. A tenth of the smallest overhead that is of interest.
TOLERANCE = 0.01
MIN_SAMPLES = 5
MAX_SAMPLES = 2000
MAX_LOOPS = 1 << 20
# Of a case's time, what goes into warming up: clocks rise, caches and
# allocators fill, libraries choose their algorithms.
WARM_UP_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one round found, in seconds per loop.

    :param samples: how many samples were taken.
    :param loops: how many loops each of them took.
    :param median: with ``low`` and ``high``, the 5th and the 95th percentile.
    :param tight: whether the tolerance was reached before the time was up.
    """

    samples: int
    loops: int
    median: float
    low: float
    high: float
    tight: bool


def quantile(ordered, share):
    """The quantile of sorted values, linear between two of them."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] -
                                               ordered[below])


def median_half_width(ordered):
    """Half the 95 % interval of the median, relative to the median.

    By order statistics, which needs no assumption on the distribution: the
    interval from rank ``n/2 - 0.98 sqrt(n)`` to ``n/2 + 0.98 sqrt(n) + 1``
    (David and Nagaraja, Order Statistics, 3rd ed., section 7.1, with the
    normal approximation of the binomial ranks).

    :returns: infinity if there are too few values for such ranks.
    """
    count = len(ordered)
    reach = 0.98 * math.sqrt(count)
    low = math.floor(count / 2 - reach)
    high = math.ceil(count / 2 + reach)
    if low < 1 or high > count - 1:
        # The extremes of five values hold the median with 94 %.
        low, high = 1, count - 1
        if count < MIN_SAMPLES:
            return math.inf
    median = quantile(ordered, 0.5)
    return (ordered[high] - ordered[low - 1]) / 2 / median


def log_mean(values):
    """The mean of logarithms, and the variance of that mean.

    :param values: independent and positive, two at least; the medians of
        rounds.
    """
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / len(logs)
    squares = math.fsum((log - mean) ** 2 for log in logs)
    return mean, squares / (len(logs) - 1) / len(logs)


def _loops(run, min_sample, deadline, clock):
    """How many loops make a sample long enough; the first runs warm up."""
    loops, spent = 1, run(1)
    while spent < min_sample and loops < MAX_LOOPS and clock() < deadline:
        # At most tenfold at once: the first loop may have been a slow one.
        growth = min(10, max(2, math.ceil(min_sample / max(spent, 1e-9))))
        loops *= growth
        spent = run(loops)
    return loops


def measure(run, seconds, min_sample=0.002, tolerance=TOLERANCE,
            clock=time.perf_counter):
    """Warm up, then repeat until the median is known or the time is up.

    :param run: a function from a number of loops to the seconds they took.
    :param seconds: how long all of it may take. Two samples are taken in any
        case, if a single one takes longer than that.
    :param min_sample: seconds that one sample takes at least.
    :param tolerance: relative half-width of the median's interval at which it
        is known well enough.
    :returns: a :class:`Measured`.
    """
    start = clock()
    deadline = start + seconds
    warm = start + WARM_UP_SHARE * seconds
    loops = _loops(run, min_sample, deadline, clock)
    while clock() < warm:
        run(loops)
    times = []
    tight = False
    while len(times) < MAX_SAMPLES:
        if clock() >= deadline and len(times) >= 2:
            break
        times.append(run(loops) / loops)
        # The check costs a sort: not after every one of many samples.
        if len(times) >= MIN_SAMPLES and len(times) % MIN_SAMPLES == 0:
            tight = median_half_width(sorted(times)) <= tolerance
            if tight:
                break
    ordered = sorted(times)
    return Measured(
        samples=len(times), loops=loops, median=quantile(ordered, 0.5),
        low=quantile(ordered, 0.05), high=quantile(ordered, 0.95),
        tight=tight)
