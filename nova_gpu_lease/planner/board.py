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


"""One node while plans are made: what it can hold now, and at a later time.

It knows nothing of the queue and decides nothing.
"""

import bisect
import collections
import dataclasses
import itertools
import operator

from nova_gpu_lease.planner import later
from nova_gpu_lease.planner import matching
from nova_gpu_lease.planner import score

#: These are needed wherever boards are.
BEFORE, AFTER, OVERDUE = later.BEFORE, later.AFTER, later.OVERDUE
Share = later.Share
_TIME = operator.itemgetter(0)
#: Numbers the changes of all boards.
_changes = itertools.count(1)


class Board:
    """A node: its devices, its room, who is there until when, who comes.

    :ivar uuid: of the node.
    :ivar number: its place in the order of the hosts.
    :ivar asks: the Asks that have it among their nodes.
    :ivar begun: the Shares that this plan starts.
    :ivar booked: the Shares that this plan promises.
    :ivar stamp: number of its last change, also of what is booked for long.
    :ivar kept: aliases of which no later request gets a device.
    """

    def __init__(self, uuid, node):
        """:param node: a Node."""
        self.uuid = uuid
        self.number = 0
        self.asks = []
        self.begun, self.booked, self.kept = [], [], set()
        self.running = {}
        self._ends = []
        self._taken = {}
        self._era = None
        self.stamp = next(_changes)
        self.set(node)

    def set(self, node):
        """Be as a Node says; what runs stays."""
        self.node = node
        self.aliases = [pool.aliases for pool in node.pools]
        self.free = [pool.free for pool in node.pools]
        self._index = {pool.key: index
                       for index, pool in enumerate(node.pools)}
        self._room = dict(node.room) if node.room is not None else None

    def same_kind(self, node):
        """Whether a Node differs from this one in free amounts only."""
        return dataclasses.replace(
            node, room=self.node.room, promised=self.node.promised,
            pools=tuple(
                dataclasses.replace(pool, free=old.free)
                for pool, old in zip(node.pools, self.node.pools))
        ) == self.node and len(node.pools) == len(self.node.pools)

    def models(self, devices):
        """{aliases: number} of {key of a pool: number of devices}."""
        models = collections.Counter()
        for key, number in devices.items():
            if key in self._index:
                models[self.aliases[self._index[key]]] += number
        return models

    # Who runs here

    def add(self, running):
        """Note who runs here; what it has is not free already."""
        self.running[running.uuid] = running
        if running.ends_at is not None:
            bisect.insort(self._ends, (running.ends_at, running.uuid))
        self._drain()

    def remove(self, uuid):
        """Forget a Running; what it has is not free thereby."""
        running = self.running.pop(uuid)
        if running.ends_at is not None:
            self._ends.remove((running.ends_at, uuid))
        self._drain()
        return running

    def give(self, running, sign):
        """Add what a Running has to what is free (1), or take it (-1)."""
        for key, number in running.devices.items():
            if key in self._index:
                self.free[self._index[key]] += sign * number
        for name, amount in running.amounts.items():
            if self._room is not None and name in self._room:
                self._room[name] += sign * amount

    def _drain(self):
        self._era = None
        self.touch()

    @property
    def era(self):
        """When the last of those here ends, as from score.drained()."""
        if self._era is None:
            ends = [running.ends_at for running in self.running.values()]
            self._era = score.drained(ends + [
                None if share.end == AFTER else share.end
                for share in self.begun])
        return self._era

    @staticmethod
    def changes():
        """The number of the last change of any Board, or one after it."""
        return next(_changes)

    def touch(self):
        """Have everybody look at it again."""
        self.stamp = next(_changes)
        for ask in self.asks:
            ask.dirty.add(self)
            ask.unready.add(self)

    # What a plan does, for as long as it is made

    def begin(self, share):
        """A Share starts now."""
        self.begun.append(share)
        self._use(share, 1)

    def reset(self):
        """Forget the plan."""
        self.booked, self.kept = [], set()
        if self.begun:
            begun, self.begun = self.begun, []
            for share in begun:
                self._use(share, -1)
            self._taken.clear()

    def _use(self, share, sign):
        count = sign * share.count
        for alias, number in share.ask.devices.items():
            taken = self._taken.get(alias, 0) + number * count
            self._taken[alias] = taken
        if self._room is not None:
            for name, amount in (share.ask.amounts or {}).items():
                if name in self._room:
                    self._room[name] -= amount * count
        self._drain()

    # How good it is

    def left(self, devices):
        """How many devices of these aliases are free after one start."""
        return sum(
            free for aliases, free in zip(self.aliases, self.free)
            if not aliases.isdisjoint(devices)) - sum(
                number + self._taken.get(alias, 0)
                for alias, number in devices.items())

    def rarest(self, devices, scarcity):
        """As from score.rarest()."""
        return max((scarcity.get(aliases, 0) for aliases, free
                    in zip(self.aliases, self.free)
                    if free and not aliases.isdisjoint(devices)), default=0)

    def freed(self, devices):
        """How many devices of these aliases are free once all ended."""
        mine = {key: index for key, index in self._index.items()
                if not self.aliases[index].isdisjoint(devices)}
        return sum(self.free[index] for index in mine.values()) + sum(
            number for running in self.running.values()
            if running.ends_at is not None
            for key, number in running.devices.items() if key in mine)

    # How many servers of an Ask can be here

    def now(self, ask):
        """How many could start now, were nothing booked or kept."""
        limit = ask.fits.get(self.uuid, 0)
        return limit and later.most(
            ask, zip(self.aliases, self.free), self._taken, later.limit(
                ask, limit, self._room,
                sum(share.count for share in self.begun)))

    def unkept(self, ask):
        """How many could start now on what is not kept."""
        if not self.kept:
            return self.now(ask)
        if self.kept & ask.devices.keys():
            return 0
        return later.most(
            ask, [(aliases, free) for aliases, free
                  in zip(self.aliases, self.free)
                  if not aliases & self.kept],
            self._taken, self.now(ask))

    def possible(self, ask):
        """How many could ever be here, were all devices free."""
        return matching.most(
            [(pool.aliases, 1 << 20 if pool.total is None else pool.total)
             for pool in self.node.pools], ask.devices,
            max(ask.fits.get(self.uuid, 0), ask.after.get(self.uuid, 0)))

    def steps(self, ask):
        """How many more could be here, and from when on; nothing booked.

        :returns: a list of (time, how many more), in order of time.
        """
        highest = self.now(ask)
        steps = [(BEFORE, highest)] if highest else []
        ends = self._ends + [(share.end, share) for share in self.begun
                             if share.end != AFTER]
        if self.begun:
            ends.sort(key=lambda end: end[0])
        view = later.View(self)
        for time, some in itertools.groupby(ends, key=lambda end: end[0]):
            for _time, one in some:
                view.ended(one)
            count = view.most(ask)
            if count > highest:
                steps.append((time, count - highest))
                highest = count
        return steps

    def at(self, ask, time, now, without=()):
        """How many could be here at a time, besides those booked.

        :param without: uuids of Running that are taken to be gone.
        """
        view = later.View(self)
        if time > now:
            for end, uuid in self._ends:
                if end > time:
                    break
                if uuid not in without:
                    view.ended(uuid)
            for share in self.begun:
                if share.end <= time:
                    view.ended(share)
        for uuid in without:
            view.ended(uuid)
        for share in self.booked:
            if share.start <= time < share.end:
                view.come(share)
        return view.most(ask)

    def profile(self, ask, now):
        """How many could be here from now on, besides those booked.

        :returns: a list of (time, how many from then on), in order of time.
        """
        view = later.View(self)
        events = [(max(end, now + OVERDUE), view.ended, uuid)
                  for end, uuid in self._ends]
        events += [(share.end, view.ended, share) for share in self.begun]
        for share in self.booked:
            if share.start > now:
                events.append((share.start, view.come, share))
            elif share.end > now:
                view.come(share)
            if share.end > now:
                events.append((share.end, view.leave, share))
        events.sort(key=_TIME)
        points = [(now, view.most(ask))]
        for time, some in itertools.groupby(events, _TIME):
            if time == AFTER:
                break
            for _time, change, one in some:
                change(one)
            count = view.most(ask)
            if count != points[-1][1]:
                points.append((time, count))
        return points

    def during(self, ask, now, end):
        """How many could be here from now on until an end."""
        times = {now}.union(share.start for share in self.booked
                            if now < share.start < end)
        return min(self.at(ask, time, now) for time in times)

    @property
    def in_use(self):
        """How many devices those who run here have."""
        return sum(sum(running.devices.values())
                   for running in self.running.values())
