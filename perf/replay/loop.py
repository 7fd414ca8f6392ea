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


"""Simulated time: ends, arrivals, and a plan after each second with any."""

import collections
import dataclasses
import heapq

from nova_gpu_lease import planner
from perf.gpu import errors
from perf.replay import engine
from perf.replay import hosts as hosts_module
from perf.replay import promises as promises_module

#: What is kept of each second with an event.
SERIES = ('time', 'queue', 'used', 'free', 'whole')


@dataclasses.dataclass
class Replay:
    """What came of one trace under one policy.

    :ivar jobs: those that were replayed.
    :ivar capacity: GPUs of all hosts.
    :ivar eights: whether there are hosts of eight GPUs.
    :ivar starts: {row: seconds}.
    :ivar runs: {row: seconds that it had its GPUs}.
    :ivar promises: Promises.
    :ivar series: {name of SERIES: values after each second with an event}:
        jobs that wait, GPUs in use, free GPUs, and those of them that are on
        hosts of eight where all are free.
    :ivar left_out: rows that no number of free hosts could ever take.
    """

    jobs: list
    capacity: int
    eights: bool
    starts: dict = dataclasses.field(default_factory=dict)
    runs: dict = dataclasses.field(default_factory=dict)
    promises: promises_module.Promises = dataclasses.field(
        default_factory=promises_module.Promises)
    series: dict = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list))
    left_out: list = dataclasses.field(default_factory=list)


class Board:
    """How many GPUs are free where, for the report.

    :param hosts: list of Host.
    """

    def __init__(self, hosts):
        self._free = {host.name: host.gpus for host in hosts}
        self._eight = {host.name for host in hosts if host.gpus == 8}
        self.capacity = self.free = sum(self._free.values())
        self.eights = bool(self._eight)
        self.whole = 8 * len(self._eight)

    def change(self, name, number):
        """GPUs of a host are taken (below 0) or freed."""
        before = self._free[name]
        after = self._free[name] = before + number
        if after < 0:
            raise AssertionError('%s has less than no GPU' % name)
        self.free += number
        if name in self._eight:
            self.whole += 8 * ((after == 8) - (before == 8))


def request(job, fitting):
    """A job as the planner sees it."""
    return planner.Waiting(
        uuid='%07d' % job.row, num_servers=job.servers,
        devices={job.model: job.gpus}, fits=fitting.fits(job), amounts={},
        duration=job.lease, queued_at=job.submit)


def replay(jobs, hosts, policy, held=False, tick=lambda: None):
    """Run a trace to its end.

    :param jobs: list of Job, by submit.
    :param hosts: list of Host.
    :param policy: a Policy.
    :param held: GPUs are held to the end of the lease; otherwise until the
        job has run.
    :param tick: called when a job starts.
    :returns: a Replay.
    """
    fitting = hosts_module.Fitting(hosts)
    possible = [job for job in jobs if fitting.possible(job)]
    board = Board(hosts)
    result = Replay(possible, board.capacity, board.eights)
    result.left_out = [job.row for job in jobs if not fitting.possible(job)]
    run = _Run(result, board, fitting, engine.Engine(
        hosts_module.nodes(hosts, {job.model for job in possible}), policy),
        held, tick)
    run()
    return result


class _Run:
    """The state of a replay."""

    def __init__(self, result, board, fitting, planning, held, tick):
        self._result = result
        self._board = board
        self._fitting = fitting
        self._planning = planning
        self._held = held
        self._tick = tick
        self._jobs = {}
        # (time, uuid, [(host, GPUs)]) of what runs.
        self._ends = []

    def __call__(self):
        jobs, arrived = self._result.jobs, 0
        while arrived < len(jobs) or self._ends:
            now = min([job.submit for job in jobs[arrived:arrived + 1]] +
                      [end[0] for end in self._ends[:1]])
            # In this order: who comes when another ends finds its GPUs free.
            while self._ends and self._ends[0][0] == now:
                self._end(*heapq.heappop(self._ends))
            while arrived < len(jobs) and jobs[arrived].submit == now:
                waiting = request(jobs[arrived], self._fitting)
                self._jobs[waiting.uuid] = jobs[arrived], waiting
                self._planning.arrive(waiting)
                arrived += 1
            self._plan(now)
            self._record(now)
        if self._jobs:
            raise errors.PerfError(
                '%d jobs never started; the first is row %d.' % (
                    len(self._jobs), int(min(self._jobs))))

    def _end(self, _now, uuid, taken):
        self._planning.end(uuid)
        for name, number in taken:
            self._board.change(name, number)

    def _plan(self, now):
        plan = self._planning.plan(now)
        for uuid, promise in plan.promises.items():
            if uuid in self._jobs and promise.start is not None:
                self._result.promises.promised(int(uuid), promise.start)
        for uuid, names in plan.starts.items():
            self._start(now, uuid, names)

    def _start(self, now, uuid, names):
        job, waiting = self._jobs.pop(uuid)
        taken = [(name, job.gpus * count)
                 for name, count in collections.Counter(names).items()]
        for name, number in taken:
            self._board.change(name, -number)
        run = job.lease if self._held else job.duration
        self._planning.started(waiting, names, now)
        heapq.heappush(self._ends, (now + run, uuid, taken))
        self._result.starts[job.row] = now
        self._result.runs[job.row] = run
        self._result.promises.started(job.row, now)
        self._tick()

    def _record(self, now):
        board = self._board
        for name, value in zip(SERIES, (
                now, len(self._jobs), board.capacity - board.free,
                board.free, board.whole)):
            self._result.series[name].append(value)
