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


"""Why the others wait, for their users, and until about when."""

import datetime
import hashlib
import heapq

from nova_gpu_lease.planner import board
from nova_gpu_lease.planner import matching
from nova_gpu_lease.planner import model
from nova_gpu_lease.planner import shadow

RETRY = 'The last try to start failed; it is tried again soon.'


class Names:
    """Names of the sets of requests that compete, which their aliases make.

    :ivar stale: whether the pools or the requests changed since.
    """

    def __init__(self):
        self.stale = True
        self._names = {}

    def refresh(self, pools, asks):
        """Have the names follow.

        :param pools: an iterable of sets of aliases.
        :param asks: the Asks of all requests.
        """
        if not self.stale:
            return
        self.stale = False
        self._names = {}
        for part in matching.components(
                [*pools, *(ask.devices.keys() for ask in asks if ask.users)]):
            name = ','.join(sorted(part))
            if len(name) > model.MAX_GROUP:
                name = hashlib.sha256(name.encode()).hexdigest()
            self._names.update(dict.fromkeys(part, name))

    def of(self, devices):
        """The name of the set of those who ask for these aliases."""
        return self._names.get(min(devices, default=None), '')


def waits(plan):
    """Why each request waits.

    :param plan: a Round that has run.
    :returns: {request uuid: Wait}.
    """
    promises = plan.state.promises
    found, ahead = {}, {}
    estimates = _Estimates(plan)
    why = _Why(plan)
    for entry, (name, number, duration, code, words) in _in_order(plan, why):
        uuid = entry.request.uuid
        promise = promises.get(uuid)
        if code is not None and promise is None:
            found[uuid] = model.Wait(code, words, name)
            continue
        start = promise and promise.start
        estimate = estimates.next(entry, name, number, duration, start)
        expected = estimate if start is None else start
        behind = ahead.get(name, 0)
        ahead[name] = behind + 1
        if code is None:
            code, words = why.of(entry, behind, expected, promise)
        found[uuid] = model.Wait(code, words, name, expected,
                                 start is not None)
    return found


def _in_order(plan, why):
    """All who wait, in the order of the queue.

    What is the same for a group is worked out once: there are few of them.

    :returns: an iterator of (Entry, (name of the set of its competitors,
        number of devices of all its servers, length of its lease, code and
        words or None and None where they depend on who is in front)).
    """
    entries, facts = [], {}
    for group in plan.state.line.groups.values():
        request = group.first
        facts[group] = (
            plan.state.names.of(request.devices),
            request.num_servers * sum(request.devices.values()),
            request.duration, *why.of_group(group))
        order = -request.priority, -plan.state.factor(request)
        for promised, some in ((False, group.promised),
                               (True, group.entries)):
            entries.extend(
                (order[0], promised, order[1], entry.place, entry)
                for entry in some if entry.request.uuid not in plan.starts)
    # No two places are the same.
    entries.sort()
    return ((order[-1], facts[order[-1].group]) for order in entries)


class _Why:
    """The codes and the words; the same is worked out once."""

    def __init__(self, plan):
        self._plan = plan
        self._clock = {}
        self._shapes = {}

    def of_group(self, group):
        """The code and the words for those who are not simply in line."""
        request = group.first
        if request.unknown and not group.idle:
            return model.WAIT_RESOURCES, request.missing or (
                'Where it fits could not be found out; it is tried again '
                'soon.')
        if request.held and not group.idle:
            return None, None
        if request.held:
            return model.WAIT_RETRY, RETRY
        if request.over_quota:
            return model.WAIT_QUOTA, request.over_quota
        if not group.ask.enough(request.num_servers, request.together):
            return model.WAIT_RESOURCES, request.missing or (
                'No host has enough room besides the devices.')
        return None, None

    def of(self, entry, behind, expected, promise):
        """The code and the words for one request that is in line.

        :param behind: how many are in front of it.
        :param expected: when it starts, or None.
        :param promise: its Promise, or None.
        """
        request = entry.request
        if request.held:
            return model.WAIT_RETRY, RETRY
        shape = entry.ask, request.num_servers, request.together
        if shape not in self._shapes:
            self._shapes[shape] = self._of_shape(entry)
        code, words = self._shapes[shape]
        if expected is None:
            words += ', start unknown until a server without an end goes'
        else:
            words += (', expected ' if promise and promise.start is not None
                      else ', estimated ') + self._time(expected)
        if behind:
            words += ', behind %d request%s' % (behind, 's'[:behind > 1])
        if promise and promise.late:
            words += ', later than promised: ' + promise.late
        return code, words

    def _of_shape(self, entry):
        is_free = self._plan.choose(entry, blind=True) is not None
        return (model.WAIT_BEHIND if is_free else model.WAIT_DEVICES,
                'waiting for ' + need(entry.request))

    def _time(self, time):
        minute = -(-time // 60)
        if minute not in self._clock:
            self._clock[minute] = clock_time(minute * 60, self._plan.now)
        return self._clock[minute]


def need(request):
    """What a request asks for: ``2 gpu:a100 on one host``."""
    devices = ' and '.join(
        '%d %s' % (number, alias if alias == 'gpu' else 'gpu:' + alias)
        for alias, number in sorted(request.devices.items()))
    several = sum(request.devices.values()) > 1
    if request.num_servers == 1:
        return devices + (' on one host' if several else '')
    each = '%s for each of %d servers' % (devices, request.num_servers)
    if request.together:
        return each + ', all on one host'
    return each + (', each on one host' if several else '')


def clock_time(time, now):
    """A time as people write it; with the date where that is not today's.

    :param time: seconds since the epoch.
    :param now: the time.
    :returns: ``14:05 UTC`` or ``2026-11-27 14:05 UTC``.
    """
    try:
        then, today = (datetime.datetime.fromtimestamp(
            seconds, datetime.timezone.utc) for seconds in (time, now))
    except (OverflowError, ValueError):
        return 'in more than a lifetime'
    return then.strftime('%H:%M UTC' if then.date() == today.date()
                         else '%Y-%m-%d %H:%M UTC')


class _Estimates:
    """About when requests start, were all devices of a set alike.

    In the order of the queue each takes what comes free first. That leaves
    out that devices of one server are to be on one host (it is too early)
    and that later ones slip in front (it is too late).
    """

    def __init__(self, plan):
        self._plan = plan
        self._sets = {}

    def next(self, entry, name, number, duration, promised):
        """The estimate for the next request in the order of the queue.

        :param name: of the set of those it competes with.
        :param number: of devices that it takes.
        :param duration: of its lease; None never ends.
        :param promised: when it starts at the latest, or None.
        """
        devices = self._sets.get(name)
        if devices is None:
            devices = self._sets[name] = _Fluid(self._plan, name)
            if promised is None and not self._plan.state.promises:
                promised = self._first(entry)
        return devices.take(number, duration, promised)

    def _first(self, entry):
        """When a blocked head starts that has no promise."""
        request = entry.request
        length = board.AFTER if request.duration is None else request.duration
        found = shadow.find(entry.ask, request.num_servers, request.together,
                            length, self._plan.now, ())
        return found and found[0]


class _Fluid:
    """The devices of a set of competitors as if they were one heap."""

    def __init__(self, plan, name):
        supply = plan.state.supply
        models = [aliases for aliases in supply.total
                  if plan.state.names.of(aliases) == name]
        self._now = plan.now
        self._time = plan.now
        self._free = sum(supply.free[aliases] for aliases in models)
        ends = [supply.ends(aliases) for aliases in models]
        self._ends = ends[0] if len(ends) == 1 else list(heapq.merge(*ends))
        self._index = 0
        self._mine = []
        for uuid, nodes in plan.starts.items():
            request = plan.state.line.entries[uuid].request
            if plan.state.names.of(request.devices) == name:
                number = len(nodes) * sum(request.devices.values())
                self._free -= number
                self._put(plan.now, request.duration, number)

    def _put(self, time, duration, number):
        if duration is not None:
            heapq.heappush(self._mine, (time + duration, number))

    def take(self, number, duration, promised):
        """When so many are free; they are taken from then on.

        :returns: the time, or None where not enough ever are.
        """
        ends, index, mine = self._ends, self._index, self._mine
        free, time, soon = self._free, self._time, self._now + board.OVERDUE
        # Nobody who waits starts now, whatever is free.
        first = time == self._now and promised is None
        while free < number or first:
            first = False
            if index < len(ends) and (not mine or ends[index][0] < mine[0][0]):
                then, _uuid, freed = ends[index]
                index += 1
            elif mine:
                then, freed = heapq.heappop(mine)
            else:
                time = None
                break
            free += freed
            if then > time:
                time = then
            if time < soon:
                time = soon
        self._free, self._index = free, index
        if time is None:
            return promised
        self._time = time
        self._free -= number
        if promised is not None:
            time = promised
        self._put(max(time, self._now), duration, number)
        return time
