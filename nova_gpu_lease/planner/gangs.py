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


"""Servers that start together are put near to each other."""

from nova_gpu_lease.planner import topology


#: With more nodes than these that is enough to choose from: the best ones.
LOOK = 1000


class Gangs:
    """Chooses the nodes of gangs; keeps the tree until nodes come or go."""

    def __init__(self):
        self._network = None

    def reset(self):
        """Nodes came, went or moved."""
        self._network = None

    def choose(self, boards, request, room):
        """Of the Boards where servers of a request can be, the nearest.

        :param boards: {node uuid: Board}, all there are.
        :param request: the Waiting.
        :param room: an iterable of (Board, number of its servers), the best
            first: of those that are equally near these are taken.
        :returns: {Board: number of servers}, or None where not all fit, the
            request is for one server or one node, or no place is known: then
            the best ones do.
        """
        if request.num_servers == 1 or request.together:
            return None
        if self._network is None:
            known = any(one.node.place for one in boards.values())
            self._network = known and topology.Network({
                uuid: one.node for uuid, one in boards.items()})
        if not self._network:
            return None
        found, total = {}, 0
        for one, count in room:
            if count >= request.num_servers and (
                    one.uuid not in request.avoid):
                return {one: request.num_servers}
            found[one.uuid] = count
            total += count
            if len(found) >= LOOK and total >= request.num_servers:
                break
        chosen = self._network.choose(
            found, request.num_servers,
            {uuid: number for number, uuid in enumerate(found)},
            request.avoid)
        return chosen and {boards[uuid]: chosen.count(uuid)
                           for uuid in dict.fromkeys(chosen)}
