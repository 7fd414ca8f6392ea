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


"""Who starts now, on which hosts, and which devices are kept for whom.

A pure function of the queue and of what the survey saw; no I/O, no clock, no
Nova. Strictly first come first served among requests that compete for the
same devices: what a waiting request could use is kept for it, and a request
that nobody in front competes with starts at once.
"""

import collections
import hashlib

from nova_gpu_lease.planner import matching
from nova_gpu_lease.planner import model


class _Board:
    """A node while the plan is made: what starts takes, what waits keeps."""

    def __init__(self, node):
        self.node = node
        self.taken = collections.Counter()
        self.kept = set()
        self.started = 0
        self.room = dict(node.room) if node.room is not None else None

    def free(self, request):
        """Free devices of any alias of a request, for packing."""
        return sum(pool.free for pool in self.node.pools
                   if pool.aliases & request.devices.keys()) - sum(
                       self.taken[alias] for alias in request.devices)

    def capacity(self, request, limit, ignore_kept=False):
        """How many servers of a request can start here now.

        :param limit: the number from ``fits``.
        :param ignore_kept: count devices that are kept for others, too.
        """
        if self.room is None or request.amounts is None:
            limit -= self.started
        else:
            limit = min([limit] + [
                self.room[name] // amount
                for name, amount in request.amounts.items()
                if amount and name in self.room])
        pools = [(pool.aliases, pool.free) for pool in self.node.pools
                 if ignore_kept or not pool.aliases & self.kept]
        if not ignore_kept and request.devices.keys() & self.kept:
            return 0
        return matching.most(pools, request.devices,
                             min(limit, request.num_servers), self.taken)

    def possible(self, request, limit):
        """How many could ever start here, were all devices free."""
        enough = request.num_servers * sum(request.devices.values())
        pools = [(pool.aliases, enough if pool.total is None else pool.total)
                 for pool in self.node.pools]
        return matching.most(pools, request.devices,
                             min(limit, request.num_servers))

    def start(self, request, count):
        self.started += count
        for alias, number in request.devices.items():
            self.taken[alias] += number * count
        if self.room is not None:
            for name, amount in (request.amounts or {}).items():
                if name in self.room:
                    self.room[name] -= amount * count

    def keep(self, request):
        self.kept.update(request.devices)


def plan(waiting, nodes, running=(), now=0, policy=model.Policy(),
         promises=None, usage=None):
    """Decide who starts now.

    :param waiting: the Waiting requests in the order of the queue.
    :param nodes: {node uuid: Node}.
    :param running: the Running of these nodes.
    :param now: the time.
    :param policy: a Policy.
    :param promises: {request uuid: Promise} of the last plan.
    :param usage: {project id: fair share factor, 0 to 1}; None: not used.
    :returns: a Plan. It does not depend on the order of any dict.
    """
    boards = {uuid: _Board(node) for uuid, node in sorted(
        nodes.items(), key=lambda item: (item[1].host, item[0]))}
    groups = _groups(waiting, nodes)
    starts, waits = {}, {}
    reservations = {uuid: list(board.node.promised)
                    for uuid, board in boards.items() if board.node.promised}
    for request in waiting:
        idle = request.held or request.over_quota
        chosen = None if idle else _choose(request, boards)
        if chosen:
            for uuid, count in collections.Counter(chosen).items():
                boards[uuid].start(request, count)
                reservations.setdefault(uuid, []).extend(
                    [request.uuid, alias, number * count] for alias, number
                    in sorted(request.devices.items()))
            starts[request.uuid] = chosen
            continue
        kept = ([] if request.stuck or request.over_quota
                else _keep(request, boards))
        waits[request.uuid] = _wait(request, boards, kept,
                                    groups[request.uuid])
        for uuid in kept:
            boards[uuid].keep(request)
            reservations.setdefault(uuid, []).extend(
                [request.uuid, alias, None]
                for alias in sorted(request.devices))
    return model.Plan(starts, waits, reservations)


def _choose(request, boards, ignore_kept=False):
    """The nodes to start on, fullest first, or None when not all fit."""
    room = {}
    for uuid, board in boards.items():
        if uuid in request.fits:
            count = board.capacity(request, request.fits[uuid], ignore_kept)
            if count >= (request.num_servers if request.together else 1):
                room[uuid] = count
    chosen = []
    for uuid in sorted(room, key=lambda uuid: (
            uuid in request.avoid, boards[uuid].free(request))):
        chosen.extend([uuid] * room[uuid])
    if len(chosen) < request.num_servers:
        return None
    return chosen[:request.num_servers]


def _keep(request, boards):
    """The nodes whose devices a blocked request keeps from later ones.

    Nodes it cannot use even when all devices are free are not among them,
    and none are when it lacks more than devices: nobody waits for nothing.
    """
    limits = dict(request.after or {})
    for uuid, limit in request.fits.items():
        limits[uuid] = max(limit, limits.get(uuid, 0))
    possible = {uuid: board.possible(request, limits[uuid])
                for uuid, board in boards.items() if uuid in limits}
    if request.together:
        possible = {uuid: count for uuid, count in possible.items()
                    if count >= request.num_servers}
    if sum(possible.values()) < request.num_servers:
        return []
    return [uuid for uuid, count in possible.items() if count]


def _wait(request, boards, kept, group):
    if request.held:
        return model.Wait(
            model.WAIT_RETRY,
            'The last try to start failed; it is tried again soon.', group)
    if request.over_quota:
        return model.Wait(model.WAIT_QUOTA, request.over_quota, group)
    if not kept:
        return model.Wait(
            model.WAIT_RESOURCES, request.missing or
            'No host has enough room besides the devices.', group)
    need = ', '.join('%d %s' % (number, alias) for alias, number
                     in sorted(request.devices.items()))
    if request.num_servers > 1:
        need = '%s for each of %d servers' % (need, request.num_servers)
    if _choose(request, boards, ignore_kept=True):
        return model.Wait(
            model.WAIT_BEHIND, 'Free devices (%s) are next for requests '
            'that came earlier.' % need, group)
    return model.Wait(
        model.WAIT_DEVICES, 'Not enough free devices: %s needed.' % need,
        group)


def _groups(waiting, nodes):
    """{request uuid: name of its group}, which its aliases make."""
    names = {}
    for part in matching.components(
            [pool.aliases for node in nodes.values() for pool in node.pools] +
            [request.devices.keys() for request in waiting]):
        name = ','.join(sorted(part))
        if len(name) > model.MAX_GROUP:
            name = hashlib.sha256(name.encode()).hexdigest()
        names.update(dict.fromkeys(part, name))
    return {request.uuid: names.get(min(request.devices, default=None), '')
            for request in waiting}
