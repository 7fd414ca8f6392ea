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


"""Every waiting request is promised a start.

What each was promised is kept, and only where nodes changed since is looked
for something better: elsewhere there was nothing before.
"""

import bisect

from nova_gpu_lease.planner import backfill
from nova_gpu_lease.planner import board
from nova_gpu_lease.planner import shadow


class Conservative(backfill.Backfill):
    """queue_policy = conservative."""

    def __init__(self, state, now):
        """See Round."""
        super().__init__(state, now)
        self.depth = board.AFTER
        #: (number of the last change, number of the Board, Board), in order.
        self._changed = sorted((one.stamp, one.number, one)
                               for one in state.boards.values())

    def look_again(self, entry, old):
        """See Backfill."""
        if self._is_settled(entry, old):
            return True
        return super().look_again(entry, old)

    def _promise(self, entry, old=None):
        """See Backfill."""
        promises, uuid = self.state.promises, entry.request.uuid
        before = promises.get(uuid)
        able = super()._promise(entry, old)
        after = promises.get(uuid)
        if after != before:
            # What it leaves may be better for others, and what it takes may
            # have been a lower class's.
            self._note({node for promise in (before, after) if promise
                        for node in promise.nodes})
        entry.checked = board.Board.changes()
        return able

    def _is_settled(self, entry, old):
        """Whether nothing is better for a request than what it has."""
        request, ask = entry.request, entry.ask
        if request.held or old.start is None or old.start <= self.now:
            return False
        if not ask.enough(request.num_servers, request.together):
            return False
        if sum(old.nodes.values()) != request.num_servers:
            return False
        begin = bisect.bisect(self._changed, (entry.checked, board.AFTER))
        changed = {one: None for _stamp, _number, one
                   in self._changed[begin:] if one in ask.possible}
        if changed:
            length = (board.AFTER if request.duration is None
                      else request.duration)
            if not self._is_kept(ask, old, length, changed):
                return False
            if self._finds_before(entry, old.start, length, changed):
                return False
        entry.checked = board.Board.changes()
        return True

    def _finds_before(self, entry, start, length, changed):
        """Whether there is a place before a time where nodes changed."""
        request, ask = entry.request, entry.ask
        if request.num_servers > 1 and not request.together:
            changed = None
        else:
            # Most of them are simply full until then.
            changed = [one for one in changed if any(
                count >= request.num_servers and time < start
                for time, count in self.profile(one, ask, self.now))]
            if not changed:
                return False
        found = shadow.find(
            ask, request.num_servers, request.together, length, self.now,
            self.booked, only=changed, profile=self.profile)
        return bool(found) and found[0] < start

    def _is_kept(self, ask, old, length, changed):
        """Whether what was promised is still there."""
        end = old.start + length
        for node, count in old.nodes.items():
            one = self.state.boards.get(node)
            if one not in ask.possible:
                return False
            if one in changed and any(
                    one.at(ask, time, self.now) < count for time in
                    {old.start}.union(share.start for share in one.booked
                                      if old.start < share.start < end)):
                return False
        return True

    def _begin(self, entry, chosen):
        """See Round."""
        super()._begin(entry, chosen)
        self._note({one.uuid for one in chosen})

    def _note(self, nodes):
        for node in sorted(nodes):
            one = self.state.boards.get(node)
            if one is not None:
                one.stamp = board.Board.changes()
                self._changed.append((one.stamp, one.number, one))
