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


"""The queue and the hosts as they are, kept up to date event by event."""

import collections
import dataclasses

from nova_gpu_lease.planner import ask
from nova_gpu_lease.planner import backfill
from nova_gpu_lease.planner import board
from nova_gpu_lease.planner import conservative
from nova_gpu_lease.planner import explain
from nova_gpu_lease.planner import fifo
from nova_gpu_lease.planner import gangs
from nova_gpu_lease.planner import line
from nova_gpu_lease.planner import model
from nova_gpu_lease.planner import score
from nova_gpu_lease.planner import supply

#: Kinds of servers that nobody asks for any more and that are kept in mind.
SPARE_ASKS = 64
#: What makes a plan, by the queue_policy.
KINDS = {'fifo': fifo.Fifo, 'backfill': backfill.Backfill,
         'conservative': conservative.Conservative}
#: Objects that are known to be equal to others.
SAME = 4096


class State:
    """What a plan is made from; each event costs what it changes.

    plan() only looks: whoever starts what it says tells so with withdraw()
    for the request and start() for each of its servers.

    :ivar policy: a Policy.
    :ivar promises: {request uuid: Promise} of those that wait.
    :ivar boards: {node uuid: board.Board}.
    :ivar line: the line.Line.
    :ivar demand: {alias: number of devices} that tells which models are
        scarce; None: what those who wait ask for.
    """

    def __init__(self, nodes=None, running=(), policy=model.Policy(),
                 promises=None, usage=None, demand=None):
        """Begin with nodes and what runs on them.

        :param nodes: {node uuid: Node}.
        :param running: the Running of these nodes; what they have is not
            free in ``nodes``.
        :param policy: a Policy.
        :param promises: {request uuid: Promise} given earlier; those of
            requests that do not wait are forgotten by the first plan.
        :param usage: {project id: fair share factor, 0 to 1}; None: not used.
        :param demand: see above.
        """
        self.policy = policy
        self.promises = dict(promises or {})
        self.usage = usage
        self.demand = demand
        self.boards = {}
        self.line = line.Line()
        self.gangs = gangs.Gangs()
        self.names = explain.Names()
        self._where = {}
        self._asks = {}
        self._same = {}
        self._wanted = collections.Counter()
        self.supply = supply.Supply()
        self.preemptible = set()
        for uuid, node in (nodes or {}).items():
            self._add_board(board.Board(uuid, node))
        self._number()
        for one in running:
            self._where[one.uuid] = one.node
            self._begins(one)

    # The queue

    def submit(self, waiting):
        """A Waiting joins the queue, or takes the place of its old self."""
        if waiting.uuid in self.line.entries:
            self._forget(self.line.entries[waiting.uuid])
        wanted = self._ask(waiting)
        self.line.add(waiting, wanted, waiting.uuid in self.promises,
                      self.usage is not None)
        wanted.users += 1
        if wanted.users == 1:
            self.names.stale = True
        for alias, number in waiting.devices.items():
            self._wanted[alias] += number * waiting.num_servers

    def withdraw(self, uuid):
        """A request leaves the queue: it starts, or was given up."""
        self._forget(self.line.entries[uuid])
        self.line.remove(uuid, uuid in self.promises)
        self._let_go(uuid)

    def set_usage(self, usage):
        """Other fair share factors: {project id: 0 to 1}, or None."""
        regroup = (usage is None) != (self.usage is None)
        self.usage = usage
        if regroup:
            self._resubmit()

    # What runs

    def start(self, running):
        """A server starts: what its Running has is not free any more."""
        self._where[running.uuid] = running.node
        self._give(running, -1)
        self._begins(running)

    def end(self, uuid):
        """A server ended: what it had is free."""
        running = self._ended(uuid)
        del self._where[uuid]
        if running is not None:
            self._give(running, 1)

    def change_end(self, uuid, ends_at):
        """A lease was extended, or ends earlier.

        :param uuid: of its Running.
        :param ends_at: when, in seconds since the epoch; None is never.
        """
        running = self._ended(uuid)
        if running is not None:
            self._begins(dataclasses.replace(running, ends_at=ends_at))

    def running(self, uuid):
        """A tuple of the Board and the Running; None and None: it is gone."""
        one = self.boards.get(self._where.get(uuid))
        return (one, one.running[uuid]) if one else (None, None)

    def _begins(self, running):
        one = self.boards.get(running.node)
        if one is not None:
            one.add(running)
            self.supply.begins(running, one)
            if running.preemptible:
                self.preemptible.add(running.uuid)

    def _ended(self, uuid):
        one = self.boards.get(self._where[uuid])
        if one is None:
            return None
        self.supply.ended(uuid)
        self.preemptible.discard(uuid)
        return one.remove(uuid)

    def _give(self, running, sign):
        one = self.boards.get(running.node)
        if one is not None:
            one.give(running, sign)
            for aliases, number in one.models(running.devices).items():
                self.supply.free[aliases] += sign * number

    # The nodes

    def set_node(self, uuid, node):
        """A node came, or is now as ``node`` says; its Running stay."""
        old = self.boards.get(uuid)
        if old is not None and old.same_kind(node):
            self.supply.node(old, -1)
            old.set(node)
            self.supply.node(old, 1)
            old.touch()
            return
        runs = list(self._drop_board(uuid).running.values()) if old else []
        self._add_board(board.Board(uuid, node))
        for one in runs:
            self._begins(one)
        self._number()
        self._resubmit()

    def remove_node(self, uuid):
        """A node went, with all that ran on it."""
        for one in self._drop_board(uuid).running:
            del self._where[one]
        self._number()
        self._resubmit()

    def _add_board(self, fresh):
        self.boards[fresh.uuid] = fresh
        self.supply.node(fresh, 1)
        self.names.stale = True

    def _drop_board(self, uuid):
        old = self.boards.pop(uuid)
        for one in old.running:
            self.supply.ended(one)
            self.preemptible.discard(one)
        self.supply.node(old, -1)
        self.names.stale = True
        return old

    def _number(self):
        self.gangs.reset()
        for number, one in enumerate(sorted(
                self.boards.values(),
                key=lambda one: (one.node.host, one.uuid))):
            one.number = number

    def _resubmit(self):
        """Look at all nodes anew."""
        self._asks.clear()
        for one in self.boards.values():
            one.asks.clear()
        entries = sorted(self.line.entries.values(),
                         key=lambda entry: entry.place[1])
        self.line = line.Line()
        self._wanted.clear()
        for entry in entries:
            self.submit(entry.request)

    # The plan

    def plan(self, now, explain=True):
        """Decide who starts now.

        :param now: the time.
        :param explain: whether the plan says why the others wait.
        :returns: a Plan. Its promises are kept for the next one.
        """
        self._refresh()
        return KINDS[self.policy.queue_policy](self, now).plan(explain)

    def promise(self, uuid, promise):
        """Give a request a Promise, or with None take it back."""
        had = uuid in self.promises
        if promise is None:
            self._let_go(uuid)
        else:
            self.promises[uuid] = promise
        if had != (promise is not None):
            self.line.promise(uuid, promise is not None)

    def _let_go(self, uuid):
        promise = self.promises.pop(uuid, None)
        for node in promise.nodes if promise else ():
            if node in self.boards:
                self.boards[node].touch()

    def factor(self, request):
        """The fair share factor of a request, 0 to 1."""
        return 1 if self.usage is None else self.usage.get(request.project, 1)

    def _refresh(self):
        """Bring up to date what is worked out once for each plan."""
        for uuid in self.promises.keys() - self.line.entries.keys():
            del self.promises[uuid]
        self.names.refresh(+self.supply.pools, self._asks.values())
        if len(self.supply.total) > 1:
            scarcity = score.scarcities(
                +self.supply.total,
                +self._wanted if self.demand is None else self.demand)
            for one in self._asks.values():
                one.set_scarcity(scarcity)

    # What servers need

    def _ask(self, request):
        """The Ask of a server of a request."""
        key = (tuple(sorted(request.devices.items())),
               self._identity(request.fits), self._identity(request.after),
               None if request.amounts is None
               else tuple(sorted(request.amounts.items())))
        if key not in self._asks:
            if len(self._asks) >= SPARE_ASKS:
                self._tidy()
            self._asks[key] = ask.Ask(
                request, self.boards, score.ORDERS[self.policy.host_order])
        return self._asks[key]

    def _identity(self, slots):
        """Something equal for equal dicts; looks at each object once."""
        if slots is None:
            return None
        known = self._same.get(id(slots))
        if known is None or known[0] is not slots:
            if len(self._same) >= SAME:
                self._same.clear()
            known = self._same[id(slots)] = (
                slots, frozenset(slots.items()))
        return known[1]

    def _forget(self, entry):
        entry.ask.users -= 1
        if not entry.ask.users:
            self.names.stale = True
        for alias, number in entry.request.devices.items():
            self._wanted[alias] -= number * entry.request.num_servers

    def _tidy(self):
        """Forget what nobody waits for, once that is most of it."""
        used = {key: one for key, one in self._asks.items() if one.users}
        if len(used) * 2 <= len(self._asks):
            self._asks = used
            self._same.clear()
            for one in self.boards.values():
                one.asks = [some for some in one.asks if some.users]
