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
import dataclasses
import hashlib
import itertools

#: Not enough of its devices are free.
WAIT_DEVICES = 'devices'
#: Its devices are free, but kept for requests in front of it.
WAIT_BEHIND = 'behind'
#: It lacks something else than devices; it keeps nobody waiting.
WAIT_RESOURCES = 'resources'
#: It failed to start and is tried again later; it keeps its place.
WAIT_RETRY = 'retry'
#: The quota of its project is used up; it keeps nobody waiting.
WAIT_QUOTA = 'quota'

#: The longest name of a group: the size of requests.queue_group.
MAX_GROUP = 255


@dataclasses.dataclass(frozen=True)
class Pool:
    """Devices of one host that serve the same aliases.

    :ivar key: names the pool within its node.
    :ivar free: number of devices that nobody uses.
    :ivar aliases: frozenset of the names of the PCI aliases they match.
    :ivar total: number of devices, used ones included; None is unknown and
        taken as enough for anybody.
    """

    key: str
    free: int
    aliases: frozenset
    total: int | None = None


@dataclasses.dataclass(frozen=True)
class Node:
    """One compute node.

    :ivar host: name of its host; nodes are tried in the order of the names.
    :ivar pools: tuple of Pool.
    :ivar room: {resource class: free amount} in Placement; a class that is
        not there comes from elsewhere and is not counted. None is unknown.
    """

    host: str
    pools: tuple
    room: dict | None = None
    promised: tuple = ()

    @classmethod
    def from_dict(cls, node):
        """A node from its entry in the answer of the survey."""
        return cls(
            host=node['host'],
            pools=tuple(Pool(pool['key'], pool['free'],
                             frozenset(pool['aliases']), pool['total'])
                        for pool in node['pools']),
            room=node.get('room'),
            promised=tuple(node.get('promised', ())))


@dataclasses.dataclass(frozen=True)
class Waiting:
    """One request of the queue: servers that start together.

    :ivar uuid: of the request.
    :ivar num_servers: how many servers.
    :ivar devices: {alias: number of devices} of one server.
    :ivar fits: {node uuid: number of its servers for which everything but
        the devices is there now}.
    :ivar after: like ``fits``, once every server with a device has left the
        node: there the request waits for its competitors only. None: fits.
    :ivar amounts: {resource class: amount} of one server in Placement; None
        is unknown: then every start on a node takes one from ``fits``.
    :ivar together: all servers on one node (server group with affinity).
    :ivar held: may not start now (it failed lately), but keeps its place.
    :ivar stuck: it failed so often that it keeps nobody waiting meanwhile.
    :ivar missing: what the survey says is missing when nothing fits.
    :ivar avoid: nodes to start on only where no other can be had.
    :ivar over_quota: why its quota does not let it start, or None.
    """

    uuid: str
    num_servers: int
    devices: dict
    fits: dict
    after: dict | None = None
    amounts: dict | None = None
    together: bool = False
    held: bool = False
    missing: str | None = None
    stuck: bool = False
    avoid: frozenset = frozenset()
    over_quota: str | None = None

    @classmethod
    def from_survey(cls, uuid, num_servers, devices, answer, held=False,
                    stuck=False, avoid=frozenset(), over_quota=None):
        """A request from its row and its entry in the survey's answer."""
        return cls(uuid, num_servers, devices, answer['fits'],
                   answer.get('after'), answer.get('amounts'),
                   answer.get('together', False), held,
                   answer.get('reason') or None, stuck, avoid,
                   over_quota)


@dataclasses.dataclass(frozen=True)
class Wait:
    """Why a request waits.

    :ivar reason_code: one of WAIT_*.
    :ivar reason: for the user.
    :ivar group: name of the set of requests that compete with each other.
    """

    reason_code: str
    reason: str
    group: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do now.

    :ivar starts: {request uuid: [node uuid, one for each server]}.
    :ivar waits: {request uuid: Wait}.
    :ivar reservations: {node uuid: [[request uuid, alias, count]]}: devices
        that are next for a request, those of starts included; a count of
        None is all of that alias.
    """

    starts: dict
    waits: dict
    reservations: dict


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
        return most(pools, request.devices, min(limit, request.num_servers),
                    self.taken)

    def possible(self, request, limit):
        """How many could ever start here, were all devices free."""
        enough = request.num_servers * sum(request.devices.values())
        pools = [(pool.aliases, enough if pool.total is None else pool.total)
                 for pool in self.node.pools]
        return most(pools, request.devices,
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


def plan(waiting, nodes):
    """Decide who starts now.

    :param waiting: the Waiting requests in the order of the queue.
    :param nodes: {node uuid: Node}.
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
    return Plan(starts, waits, reservations)


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
        return Wait(WAIT_RETRY, 'The last try to start failed; it is tried '
                    'again soon.', group)
    if request.over_quota:
        return Wait(WAIT_QUOTA, request.over_quota, group)
    if not kept:
        return Wait(WAIT_RESOURCES, request.missing or
                    'No host has enough room besides the devices.', group)
    need = ', '.join('%d %s' % (number, alias) for alias, number
                     in sorted(request.devices.items()))
    if request.num_servers > 1:
        need = '%s for each of %d servers' % (need, request.num_servers)
    if _choose(request, boards, ignore_kept=True):
        return Wait(WAIT_BEHIND, 'Free devices (%s) are next for requests '
                    'that came earlier.' % need, group)
    return Wait(WAIT_DEVICES, 'Not enough free devices: %s needed.' % need,
                group)


def most(pools, devices, limit, taken=None):
    """The largest number of servers whose devices can be had at once.

    :param pools: list of (aliases, number of devices).
    :param devices: {alias: number of devices} of one server.
    :param limit: stop there.
    :param taken: {alias: number of devices} taken already.
    """
    count = 0
    while count < limit:
        demand = collections.Counter(taken)
        for alias, number in devices.items():
            demand[alias] += number * (count + 1)
        if not _satisfiable(pools, demand):
            break
        count += 1
    return count


def _satisfiable(pools, demand):
    """Whether every alias can get its devices from pools it shares.

    By Hall's theorem: no set of aliases may want more than all pools have
    that match any of them. Aliases that share no pool are checked apart.
    """
    wanted = [alias for alias, number in demand.items() if number > 0]
    for part in _components([aliases.intersection(wanted)
                             for aliases, _ in pools] +
                            [{alias} for alias in wanted]):
        for size in range(1, len(part) + 1):
            for some in itertools.combinations(sorted(part), size):
                if sum(demand[alias] for alias in some) > sum(
                        number for aliases, number in pools
                        if not aliases.isdisjoint(some)):
                    return False
    return True


def _groups(waiting, nodes):
    """{request uuid: name of its group}, which its aliases make."""
    names = {}
    for part in _components(
            [pool.aliases for node in nodes.values() for pool in node.pools] +
            [request.devices.keys() for request in waiting]):
        name = ','.join(sorted(part))
        if len(name) > MAX_GROUP:
            name = hashlib.sha256(name.encode()).hexdigest()
        names.update(dict.fromkeys(part, name))
    return {request.uuid: names.get(min(request.devices, default=None), '')
            for request in waiting}


def _components(sets):
    """Merge sets that meet, until none do.

    :returns: a list of disjoint sets, without empty ones.
    """
    parts = []
    for some in sets:
        some = set(some)
        apart = []
        for part in parts:
            if part.isdisjoint(some):
                apart.append(part)
            else:
                some |= part
        parts = apart + ([some] if some else [])
    return parts
