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


"""Which hosts of a tree a gang goes to: the choice itself.

What is least, and why, says :mod:`nova_gpu_lease.planner.topology`, whose
vertices are worked on here: they have a ``parent``, a ``link`` (the cost of
the link to it) and, if they are hosts, a ``uuid``.
"""

import collections

#: Steps of the exact choice, about a millisecond for each thousand; beyond it
#: the choice is the best of the smallest subtrees, each filled best fit first.
BUDGET = 10000
#: How many of the best of these are chosen from exactly, where that is cheap.
REFINED = 2
#: Cost of a server on a node to avoid: more than that of any distance.
AVOIDED = 1e9


class Choice:
    """One choice of nodes.

    :param order: {host vertex: its number}, for ties.
    :param room: {host vertex: number of servers that fit there, not 0}.
    :param count: number of servers.
    :param rank: {node uuid: number} or None, as for Network.choose().
    :param avoid: uuids to use only where no others can be had.
    :ivar total: {vertex: servers that fit below it}.
    :ivar children: {vertex: those of its children where some fit}.
    """

    def __init__(self, order, room, count, rank, avoid):
        self._count = count
        self._key = {vertex: (order[vertex] if rank is None else
                              rank.get(vertex.uuid, len(order)))
                     for vertex in room}
        self._order = order
        self._avoid = avoid
        self.total = collections.Counter(room)
        self.children = {}
        for vertex in sorted(room, key=order.get):
            number, parent = room[vertex], vertex.parent
            while parent is not None:
                if vertex not in self.children.setdefault(parent, {}):
                    self.children[parent][vertex] = None
                self.total[parent] += number
                vertex, parent = parent, parent.parent

    def best(self, root, budget):
        """{host vertex: number of servers} of the least cost, or None."""
        if self.total[root] < self._count:
            return None
        if self._work(root) <= budget:
            return self._exact(root)
        filled = sorted(
            (self._cost(chosen), number, vertex, chosen)
            for number, vertex in enumerate(self._smallest(root))
            for chosen in [self._fill(vertex)])
        for number, (_cost, _number, vertex, _chosen) in enumerate(
                filled[:REFINED]):
            if self._work(vertex) <= budget / REFINED:
                chosen = self._exact(vertex)
                filled[number] = (self._cost(chosen), number, vertex, chosen)
        return min(filled, key=lambda entry: entry[:2])[3]

    def _cost(self, chosen):
        """(cost, sum of ranks) of {host vertex: number of servers}."""
        below = collections.Counter()
        for vertex, number in chosen.items():
            while vertex.parent is not None:
                below[vertex] += number
                vertex = vertex.parent
        cost = sum(vertex.link * number * (self._count - number)
                   for vertex, number in below.items())
        return (cost + sum(AVOIDED * number
                           for vertex, number in chosen.items()
                           if vertex.uuid in self._avoid),
                sum(self._key[vertex] * number
                    for vertex, number in chosen.items()))

    # Exactly

    def _work(self, top):
        """How many steps the exact choice below a vertex takes."""
        work, todo = 0, [top]
        while todo:
            children = self.children.get(todo.pop(), ())
            held = 0
            for child in children:
                more = min(self.total[child], self._count)
                work += (held + 1) * (more + 1)
                held = min(held + more, self._count)
            todo.extend(children)
        return work

    def _exact(self, top):
        splits = {}
        self._table(top, splits)
        chosen, todo = {}, [(top, self._count)]
        while todo:
            vertex, number = todo.pop()
            if vertex in self._key:
                if number:
                    chosen[vertex] = number
                continue
            for child, split in reversed(splits[vertex]):
                todo.append((child, split[number]))
                number -= split[number]
        return chosen

    def _table(self, vertex, splits):
        """[(cost, rank) of k servers below a vertex, for each k].

        The cost is that of the links below it, the one above it included.

        :param splits: filled in: {vertex: [(child, [how many of k servers go
            to the child when those up to it share k, for each k])]}.
        """
        if vertex in self._key:
            avoided = AVOIDED if vertex.uuid in self._avoid else 0
            table = [(avoided * number, self._key[vertex] * number)
                     for number in range(self.total[vertex] + 1)]
        else:
            table = [(0, 0)]
            splits[vertex] = []
            for child in self.children[vertex]:
                table, split = _merge(
                    table, self._table(child, splits), self._count)
                splits[vertex].append((child, split))
        return [(cost + vertex.link * number * (self._count - number), rank)
                for number, (cost, rank) in enumerate(table)]

    # Fast

    def _smallest(self, root):
        """The vertices that hold all, and none of whose children does."""
        todo = [root]
        while todo:
            vertex = todo.pop()
            inner = [child for child in self.children.get(vertex, ())
                     if self.total[child] >= self._count]
            todo.extend(inner)
            if not inner:
                yield vertex

    def _fill(self, top):
        """Fill a subtree: whole children first, the rest best fit."""
        chosen, todo = {}, [(top, self._count)]
        while todo:
            vertex, number = todo.pop()
            if vertex in self._key:
                chosen[vertex] = number
                continue
            left = sorted(self.children[vertex], key=lambda child: (
                child.uuid in self._avoid, -self.total[child],
                self._key.get(child, 0)))
            while number:
                fitting = [child for child in left
                           if self.total[child] >= number]
                child = (min(fitting, key=lambda child: (
                    child.uuid in self._avoid, self.total[child],
                    self._key.get(child, 0))) if fitting else left[0])
                left.remove(child)
                taken = min(number, self.total[child])
                todo.append((child, taken))
                number -= taken
        return chosen


def _merge(one, other, limit):
    """The best way to share k servers among two tables, for each k."""
    size = min(len(one) + len(other) - 2, limit) + 1
    table, split = [None] * size, [0] * size
    for first, (cost, rank) in enumerate(one):
        for second, (more, rank_more) in enumerate(other[:size - first]):
            both = (cost + more, rank + rank_more)
            if table[first + second] is None or both < table[first + second]:
                table[first + second] = both
                split[first + second] = second
    return table, split
