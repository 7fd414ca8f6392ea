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


"""Who had little lately comes first: fair share factors of projects.

The formulas are those of Slurm's multifactor plugin ("Classic Fairshare
Algorithm", https://slurm.schedmd.com/classic_fair_share.html): the factor is
F = 2 ** (-U / S), where S is the share of the whole that a project is
entitled to and U the share of all usage that is its own. Usage is halved each
PriorityDecayHalfLife (https://slurm.schedmd.com/priority_multifactor.html).
"""

import math


def decayed(usage, age, half_life):
    """What is left of a usage after some time.

    :param usage: GPU seconds.
    :param age: seconds since then.
    :param half_life: seconds until half is left; 0: nothing ever fades.
    :returns: GPU seconds.
    """
    return usage * 2 ** (-age / half_life) if half_life else usage


def used(number, begin, end, now, half_life):
    """What devices held for some time count now.

    Each moment fades from then on: the integral of
    ``number * 2 ** (-(now - t) / half_life)`` over the time they were held.

    :param number: of devices.
    :param begin: when, in seconds since the epoch.
    :param end: likewise; what is after ``now`` does not count yet.
    :param now: the time.
    :param half_life: seconds; 0: nothing ever fades.
    :returns: GPU seconds.
    """
    end = min(end, now)
    if end <= begin:
        return 0.0
    if not half_life:
        return float(number * (end - begin))
    rate = math.log(2) / half_life
    return number / rate * (math.exp(-rate * (now - end)) -
                            math.exp(-rate * (now - begin)))


def factors(usage, shares=None):
    """The fair share factor of each project.

    :param usage: {project id: decayed GPU seconds}.
    :param shares: {project id: weight of its share}; 1 where it is not there.
    :returns: {project id: factor}: 1 for one that used nothing, 0.5 for one
        that used exactly its share, near 0 for one that used far more.
    """
    shares = {project: (shares or {}).get(project, 1) for project in usage}
    all_shares = sum(shares.values())
    all_usage = sum(usage.values())
    result = {}
    for project, amount in usage.items():
        if not amount:
            result[project] = 1.0
        elif not shares[project]:
            result[project] = 0.0
        else:
            result[project] = 2 ** -(
                amount / all_usage / (shares[project] / all_shares))
    return result
