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


"""Filling hosts without departures: what placement alone is worth.

Requests come in the order of the trace and never leave. One that finds no
room is refused and not tried again, as in "Beware of Fragmentation" (Weng et
al., USENIX ATC 2023). The share of the GPUs that is in use when as many have
been asked for as there are says how much placement has wasted.
"""

import collections
import dataclasses

from perf.replay import engine
from perf.replay import hosts as hosts_module
from perf.replay import loop

#: Shares of the capacity at which figures are kept.
MARKS = (0.5, 0.7, 0.9, 1.0)


@dataclasses.dataclass
class Fill:
    """What came of one filling.

    :ivar capacity: GPUs of all hosts.
    :ivar series: {name: values after each request}: ``asked`` and ``used``
        GPUs, ``free`` ones, and those of them on wholly free hosts of eight.
    :ivar refused: {model asked for: GPUs}.
    """

    capacity: int
    series: dict = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list))
    refused: collections.Counter = dataclasses.field(
        default_factory=collections.Counter)


def fill(jobs, hosts, policy, tick=lambda: None):
    """Fill hosts until as much was asked for as there is.

    :param jobs: list of Job, in the order in which they come.
    :param hosts: list of Host.
    :param policy: a Policy.
    :param tick: called for each job.
    :returns: a Fill.
    """
    board = loop.Board(hosts)
    fitting = hosts_module.Fitting(hosts)
    # What ever came tells which models are scarce: of those who are refused
    # nobody waits, and those who came stay.
    demand = collections.Counter()
    planning = engine.Engine(
        hosts_module.nodes(hosts, {job.model for job in jobs}), policy,
        demand)
    result = Fill(board.capacity)
    asked = 0
    for job in jobs:
        # Who never leaves has no end that the planner could go by.
        waiting = dataclasses.replace(
            loop.request(job, fitting), duration=None)
        demand[job.model] += job.size
        planning.arrive(waiting)
        names = planning.plan(job.submit).starts.get(waiting.uuid)
        if names:
            planning.started(waiting, names, job.submit)
            for name in names:
                board.change(name, -job.gpus)
        else:
            planning.withdraw(waiting.uuid)
            result.refused[job.model] += job.size
        asked += job.size
        for name, value in (
                ('asked', asked), ('used', board.capacity - board.free),
                ('free', board.free), ('whole', board.whole)):
            result.series[name].append(value)
        tick()
        if asked >= board.capacity:
            break
    return result


def figures(result):
    """The state at each mark.

    :returns: a dictionary fit for JSON: for each mark that was reached the
        share of the GPUs in use when so much had been asked for, and the
        share of free GPUs on wholly free hosts of eight when so much was in
        use.
    """
    found = {'capacity': result.capacity, 'allocated_when_asked': {},
             'free_on_whole_hosts_when_used': {},
             'refused_gpus': dict(sorted(result.refused.items()))}
    series = result.series
    for mark in MARKS:
        name = '%d %%' % round(100 * mark)
        place = _first(series['asked'], mark * result.capacity)
        if place is not None:
            found['allocated_when_asked'][name] = round(
                series['used'][place] / result.capacity, 4)
        place = _first(series['used'], mark * result.capacity)
        if place is not None and series['free'][place]:
            found['free_on_whole_hosts_when_used'][name] = round(
                series['whole'][place] / series['free'][place], 4)
    return found


def _first(values, least):
    """The place of the first value that is no smaller; None if none is."""
    return next((place for place, value in enumerate(values)
                 if value >= least), None)
