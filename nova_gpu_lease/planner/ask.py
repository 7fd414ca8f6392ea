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


"""What servers of the same kind need, and where they find it.

The nodes are kept in the order in which they are best, so that a choice does
not look at all of them; only those that changed are looked at again.
"""

import bisect
import heapq

from nova_gpu_lease.planner import score


class Ask:
    """What one server needs; requests that need the same share it.

    :ivar devices: {alias: number of devices}.
    :ivar fits: as of a Waiting.
    :ivar after: likewise; equal to ``fits`` where that has none.
    :ivar amounts: likewise.
    :ivar possible: {Board: how many servers could ever be there}.
    :ivar users: how many requests ask for it.
    :ivar dirty: the Boards that changed since they were last sorted.
    :ivar unready: those whose times were not looked at since.
    """

    def __init__(self, request, boards, order):
        """:param request: a Waiting.

        :param boards: {node uuid: Board}.
        :param order: of score.ORDERS.
        """
        self.devices = request.devices
        self.fits = request.fits
        self.after = request.fits if request.after is None else request.after
        self.amounts = request.amounts
        self.users = 0
        self._order = order
        # Not every order asks for the ends of other leases.
        self._by_era = order(False, 0, 0, 0, 0) != order(False, 0, 1, 0, 0)
        self.possible = {}
        for board in sorted(
                (boards[uuid] for uuid in {*self.fits, *self.after}
                 if uuid in boards), key=lambda board: board.number):
            count = board.possible(self)
            if count:
                self.possible[board] = count
        self.total = sum(self.possible.values())
        self.largest = max(self.possible.values(), default=0)
        self._models = {aliases for board in self.possible
                        for aliases in board.aliases
                        if not aliases.isdisjoint(self.devices)}
        self.scarcity = {}
        self.dirty = set(self.possible)
        self._levels = {}
        self._where = {}
        self._boards = {board.number: board for board in self.possible}
        self._counts = {}
        self._free = 0
        self.unready = set(self.possible)
        self._steps = {}
        self._ready = []
        for board in self.possible:
            board.asks.append(self)

    def enough(self, count, together):
        """Whether so many servers could ever be somewhere."""
        return (self.largest if together else self.total) >= count

    def set_scarcity(self, scarcity):
        """Which models to take last, as from score.scarcities()."""
        # Where there is one model only, there is nothing to choose.
        ranks = {aliases: scarcity.get(aliases, 0) for aliases
                 in self._models} if len(self._models) > 1 else {}
        if ranks != self.scarcity:
            self.scarcity = ranks
            self.dirty.update(self.possible)

    # Now

    def ranked(self, ends_at):
        """The Boards where one more server can start now, the best first.

        :param ends_at: when it would end; None is never.
        """
        self._sort()
        wanted = score.era(ends_at)
        heap = [(self._order(False, left, 0, rarity, -1), None, left, rarity)
                for left, rarity in self._levels]
        heapq.heapify(heap)
        while heap:
            _key, entry, left, rarity = heapq.heappop(heap)
            if entry is None:
                for era, numbers in self._levels[left, rarity].items():
                    self._push(heap, numbers, 0, left, rarity,
                               score.apart(wanted, era))
                continue
            numbers, index, apart = entry
            yield self._boards[numbers[index]]
            if index + 1 < len(numbers):
                self._push(heap, numbers, index + 1, left, rarity, apart)

    def _push(self, heap, numbers, index, left, rarity, apart):
        key = self._order(False, left, apart, rarity, numbers[index])
        heapq.heappush(heap, (key, (numbers, index, apart), left, rarity))

    def count(self, board):
        """How many servers can start now on a Board of ranked()."""
        return self._counts[board]

    def free(self):
        """How many servers can start now, on all Boards together."""
        self._sort()
        return self._free

    def is_free(self, board):
        """Whether a Board is one of those of ranked()."""
        self._sort()
        return board in self._where

    def _sort(self):
        if not self.dirty:
            return
        for board in self.dirty:
            old = self._where.pop(board, None)
            if old is not None:
                self._take_out(board, *old)
                self._free -= self._counts[board]
            count = board.now(self)
            if not count:
                continue
            self._counts[board] = count
            self._free += count
            left = board.left(self.devices)
            rarity = board.rarest(self.devices, self.scarcity
                                  ) if self.scarcity else 0
            era = board.era if self._by_era else 0
            bisect.insort(self._levels.setdefault((left, rarity), {})
                          .setdefault(era, []), board.number)
            self._where[board] = (left, rarity, era)
        self.dirty.clear()

    def _take_out(self, board, left, rarity, era):
        eras = self._levels[left, rarity]
        numbers = eras[era]
        del numbers[bisect.bisect_left(numbers, board.number)]
        if not numbers:
            del eras[era]
            if not eras:
                del self._levels[left, rarity]

    # Later

    def ready(self):
        """When servers can be where, nothing booked, in order of time.

        :returns: a list of (time, number of the Board, how many more).
        """
        if len(self.unready) * 20 > len(self.possible):
            for board in self.unready:
                self._steps[board] = self._look(board)
            self._ready = sorted(
                step for steps in self._steps.values() for step in steps)
        else:
            for board in self.unready:
                for step in self._steps[board]:
                    del self._ready[bisect.bisect_left(self._ready, step)]
                self._steps[board] = self._look(board)
                for step in self._steps[board]:
                    bisect.insort(self._ready, step)
        self.unready.clear()
        return self._ready

    def _look(self, board):
        return [(time, board.number, count)
                for time, count in board.steps(self)]

    def board(self, number):
        """The Board with a number."""
        return self._boards[number]
