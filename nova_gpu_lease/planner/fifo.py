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


"""Strictly first come first served among those who compete for devices.

What a waiting request could use is kept for it on every node, and a request
that nobody in front competes with starts at once.
"""

import heapq

from nova_gpu_lease.planner import rounds


class Fifo(rounds.Round):
    """queue_policy = fifo."""

    def run(self):
        """See Round."""
        for uuid in list(self.state.promises):
            self.state.promise(uuid, None)
        for groups in self.classes():
            heap = [(self.key(group.entries[0]), group) for group in groups]
            heapq.heapify(heap)
            while heap:
                _key, group = heap[0]
                entry = self.next(group)
                request = entry.request
                if not (group.idle or request.held or request.unknown) and (
                        self.try_start(entry)):
                    self.skip(group)
                    entry = self.next(group)
                    if entry:
                        heapq.heapreplace(heap, (self.key(entry), group))
                        continue
                elif not group.idle:
                    self._keep(entry)
                    self.give_up(entry)
                heapq.heappop(heap)

    def _keep(self, entry):
        """Keep all devices that a blocked request could use from later ones.

        None are when it lacks more than devices: nobody waits for nothing.
        """
        request, ask = entry.request, entry.ask
        if not ask.enough(request.num_servers, request.together):
            self.lacking.add(entry.group)
            return
        for one, count in ask.possible.items():
            if request.together and count < request.num_servers:
                continue
            if not ask.devices.keys() <= one.kept:
                one.kept.update(ask.devices)
                self.touched.add(one)
                self.reserve(one, request, None)

    def room(self, entry, one):
        """See Round."""
        if not one.kept:
            return entry.ask.count(one)
        return one.unkept(entry.ask)
