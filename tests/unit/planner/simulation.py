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


"""A small cloud in simulated time, for properties of whole histories."""

import collections
import dataclasses
import random

from hypothesis import strategies as st

from nova_gpu_lease import planner


@dataclasses.dataclass
class Arrival:
    """A request to come.

    :ivar wait: seconds after the one before.
    :ivar waiting: its Waiting.
    :ivar early: seconds after which its servers really end; None is at the
        end of the lease.
    """

    wait: int
    waiting: planner.Waiting
    early: int | None


@st.composite
def clouds(draw, aliases=('a', 'b')):
    """{node uuid: Node} with a few devices each."""
    nodes = {}
    for number in range(draw(st.integers(1, 4))):
        pools = []
        for index in range(draw(st.integers(1, 2))):
            total = draw(st.integers(1, 4))
            pools.append(planner.Pool(
                'p%d' % index, total, frozenset(draw(st.sets(
                    st.sampled_from(aliases), min_size=1))), total))
        room = draw(st.none() | st.fixed_dictionaries(
            {'MEMORY_MB': st.integers(4, 16)}))
        nodes['n%d' % number] = planner.Node(
            'h%d' % number, tuple(pools), room, place=draw(st.sampled_from(
                [(), (), ('s1', 'r1'), ('s1', 'r2'), ('s2', 'r1')])))
    return nodes


def _slots(node, amounts):
    """How many servers an empty node has room for, as a survey says it."""
    if node.room is None or amounts is None:
        return 8
    return min(8, node.room['MEMORY_MB'] // amounts['MEMORY_MB'])


@st.composite
def histories(draw, priorities=(0,), endless=False, preemptible=False):
    """A tuple of {node uuid: Node} and a list of Arrival.

    :param priorities: weights of the classes that are not preemptible.
    :param preemptible: whether there is one that is.
    """
    nodes = draw(clouds())
    lengths = st.integers(1, 40)
    # As priorities.parse() has it, a preemptible class is below all others.
    classes = [(weight, False) for weight in priorities] + [
        (min(priorities) - 1, True)] * preemptible
    result = []
    for number in range(draw(st.integers(1, 12))):
        amounts = draw(st.none() | st.just({'MEMORY_MB': 2}))
        weight, ends_early = draw(st.sampled_from(classes))
        waiting = planner.Waiting(
            'r%02d' % number, draw(st.sampled_from([1, 1, 1, 2, 3])),
            draw(st.dictionaries(st.sampled_from(['a', 'b']),
                                 st.integers(1, 3), min_size=1, max_size=2)),
            {uuid: _slots(nodes[uuid], amounts) for uuid in sorted(draw(
                st.sets(st.sampled_from(sorted(nodes)), min_size=1)))},
            amounts=amounts,
            together=draw(st.sampled_from([False, False, True])),
            duration=draw(st.none() | lengths if endless else lengths),
            priority=weight, preemptible=ends_early)
        result.append(Arrival(draw(st.integers(0, 12)), waiting,
                              draw(st.none() | st.integers(1, 30))))
    return nodes, result


class Cloud:
    """Plays a history; what happens is left to look at.

    :ivar starts: {request uuid: when}.
    :ivar promised: {request uuid: [start promised, ...]}.
    """

    def __init__(self, nodes, arrivals, policy):
        self.nodes = nodes
        self.policy = policy
        self.arrivals = list(arrivals)
        self.state = planner.State(nodes, policy=policy)
        self.running = {}
        self.waiting = {}
        self.starts = {}
        self.promised = collections.defaultdict(list)
        self.promises = {}

    def play(self, look=lambda cloud, now, plan: None):
        """Play it.

        :param look: called with the Cloud, the time and each plan.
        """
        now, ends = 0, {}
        due = self.arrivals[0].wait if self.arrivals else None
        while self.arrivals or ends:
            now = min([*ends.values()] + ([due] if self.arrivals else []))
            for uuid in sorted(uuid for uuid, end in ends.items()
                               if end <= now):
                del ends[uuid]
                self._end(uuid)
            while self.arrivals and due <= now:
                arrival = self.arrivals.pop(0)
                self._come(dataclasses.replace(
                    arrival.waiting, queued_at=now), arrival.early)
                if self.arrivals:
                    due += self.arrivals[0].wait
            plan = self.state.plan(now)
            look(self, now, plan)
            for uuid, promise in plan.promises.items():
                self.promised[uuid].append(promise.start)
            self.promises = plan.promises
            for uuid, nodes in plan.starts.items():
                ends.update(self._start(uuid, nodes, now))

    def _come(self, waiting, early):
        self.waiting[waiting.uuid] = waiting, early
        self.state.submit(waiting)

    def _start(self, uuid, nodes, now):
        request, early = self.waiting.pop(uuid)
        self.starts[uuid] = now
        self.state.withdraw(uuid)
        ends = {}
        for number, node in enumerate(nodes):
            devices = self._devices(node, request.devices)
            running = planner.Running(
                '%s.%d' % (uuid, number), node, devices,
                None if request.duration is None else now + request.duration,
                request.amounts or {}, request.preemptible,
                request.priority, started_at=now)
            self.running[running.uuid] = running
            self.state.start(running)
            lasts = [length for length in (request.duration, early)
                     if length is not None]
            if lasts:
                ends[running.uuid] = now + min(lasts)
        return ends

    def _end(self, uuid):
        del self.running[uuid]
        self.state.end(uuid)

    def free(self, node):
        """{key: number of free devices} of a node."""
        free = {pool.key: pool.free for pool in self.nodes[node].pools}
        for running in self.running.values():
            if running.node == node:
                for key, number in running.devices.items():
                    free[key] -= number
        return free

    def now(self):
        """{node uuid: Node} as it is, with what runs taken off."""
        result = {}
        for uuid, node in self.nodes.items():
            free = self.free(uuid)
            room = node.room and dict(node.room)
            for running in self.running.values():
                if running.node == uuid and room:
                    for name, amount in running.amounts.items():
                        room[name] -= amount
            result[uuid] = dataclasses.replace(
                node, room=room, pools=tuple(
                    dataclasses.replace(pool, free=free[pool.key])
                    for pool in node.pools))
        return result

    def _devices(self, node, wanted):
        """{key of a pool: number of devices} that a server gets there.

        As Nova does, but such that what else was planned fits, too: devices
        that serve less come first.
        """
        free = self.free(node)
        pools = sorted(self.nodes[node].pools,
                       key=lambda pool: (len(pool.aliases), pool.key))
        taken = collections.Counter()

        def give(some, left):
            if not left:
                return True
            alias = some[0]
            for pool in pools:
                if alias in pool.aliases and taken[pool.key] < free[pool.key]:
                    taken[pool.key] += 1
                    if give(some[1:], left - 1):
                        return True
                    taken[pool.key] -= 1
            return False

        units = [alias for alias, number in sorted(wanted.items())
                 for _ in range(number)]
        assert give(units, len(units)), 'a device was given twice'
        return {key: number for key, number in taken.items() if number}


def print_plans():
    """Play a busy day under every policy and print what was planned."""
    rng = random.Random(3)
    pools = [('x', frozenset(['a', 'any'])), ('y', frozenset(['b', 'any']))]
    pools = tuple(planner.Pool(key, 4, aliases, 4) for key, aliases in pools)
    nodes = {'node%d' % number: planner.Node(
        'host%d' % number, pools,
        place=('switch%d' % (number % 3), 'rack%d' % (number % 6)))
        for number in range(12)}
    classes = [(0, False)] * 5 + [(5, False)] * 3 + [(-1, True)] * 2
    arrivals = [Arrival(rng.randrange(4), planner.Waiting(
        'request%d' % number, rng.choice((1, 1, 1, 3)),
        {rng.choice(('a', 'b', 'any')): rng.choice((1, 1, 2, 4))},
        dict.fromkeys(nodes, 4), duration=rng.randrange(1, 200),
        priority=weight, preemptible=ends_early), rng.randrange(1, 200))
        for number, (weight, ends_early) in enumerate(
            rng.choices(classes, k=150))]
    for policy in ('fifo', 'backfill', 'conservative'):
        Cloud(nodes, arrivals, planner.Policy(
            policy, preempt_grace=5)).play(
                lambda cloud, now, plan: print(now, plan))
