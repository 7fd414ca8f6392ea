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

import dataclasses

from nova_gpu_lease.planner import model


class State:
    """What a plan is made from; each event costs what it changes.

    plan() only looks: whoever starts what it says tells so with withdraw()
    for the request and start() for each of its servers.
    """

    def __init__(self, nodes=None, running=(), policy=model.Policy(),
                 promises=None, usage=None):
        """Begin with nodes and what runs on them.

        :param nodes: {node uuid: Node}.
        :param running: the Running of these nodes; what they have is not
            free in ``nodes``.
        :param policy: a Policy.
        :param promises: {request uuid: Promise} given earlier.
        :param usage: {project id: fair share factor, 0 to 1}; None: not used.
        """
        self.policy = policy
        self.promises = dict(promises or {})
        self.usage = usage
        self._nodes = dict(nodes or {})
        self._running = {one.uuid: one for one in running}
        self._waiting = {}

    def submit(self, waiting):
        """A Waiting joins the queue, or takes the place of its old self."""
        self._waiting[waiting.uuid] = waiting

    def withdraw(self, uuid):
        """A request leaves the queue: it starts, or was given up."""
        del self._waiting[uuid]
        self.promises.pop(uuid, None)

    def start(self, running):
        """A server starts: what its Running has is not free any more."""
        self._running[running.uuid] = running
        self._give(running, -1)

    def end(self, uuid):
        """A server ended: what it had is free."""
        self._give(self._running.pop(uuid), 1)

    def change_end(self, uuid, ends_at):
        """A lease was extended, or ends earlier.

        :param uuid: of its Running.
        :param ends_at: when, in seconds since the epoch; None is never.
        """
        self._running[uuid] = dataclasses.replace(
            self._running[uuid], ends_at=ends_at)

    def set_node(self, uuid, node):
        """A node came, or is now as ``node`` says; its Running stay."""
        self._nodes[uuid] = node

    def remove_node(self, uuid):
        """A node went, with all that ran on it."""
        del self._nodes[uuid]
        self._running = {key: one for key, one in self._running.items()
                         if one.node != uuid}

    def set_usage(self, usage):
        """Other fair share factors: {project id: 0 to 1}, or None."""
        self.usage = usage

    def plan(self, now, explain=True):
        """Decide who starts now.

        :param now: the time.
        :param explain: whether the plan says why the others wait.
        :returns: a Plan. Its promises are kept for the next one.
        """
        from nova_gpu_lease.planner import planning
        plan = planning.plan(list(self._waiting.values()), self._nodes)
        return plan if explain else dataclasses.replace(plan, waits={})

    def _give(self, running, sign):
        """Add what a Running has to what is free of its node, or take it."""
        node = self._nodes.get(running.node)
        if node is None:
            return
        room = node.room and {
            name: amount + sign * running.amounts.get(name, 0)
            for name, amount in node.room.items()}
        self._nodes[running.node] = dataclasses.replace(
            node, room=room, pools=tuple(
                dataclasses.replace(pool, free=pool.free + sign *
                                    running.devices.get(pool.key, 0))
                for pool in node.pools))
