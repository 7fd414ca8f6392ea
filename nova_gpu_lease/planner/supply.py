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


"""What devices of each model there are in the cloud, and when they go."""

import bisect
import collections


#: So many that came are put in order one by one, more are sorted.
FEW = 64


class Supply:
    """Sums over all nodes.

    A model is a frozenset of the aliases that its devices match.

    :ivar total: {model: number of devices, used or not}.
    :ivar free: {model: number of free devices}.
    :ivar pools: {model: number of pools}.
    """

    def __init__(self):
        self.total = collections.Counter()
        self.free = collections.Counter()
        self.pools = collections.Counter()
        self._held = {}
        self._ends = {}
        self._fresh = {}

    def node(self, board, sign):
        """A Board comes (1) or goes (-1), without what runs there."""
        for pool, free in zip(board.node.pools, board.free):
            self.pools[pool.aliases] += sign
            self.free[pool.aliases] += sign * free
            self.total[pool.aliases] += sign * (
                free if pool.total is None else pool.total)

    def begins(self, running, board):
        """A Running comes; what it has is not free already."""
        if running.ends_at is None:
            return
        models = self._held[running.uuid] = {
            model: (running.ends_at, running.uuid, number) for model, number
            in board.models(running.devices).items()}
        for model, end in models.items():
            # Sorted only when somebody asks.
            self._fresh.setdefault(model, {})[running.uuid] = end

    def ended(self, uuid):
        """A Running goes; what it has is not free thereby."""
        for model, end in self._held.pop(uuid, {}).items():
            if self._fresh.get(model, {}).pop(uuid, None) is None:
                ends = self._ends[model]
                del ends[bisect.bisect_left(ends, end)]

    def ends(self, model):
        """When devices of a model come free.

        :returns: a list of (time, uuid of a Running, how many), in order.
        """
        ends = self._ends.setdefault(model, [])
        fresh = self._fresh.pop(model, {})
        if len(fresh) <= FEW:
            for end in fresh.values():
                bisect.insort(ends, end)
        else:
            ends.extend(fresh.values())
            ends.sort()
        return ends
