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


"""One plan as it is made: what is common to all policies."""

import collections

from nova_gpu_lease.planner import board
from nova_gpu_lease.planner import explain
from nova_gpu_lease.planner import model
from nova_gpu_lease.planner import preemption


class Round:
    """Looks at the queue once; leaves the State as it was.

    :ivar state: the State.
    :ivar now: the time.
    :ivar starts: {request uuid: [node uuid]}.
    :ivar reservations: as of a Plan.
    :ivar lacking: Groups that lack more than devices.
    :ivar touched: Boards on which something was written.
    """

    def __init__(self, state, now):
        """:param state: a State.

        :param now: the time.
        """
        self.state = state
        self.now = now
        self.starts = {}
        self.reservations = {}
        self.lacking = set()
        self.touched = set()
        self._begun = collections.Counter()
        #: {(ask, servers, together): length of a lease that found no place}.
        self._failed = {}

    def plan(self, explained):
        """Make a Plan.

        :param explained: whether it says why others wait.
        """
        for uuid, one in self.state.boards.items():
            if one.node.promised:
                self.reservations[uuid] = list(one.node.promised)
        try:
            self.run()
            preemptions = preemption.choose(self)
            waits = explain.waits(self) if explained else {}
        finally:
            for one in self.touched:
                one.reset()
        return model.Plan(
            self.starts, waits, self.reservations, {
                uuid: promise for uuid, promise
                in self.state.promises.items() if uuid not in self.starts},
            preemptions)

    def run(self):
        """Fill in ``starts`` and the promises of the State."""
        raise NotImplementedError

    def classes(self):
        """The groups of each class, the highest class first.

        :returns: a list of lists of Group.
        """
        classes = collections.defaultdict(list)
        for group in self.state.line.groups.values():
            classes[group.first.priority].append(group)
        return [classes[weight] for weight in sorted(classes, reverse=True)]

    def next(self, group):
        """The first Entry of a group that has no promise and no place yet."""
        begun = self._begun[group]
        return group.entries[begun] if begun < len(group.entries) else None

    def skip(self, group):
        """The first of a group is dealt with."""
        self._begun[group] += 1

    def key(self, entry):
        """What entries of one class are sorted by."""
        return -self.state.factor(entry.request), entry.place

    def order(self, entry):
        """What all entries are sorted by."""
        request = entry.request
        return (-request.priority, request.uuid not in self.state.promises,
                *self.key(entry))

    # Starts

    def try_start(self, entry):
        """Start a request if it finds its place.

        :returns: whether it did.
        """
        request, ask = entry.request, entry.ask
        length = board.AFTER if request.duration is None else request.duration
        shape = ask, request.num_servers, request.together
        failed = self._failed.get(shape)
        if failed is not None and length >= failed:
            return False
        chosen = self.choose(entry)
        if chosen is None:
            # Later ones find less, and longer ones are in the way longer.
            self._failed[shape] = length
            return False
        self._begin(entry, chosen)
        return True

    def changed(self, one):
        """Something was written on a Board."""
        self.touched.add(one)

    def give_up(self, entry):
        """Try no other that asks for the same, however short."""
        request = entry.request
        self._failed[entry.ask, request.num_servers, request.together] = 0

    def _begin(self, entry, chosen):
        """Start a request on {Board: number of servers}."""
        request = entry.request
        ends_at = entry.ends_at(self.now)
        for one, count in chosen.items():
            one.begin(board.Share(
                request.uuid, entry.ask, count, self.now,
                board.AFTER if ends_at is None else ends_at))
            self.changed(one)
            self.reserve(one, request, count)
        self.starts[request.uuid] = [
            one.uuid for one, count in chosen.items() for _ in range(count)]

    def reserve(self, one, request, count):
        """Write down devices that are next for a request.

        :param one: a Board.
        :param count: the number of servers; None is all of the aliases.
        """
        self.reservations.setdefault(one.uuid, []).extend(
            [request.uuid, alias, None if count is None else number * count]
            for alias, number in sorted(request.devices.items()))

    def choose(self, entry, blind=False):
        """The nodes for a request now, best first.

        :param blind: look at what is free, whoever it is kept for.
        :returns: {Board: number of servers}, or None when not all fit.
        """
        request, chosen = entry.request, {}
        missing = request.num_servers
        if entry.ask.free() < missing:
            return None
        near = None if blind else self.state.gangs.choose(
            self.state.boards, request, self._candidates(entry, blind))
        if near:
            return near
        for one, count in self._candidates(entry, blind):
            if request.together and count < missing:
                continue
            chosen[one] = min(count, missing)
            missing -= chosen[one]
            if not missing:
                return chosen
        return None

    def _candidates(self, entry, blind):
        """(Board, number of servers that can start there), best first."""
        ask, avoided = entry.ask, []
        for one in self.ranked(entry):
            count = ask.count(one) if blind else self.room(entry, one)
            if count:
                if one.uuid in entry.request.avoid:
                    avoided.append((one, count))
                else:
                    yield one, count
        yield from avoided

    def ranked(self, entry):
        """The Boards where something is free for a request, best first."""
        return entry.ask.ranked(entry.ends_at(self.now))

    def book(self, entry, promise):
        """Keep for a request what it was promised."""
        raise NotImplementedError

    def room(self, entry, one):
        """How many servers of a request may start on a Board now."""
        raise NotImplementedError
