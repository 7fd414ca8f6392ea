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


"""What a plan is made from and what it says.

Times are numbers: seconds since the epoch, UTC. Lengths are in seconds.
"""

import dataclasses

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
    :ivar promised: ((request uuid, alias, number of devices), ...) that
        servers being built have not taken yet; not counted as free.
    :ivar place: names of the nodes of the network's tree above it, from the
        root down; hosts with a longer common start are nearer to each other.
        Empty is unknown.
    :ivar steps: cost of the link above each of these, from the root down;
        empty: each costs 1.
    """

    host: str
    pools: tuple
    room: dict | None = None
    promised: tuple = ()
    place: tuple = ()
    steps: tuple = ()

    @classmethod
    def from_dict(cls, node):
        """A node from its entry in the answer of the survey."""
        return cls(
            host=node['host'],
            pools=tuple(Pool(pool['key'], pool['free'],
                             frozenset(pool['aliases']), pool['total'])
                        for pool in node['pools']),
            room=node.get('room'),
            promised=tuple(node.get('promised', ())),
            place=tuple(node.get('place', ())),
            steps=tuple(node.get('steps', ())))


@dataclasses.dataclass(frozen=True)
class Running:
    """Devices that one server of a node has, and until when.

    :ivar uuid: of its lease, or of the server where it has none.
    :ivar node: uuid of its node.
    :ivar devices: {key of a pool of the node: number of devices}.
    :ivar ends_at: when they are free at the latest; None is never.
    :ivar amounts: {resource class: amount} that its end frees besides; empty
        is unknown: then its share of what ``after`` is more than ``fits``.
    :ivar preemptible: whether it may be ended early for a guaranteed request.
    :ivar priority: weight of its class.
    :ivar started_at: when its lease began, for the least work lost.
    :ivar leaving: whether it was told to end early by an earlier plan; it is
        chosen again before others, for as long as somebody needs it.
    """

    uuid: str
    node: str
    devices: dict
    ends_at: float | None = None
    amounts: dict = dataclasses.field(default_factory=dict)
    preemptible: bool = False
    priority: int = 0
    started_at: float = 0
    leaving: bool = False


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
    :ivar duration: length of its lease; None never ends.
    :ivar priority: weight of its class; higher starts first.
    :ivar preemptible: whether its lease may be ended early.
    :ivar project: id of its project, for the fair share.
    :ivar queued_at: when it began to wait.
    :ivar unknown: whether the survey could not say where it fits: then it
        does not start, and what it was promised is kept as it is.
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
    duration: float | None = None
    priority: int = 0
    preemptible: bool = False
    project: str = ''
    queued_at: float = 0
    unknown: bool = False


@dataclasses.dataclass(frozen=True)
class Wait:
    """Why a request waits.

    :ivar reason_code: one of WAIT_*.
    :ivar reason: for the user.
    :ivar group: name of the set of requests that compete with each other.
    :ivar expected: when it starts at the latest (promised) or about when;
        None is unknown.
    :ivar promised: whether it is a promise, not an estimate.
    """

    reason_code: str
    reason: str
    group: str
    expected: float | None = None
    promised: bool = False


@dataclasses.dataclass(frozen=True)
class Promise:
    """The reservation of a blocked request; kept by the caller.

    :ivar start: when it starts at the latest; None where nothing ends.
    :ivar nodes: {node uuid: number of its servers}.
    :ivar late: why it is later than was promised once; empty: it is not.
    """

    start: float | None
    nodes: dict
    late: str = ''


@dataclasses.dataclass(frozen=True)
class Policy:
    """How the planner orders.

    :ivar queue_policy: ``fifo``, ``backfill`` or ``conservative``.
    :ivar reservation_depth: how many blocked requests are promised a start.
    :ivar backfill_order: in which order others are tried behind them:
        ``age``, ``shortest`` (lease first), or ``aged``, in between: by the
        time they came plus a quarter of their lease.
    :ivar host_order: name of the order of the nodes in score.ORDERS.
    :ivar preempt_grace: seconds from the decision to end a preemptible lease
        early until its devices are free: the grace period and the time to
        shelve. What is free by then anyway is not preempted for.
    """

    queue_policy: str = 'fifo'
    reservation_depth: int = 1
    backfill_order: str = 'shortest'
    host_order: str = 'default'
    preempt_grace: float = 360


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do now.

    :ivar starts: {request uuid: [node uuid, one for each server]}.
    :ivar waits: {request uuid: Wait}.
    :ivar reservations: {node uuid: [[request uuid, alias, count]]}: devices
        that are next for a request, those of starts included; a count of
        None is all of that alias.
    :ivar promises: {request uuid: Promise} to hand in with the next plan.
    :ivar preemptions: uuids of leases to end early, in this order.
    """

    starts: dict
    waits: dict
    reservations: dict
    promises: dict = dataclasses.field(default_factory=dict)
    preemptions: tuple = ()
