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


"""How many servers can have their devices at once from pools they share."""

import collections
import itertools


def most(pools, devices, limit, taken=None):
    """The largest number of servers whose devices can be had at once.

    :param pools: list of (aliases, number of devices).
    :param devices: {alias: number of devices} of one server.
    :param limit: stop there.
    :param taken: {alias: number of devices} taken already.
    """
    if len(devices) == 1 and (not taken or taken.keys() <= devices.keys()):
        # One alias alone shares with nobody; most requests are of this kind.
        (alias, number), = devices.items()
        if number > 0:
            left = -taken[alias] if taken else 0
            for aliases, free in pools:
                if alias in aliases:
                    left += free
            return max(0, min(limit, left // number))
    for alias, number in devices.items():
        if number > 0:
            limit = min(limit, sum(free for aliases, free in pools
                                   if alias in aliases) // number)
    count = 0
    while count < limit:
        demand = collections.Counter(taken)
        for alias, number in devices.items():
            demand[alias] += number * (count + 1)
        if not satisfiable(pools, demand):
            break
        count += 1
    return count


def satisfiable(pools, demand):
    """Whether every alias can get its devices from pools it shares.

    By Hall's theorem: no set of aliases may want more than all pools have
    that match any of them. Aliases that share no pool are checked apart.
    """
    wanted = [alias for alias, number in demand.items() if number > 0]
    for part in components(
            [aliases.intersection(wanted) for aliases, _ in pools] +
            [{alias} for alias in wanted]):
        for size in range(1, len(part) + 1):
            for some in itertools.combinations(sorted(part), size):
                if sum(demand[alias] for alias in some) > sum(
                        number for aliases, number in pools
                        if not aliases.isdisjoint(some)):
                    return False
    return True


def components(sets):
    """Merge sets that meet, until none do.

    :returns: a list of disjoint sets, without empty ones.
    """
    parts = []
    for some in sets:
        some = set(some)
        apart = []
        for part in parts:
            if part.isdisjoint(some):
                apart.append(part)
            else:
                some |= part
        parts = apart + ([some] if some else [])
    return parts
