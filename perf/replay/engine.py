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


"""The planner with the state it plans from, told what was done."""

import collections

from nova_gpu_lease import planner


class Engine:
    """A planner.State that is told what its plans led to.

    :param nodes: {name: Node}, all free.
    :param policy: a Policy.
    :param demand: {alias: number of devices} that says which models are
        scarce; the caller may go on adding to it. None: what waits.
    """

    def __init__(self, nodes, policy, demand=None):
        self._keys = {name: node.pools[0].key for name, node in nodes.items()}
        self._state = planner.State(
            nodes, policy=policy, demand=demand)
        # Names of what runs, by request.
        self._parts = {}

    def arrive(self, request):
        """A request begins to wait."""
        self._state.submit(request)

    def withdraw(self, uuid):
        """A request waits no more."""
        self._state.withdraw(uuid)

    def plan(self, now):
        """Who starts now; nothing is started by it.

        :returns: a Plan, without the reasons of those who wait.
        """
        return self._state.plan(now, explain=False)

    def started(self, request, names, now):
        """What a plan said was done.

        Servers of one request on one host end together, so they are one.
        """
        self._state.withdraw(request.uuid)
        (number,) = request.devices.values()
        ends_at = (None if request.duration is None
                   else now + request.duration)
        parts = self._parts[request.uuid] = []
        for name, count in collections.Counter(names).items():
            parts.append('%s %s' % (request.uuid, name))
            self._state.start(planner.Running(
                uuid=parts[-1], node=name, started_at=now,
                ends_at=ends_at,
                devices={self._keys[name]: number * count}))

    def end(self, uuid):
        """The devices of a request are free again."""
        for part in self._parts.pop(uuid):
            self._state.end(part)
