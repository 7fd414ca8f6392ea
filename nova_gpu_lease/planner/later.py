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


"""A node at a later time, and who is to be there then."""

import dataclasses

from nova_gpu_lease.planner import matching

#: Before and after all times.
BEFORE = float('-inf')
AFTER = float('inf')
#: Seconds until what is past its end and still there is taken to be gone.
OVERDUE = 1


@dataclasses.dataclass(eq=False)
class Share:
    """Servers of one request on one node for some time.

    :ivar uuid: of the request.
    :ivar ask: the Ask of one of them.
    :ivar count: how many.
    :ivar start: when they come; BEFORE all times where nobody knows.
    :ivar end: when they are gone; AFTER all times is never.
    """

    uuid: str
    ask: object
    count: int
    start: float
    end: float


def most(ask, pools, taken, limit):
    """How many servers of an Ask find their devices in pools.

    :param pools: an iterable of (aliases, number of devices).
    """
    return matching.most(list(pools), ask.devices, limit, taken)


def limit(ask, slots, room, others):
    """How many there are other resources for.

    :param slots: how many the filters said there are.
    :param room: {resource class: free amount} or None.
    :param others: how many came since; they count where room is unknown.
    """
    if room is None or ask.amounts is None:
        return max(0, slots - others)
    return max(0, min([slots] + [
        room[name] // amount for name, amount in ask.amounts.items()
        if amount and name in room]))


class View:
    """A board as it would be."""

    def __init__(self, board):
        self._board = board
        self._free = list(board.free)
        self._room = dict(board._room) if board._room is not None else None
        self._taken = dict(board._taken)
        self._others = sum(share.count for share in board.begun)
        self._gone = 0
        self._unknown = False

    def ended(self, one):
        """Without a Share that begins now, or a Running by its uuid."""
        if isinstance(one, Share):
            self._others -= one.count
            self._add(one, -1)
            return
        running = self._board.running[one]
        self._gone += sum(running.devices.values())
        self._unknown = self._unknown or not running.amounts
        for key, number in running.devices.items():
            index = self._board._index.get(key)
            if index is not None:
                self._free[index] += number
        if self._room is not None:
            for name, amount in running.amounts.items():
                if name in self._room:
                    self._room[name] += amount

    def come(self, share):
        """With a Share that is booked."""
        self._others += share.count
        self._add(share, 1)

    def leave(self, share):
        """Without it again."""
        self._others -= share.count
        self._add(share, -1)

    def _add(self, share, sign):
        for alias, number in share.ask.devices.items():
            taken = self._taken.get(alias, 0) + sign * number * share.count
            if taken:
                self._taken[alias] = taken
            else:
                self._taken.pop(alias, None)
        if self._room is not None:
            for name, amount in (share.ask.amounts or {}).items():
                if name in self._room:
                    self._room[name] -= sign * amount * share.count

    def most(self, ask):
        """How many servers of an Ask could be here, too."""
        board = self._board
        slots = ask.fits.get(board.uuid, 0)
        after = ask.after.get(board.uuid, 0)
        room = self._room
        if after > slots and self._gone:
            if room is None or ask.amounts is None or self._unknown:
                # Of what they hold nothing is known but how many devices.
                slots += (after - slots) * self._gone // board.in_use
                room = None
            else:
                # What the filters said held for as long as nobody went.
                slots = after
        if not slots:
            return 0
        return most(
            ask, zip(board.aliases, self._free), self._taken,
            limit(ask, slots, room, self._others))
