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


"""Where nodes are in the network, and which of them are near to each other.

A place is the path of names from the root of the network's tree down to what
a host hangs on: ``('site1', 'switch2', 'rack3')``. What puts servers on hosts
asks :class:`Network`; the file is read by :mod:`topology_file` and devices
within a host are chosen by :mod:`links`.

The distance of two hosts is the sum of the costs of all links on the way
between them, up to the lowest switch that they share and down again. A host's
own link costs 1. A link above that carries only half of what comes into it
from below (2:1, as in a tapered fat tree [1]_) is twice as dear, for a message
takes twice as long there when everybody sends; ratios multiply on the way up,
since bandwidth does::

    cost(uplink at level i) = ratio(i) * ratio(i + 1) * ... * ratio(lowest)

The cost of a gang is the sum of the distances of all pairs of its servers.
That is the metric of [2]_ and [3]_, who saw it go with the run time of jobs
that communicate; it is also the traffic in hop-bytes [4]_ of an all-to-all
exchange. In a tree the sum over pairs is a sum over links, for a link with k
of N servers below it is on the way of k (N - k) pairs::

    cost(gang) = sum over links of cost(link) * k * (N - k)

so the nearest nodes can be had exactly, by a knapsack over the subtrees, in
time O(nodes * N). Where that is too much, the smallest subtrees that hold the
gang are filled best fit first, as Slurm's topology/tree [5]_ does.

.. [1] Leiserson, Fat-trees: universal networks for hardware-efficient
   supercomputing. IEEE Transactions on Computers C-34, 1985.
.. [2] Mache, Lo: Dispersal metrics for non-contiguous processor allocation.
   University of Oregon, CIS-TR-96-13, 1996.
.. [3] Bender et al., Communication-aware processor allocation for
   supercomputers: finding point sets of small average distance.
   Algorithmica 50, 2008.
.. [4] Agarwal, Sharma, Kale: Topology-aware task mapping for reducing
   communication contention on large parallel machines. IPDPS 2006.
.. [5] Slurm Workload Manager, Topology Guide, topology/tree.
"""

import collections

from nova_gpu_lease.planner import nearest


def link_costs(ratios):
    """What the links cost, see the docstring of the module.

    :param ratios: how many times more can come into a node of each level from
        below than its uplink carries, from the root down.
    :returns: a tuple of the costs of the uplinks, from the root down.
    """
    costs = []
    for ratio in reversed(ratios):
        costs.append((costs[-1] if costs else 1) * ratio)
    return tuple(reversed(costs))


class _Vertex:
    """A node of the network's tree, or a host (which has no children).

    :ivar parent: the vertex above, None for the root.
    :ivar link: cost of the link to it.
    """

    __slots__ = ('parent', 'link', 'uuid')

    def __init__(self, parent, link, uuid=None):
        self.parent = parent
        self.link = link
        self.uuid = uuid


class Network:
    """The tree with the nodes of one survey in it.

    :ivar known: whether any node's place is known.
    """

    def __init__(self, nodes):
        """Build the tree.

        A node whose place is unknown is as far from all others as can be.

        :param nodes: {uuid: object with ``host``, ``place`` and ``steps``},
            such as planner.Node.
        """
        self._root = _Vertex(None, 0)
        self._vertices = {(): self._root}
        self._hosts = {}
        height = 1
        for uuid, node in sorted(nodes.items(),
                                 key=lambda item: (item[1].host, item[0])):
            steps = node.steps or (1,) * len(node.place)
            height = max(height, 1 + sum(steps))
            self._hosts[uuid] = _Vertex(self._at(node.place, steps), 1, uuid)
        self.known = len(self._vertices) > 1
        for host in self._hosts.values():
            if host.parent is self._root:
                host.link = height
        self._order = {host: number for number, host
                       in enumerate(self._hosts.values())}

    def _at(self, place, steps):
        """The vertex of a place, made when it is new."""
        vertex = self._root
        for depth, link in enumerate(steps, start=1):
            path = tuple(place[:depth])
            if path not in self._vertices:
                self._vertices[path] = _Vertex(vertex, link)
            vertex = self._vertices[path]
        return vertex

    def distance(self, one, other):
        """The distance of two nodes, given by their uuids."""
        return self.cost([one, other])

    def cost(self, uuids):
        """The sum of the distances of all pairs.

        :param uuids: a list with the node of each server.
        """
        below = collections.Counter()
        for uuid in uuids:
            vertex = self._hosts[uuid]
            while vertex.parent is not None:
                below[vertex] += 1
                vertex = vertex.parent
        return sum(vertex.link * count * (len(uuids) - count)
                   for vertex, count in below.items())

    def choose(self, room, count, rank=None, avoid=frozenset(),
               budget=nearest.BUDGET):
        """The nodes for a gang with the least cost.

        :param room: {node uuid: number of its servers that fit there now}.
        :param count: number of servers.
        :param rank: {node uuid: number}; what costs the same goes where the
            sum of these is least. Default: the order of the hosts' names.
        :param avoid: uuids to use only where no others can be had.
        :param budget: steps that the exact choice may take.
        :returns: a list with a node uuid for each server, or None when not
            all of them fit.
        """
        room = {uuid: min(number, count) for uuid, number in room.items()
                if number > 0 and uuid in self._hosts}
        others = {uuid: number for uuid, number in room.items()
                  if uuid not in avoid}
        if sum(others.values()) >= count:
            room = others
            whole = [uuid for uuid, number in room.items()
                     if number == count]
            if whole:
                return [min(whole, key=lambda uuid: (
                    rank.get(uuid, len(self._hosts)) if rank else 0,
                    self._order[self._hosts[uuid]]))] * count
        choice = nearest.Choice(
            self._order, {self._hosts[uuid]: number
                          for uuid, number in room.items()},
            count, rank, avoid)
        chosen = choice.best(self._root, budget)
        if chosen is None:
            return None
        return [vertex.uuid
                for vertex in sorted(chosen, key=self._order.get)
                for _ in range(chosen[vertex])]
