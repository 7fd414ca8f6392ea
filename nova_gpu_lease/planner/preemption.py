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


"""Which preemptible leases end early, so that a guaranteed request starts.

Least work is lost: those with the fewest device seconds behind them, and no
more of them than are needed. All are of a lower class than the request: of
an equal or higher one, they would start again before it.
"""

from nova_gpu_lease.planner import board
from nova_gpu_lease.planner import shadow

#: How many waiting requests are looked at in one plan; the next one goes on.
#: Those like one that found nothing are not looked at.
LOOKED_AT = 64


def choose(plan):
    """The leases to end early.

    :param plan: a Round that has run; what it booked is changed.
    :returns: a tuple of uuids of Running.
    """
    if not plan.state.preemptible:
        return ()
    victims = _Victims(plan)
    entries = sorted((
        entry for group in plan.state.line.groups.values()
        if not (group.first.preemptible or group.idle or group.first.held or
                group.first.unknown or group in plan.lacking)
        for entry in group.entries + group.promised
        if entry.request.uuid not in plan.starts), key=plan.order)
    # In this order: what fails for a class fails for all below it.
    failed, looked_at = set(), 0
    for entry in entries:
        request = entry.request
        shape = (entry.ask, request.num_servers, request.together,
                 request.duration)
        if shape in failed:
            continue
        if not victims.find(entry):
            failed.add(shape)
        looked_at += 1
        if looked_at == LOOKED_AT:
            break
    return tuple(victims.chosen)


class _Victims:
    """Finds leases to end for one request after the other.

    :ivar chosen: uuids of those that were found, in that order.
    """

    def __init__(self, plan):
        self.chosen = []
        self._plan = plan
        self._gone = {}
        #: What ends by then anyway needs no help.
        self._time = plan.now + plan.state.policy.preempt_grace
        self._boards = {}
        for uuid in plan.state.preemptible:
            one, running = plan.state.running(uuid)
            if one and (running.ends_at is None or
                        running.ends_at > self._time):
                self._boards.setdefault(one, []).append(running)
        for some in self._boards.values():
            some.sort(key=lambda running: (self._lost(running), running.uuid))
        self._booked = {one for one in plan.state.boards.values()
                        if one.booked}

    def _lost(self, running):
        """Device seconds; one that leaves already costs nothing more."""
        if running.leaving:
            return 0
        return ((self._plan.now - running.started_at) *
                sum(running.devices.values()))

    def find(self, entry):
        """Have one request start as soon as leases can be ended.

        :returns: whether it will.
        """
        request, ask = entry.request, entry.ask
        for one in list(self._booked):
            one.booked = [share for share in one.booked
                          if share.uuid != request.uuid]
        length = board.AFTER if request.duration is None else request.duration
        if not self._gone:
            found = shadow.find(
                ask, request.num_servers, request.together, length,
                self._plan.now, sorted(
                    self._booked, key=lambda one: one.number))
            if found and found[0] <= self._time:
                self._take(entry, found[1], length)
                return True
        here = self._here(entry, length)
        missing = request.num_servers
        nodes, ending = {}, []
        if request.together:
            here = {one: count for one, count in here.items()
                    if count >= missing}
        for one, count in here.items():
            if missing:
                nodes[one] = min(count, missing)
                missing -= nodes[one]
        options = [] if not missing else self._options(
            entry, length, nodes, missing)
        for _cost, one, count, some in options:
            if missing:
                nodes[one] = nodes.get(one, 0) + min(count, missing)
                missing -= min(count, missing)
                ending.extend((one, running) for running in some)
        if missing:
            self._restore(entry)
            return False
        for one, running in ending:
            self._gone.setdefault(one, set()).add(running.uuid)
            self._boards[one].remove(running)
            self.chosen.append(running.uuid)
        self._take(entry, nodes, length)
        return True

    def _here(self, entry, length):
        """{Board: number of servers that find their place in time}."""
        here = {}
        for time, number, _more in entry.ask.ready():
            if time > self._time:
                break
            here[entry.ask.board(number)] = None
        here.update(dict.fromkeys(sorted(
            (one for one in self._gone if one in entry.ask.possible),
            key=lambda one: one.number)))
        counts = {one: self._count(one, entry.ask, length, ())
                  for one in here}
        return {one: count for one, count in counts.items() if count}

    def _options(self, entry, length, nodes, missing):
        """What ending leases gives, the cheapest first.

        :returns: a list of (cost, Board, number of servers, [Running]).
        """
        options = []
        wanted = missing if entry.request.together else 1
        for one, some in self._boards.items():
            if one not in entry.ask.possible:
                continue
            before = nodes.get(one, 0)
            ending, have = [], before
            for running in some:
                if running.priority >= entry.request.priority:
                    continue
                ending.append(running)
                count = self._count(one, entry.ask, length, ending)
                if count < have + wanted:
                    continue
                ending = self._needed(one, entry.ask, length, ending, count)
                options.append((
                    (sum(map(self._lost, ending)), len(ending), one.number),
                    one, count - before, ending))
                break
        return sorted(options, key=lambda option: option[0])

    def _needed(self, one, ask, length, ending, count):
        """Those of some leases without which there is not enough."""
        for running in reversed(ending[:-1]):
            others = [other for other in ending if other is not running]
            if self._count(one, ask, length, others) >= count:
                ending = others
        return ending

    def _count(self, one, ask, length, ending):
        """How many servers there is room for from then on."""
        gone = self._gone.get(one, set()).union(
            running.uuid for running in ending)
        times = {self._time}.union(
            share.start for share in one.booked
            if self._time < share.start < self._time + length)
        return min(one.at(ask, time, self._plan.now, gone) for time in times)

    def _take(self, entry, nodes, length):
        """Note that a request has its place."""
        for one, count in nodes.items():
            one.booked.append(board.Share(
                entry.request.uuid, entry.ask, count, self._time,
                self._time + length))
            self._booked.add(one)
            self._plan.touched.add(one)

    def _restore(self, entry):
        """Book again what a request was promised."""
        promise = self._plan.state.promises.get(entry.request.uuid)
        if promise:
            self._plan.book(entry, promise)
