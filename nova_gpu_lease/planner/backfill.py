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


"""Later requests start early where that delays no blocked one in front.

EASY backfill (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995) where
some of the blocked requests are promised a start, conservative where all are.
A promise is for certain nodes and a certain time; whoever starts leaves them
in time, or takes other devices.
"""

import heapq

from nova_gpu_lease.planner import board
from nova_gpu_lease.planner import model
from nova_gpu_lease.planner import rounds
from nova_gpu_lease.planner import shadow

#: By backfill_order. A quarter was best on public traces: perf/results.
WEIGHTS = {'age': 0, 'aged': 0.25, 'shortest': board.AFTER}

EXTENDED = 'a lease there was made longer, or ends late'
LOST = 'a host was lost'
OVERTAKEN = 'a request of a higher class came'


class Backfill(rounds.Round):
    """queue_policy = backfill."""

    def __init__(self, state, now):
        """See Round."""
        super().__init__(state, now)
        policy = state.policy
        self.depth = policy.reservation_depth
        #: How many seconds of waiting weigh as much as one of the lease.
        self._weight = WEIGHTS[policy.backfill_order]
        #: {name of a set of competing requests: how many are protected}.
        self._blocked = {}
        #: {Board: None}: those with something booked, in a fixed order.
        self.booked = {}
        #: {Board: {(Ask, how many bookings are met): number of servers}}.
        self._rooms = {}
        #: {Board: {Ask: its profile()}}.
        self._profiles = {}
        #: Names of the sets in which a higher class took its share.
        self._taken = set()

    def run(self):
        """See Round."""
        for groups in self.classes():
            names = {self.name(group) for group in groups}
            self._promised(groups)
            self._others(self._heads(groups))
            self._taken |= names
        entries = [self.state.line.entries[uuid]
                   for uuid in self.state.promises if uuid not in self.starts]
        for entry in sorted(entries, key=self.order):
            nodes = self.state.promises[entry.request.uuid].nodes
            for node, count in nodes.items():
                if node in self.state.boards:
                    self.reserve(self.state.boards[node], entry.request,
                                 count)

    def name(self, group):
        """Of the set of requests that compete with those of a group."""
        return self.state.names.of(group.first.devices)

    # Those who were promised a start

    def _promised(self, groups):
        entries = []
        for group in groups:
            for entry in list(group.promised):
                if group.idle:
                    self.state.promise(entry.request.uuid, None)
                elif entry.request.unknown:
                    self.book(entry, self.state.promises[entry.request.uuid])
                    self._count(group)
                else:
                    entries.append(entry)
        entries.sort(key=self.key)
        # Nobody who comes before may break the promise to one behind.
        several = len(entries) > 1
        old = {entry: self.state.promises[entry.request.uuid]
               for entry in entries}
        shares = {entry: self.book(entry, old[entry])
                  for entry in entries} if several else {}
        waiting, broken = [], False
        for entry in entries:
            self._unplace(shares.pop(entry, ()))
            # Its own booking is gone for now: it may find what those before
            # it did not.
            self._failed.clear()
            if self.look_again(entry, old[entry]):
                promise = self.state.promises[entry.request.uuid]
                broken = broken or _is_later(promise, old[entry])
                shares[entry] = self.book(entry, promise)
                waiting.append(entry)
        if several and broken:
            for entry in waiting:
                self._unplace(shares[entry])
            waiting = [entry for entry in waiting
                       if self._promise_again(entry, old[entry])]
        for entry in waiting:
            self._count(entry.group)

    def _promise_again(self, entry, old):
        """Find a place anew, and book it.

        :returns: whether there is one.
        """
        able = self._promise(entry, old)
        if able:
            self.book(entry, self.state.promises[entry.request.uuid])
        return able

    def look_again(self, entry, old):
        """Start a request, or renew what it was promised.

        :param old: its Promise, which is not booked now.
        :returns: whether it waits on, with a promise.
        """
        if not entry.request.held and self.try_start(entry):
            return False
        return self._promise(entry)

    def _count(self, group):
        name = self.name(group)
        self._blocked[name] = self._blocked.get(name, 0) + 1

    def _promise(self, entry, old=None):
        """Find out when a blocked request starts at the latest, and where.

        :returns: whether it ever can.
        """
        request, ask = entry.request, entry.ask
        old = old or self.state.promises.get(request.uuid)
        if not ask.enough(request.num_servers, request.together):
            self.lacking.add(entry.group)
            if old:
                self.state.promise(request.uuid, None)
            return False
        start, nodes = self._find(entry, old)
        fresh = model.Promise(
            start, {one.uuid: count for one, count in sorted(
                nodes.items(), key=lambda item: item[0].number)})
        if old:
            late = old.late
            if _is_later(fresh, old):
                late = self._why_late(entry, old)
            fresh = model.Promise(fresh.start, fresh.nodes, late)
        self.state.promise(request.uuid, fresh)
        return True

    def _find(self, entry, old):
        request, ask = entry.request, entry.ask
        if request.held:
            # It could start and does not: it keeps what it would take.
            chosen = self.choose(entry)
            if chosen:
                started = old and old.start is not None
                return min(self.now, old.start if started else self.now
                           ), chosen
        length = board.AFTER if request.duration is None else request.duration
        found = shadow.find(
            ask, request.num_servers, request.together, length, self.now,
            self.booked, lambda room: self.state.gangs.choose(
                self.state.boards, request, room), profile=self.profile)
        if found:
            return found
        return None, shadow.without_end(
            ask, request.num_servers, request.together,
            old.nodes if old else {})

    def _why_late(self, entry, old):
        if any(self.state.boards.get(node) not in entry.ask.possible
               for node in old.nodes):
            return LOST
        if self.name(entry.group) in self._taken:
            return OVERTAKEN
        return EXTENDED

    def book(self, entry, promise):
        """Book what was promised.

        :returns: a list of (Board, Share).
        """
        request = entry.request
        start, end = promise.start, board.AFTER
        if start is None:
            start = board.BEFORE
        elif request.duration is not None:
            end = max(start, self.now) + request.duration
        placed = []
        for node, count in promise.nodes.items():
            one = self.state.boards.get(node)
            if one is not None:
                share = board.Share(request.uuid, entry.ask, count, start,
                                    end)
                one.booked.append(share)
                self.booked[one] = None
                self.changed(one)
                placed.append((one, share))
        return placed

    def _unplace(self, placed):
        for one, share in placed:
            one.booked.remove(share)
            self.changed(one)
            if not one.booked:
                del self.booked[one]

    # Those in front

    def _heads(self, groups):
        """Start what can start, in order, and promise to the first blocked.

        :returns: the groups of which others may be tried.
        """
        rest = []
        heap = [(self.key(group.entries[0]), group) for group in groups
                if group.entries and not (group.idle or group.first.unknown)]
        heapq.heapify(heap)
        while heap:
            _key, group = heap[0]
            if self._blocked.get(self.name(group), 0) >= self.depth:
                rest.append(group)
                heapq.heappop(heap)
                continue
            entry = self.next(group)
            if entry.request.held or not self.try_start(entry):
                if not self._promise(entry):
                    heapq.heappop(heap)
                    continue
                # It is not among the others any more.
                self.book(entry, self.state.promises[entry.request.uuid])
                self._count(group)
            else:
                self.skip(group)
            entry = self.next(group)
            if entry is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (self.key(entry), group))
        return rest

    # The others

    def _others(self, groups):
        """Start those who delay none of the blocked."""
        heap = [(self._turn(group), group) for group in groups
                if not group.first.held]
        heapq.heapify(heap)
        while heap:
            _key, group = heap[0]
            if not self.try_start(self.next(group)):
                heapq.heappop(heap)
                continue
            self.skip(group)
            if self.next(group) is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (self._turn(group), group))

    def _turn(self, group):
        """What the others are sorted by."""
        factor, place = self.key(self.next(group))
        if not self._weight:
            return factor, 0, place
        length = group.first.duration
        if length is None:
            return factor, board.AFTER, place
        if self._weight == board.AFTER:
            return factor, length, place
        # Both grow alike while it waits, so the order of two never changes:
        # nobody is passed by who comes later than that share of its lease.
        queued_at = self.next(group).request.queued_at
        return factor, queued_at + self._weight * length, place

    def ranked(self, entry):
        """See Round; what is booked for later is used first until then."""
        first = self._until_booked(entry)
        yield from first
        for one in super().ranked(entry):
            if one not in first:
                yield one

    def _until_booked(self, entry):
        """{Board: None} where a request is gone before the others come."""
        ends_at = entry.ends_at(self.now)
        if ends_at is None or not self.booked:
            return {}
        return dict.fromkeys(sorted(
            (one for one in self.booked if entry.ask.is_free(one) and all(
                share.start >= ends_at for share in one.booked)),
            key=lambda one: (one.left(entry.ask.devices), one.number)))

    def changed(self, one):
        """See Round."""
        super().changed(one)
        self._rooms.pop(one, None)
        self._profiles.pop(one, None)

    def profile(self, one, ask, now):
        """As from Board.profile(); alike requests see the same."""
        known = self._profiles.setdefault(one, {})
        if ask not in known:
            known[ask] = one.profile(ask, now)
        return known[ask]

    def room(self, entry, one):
        """See Round."""
        if not one.booked:
            return entry.ask.count(one)
        ends_at = entry.ends_at(self.now)
        end = board.AFTER if ends_at is None else ends_at
        ahead = sum([share.start < end for share in one.booked])
        if not ahead:
            return entry.ask.count(one)
        # All that end after the same bookings began find the same.
        known = self._rooms.setdefault(one, {})
        if (entry.ask, ahead) not in known:
            known[entry.ask, ahead] = one.during(entry.ask, self.now, end)
        return known[entry.ask, ahead]


def _is_later(promise, old):
    """Whether a Promise is for a later time than an old one."""
    if old.start is None:
        return False
    return promise.start is None or promise.start > old.start
