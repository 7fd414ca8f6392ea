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


"""What servers with devices have allocated besides, read once for each.

To know when there is room for a request the planner has to know what each end
frees. Placement tells it for one node at a time; what a server has there
hardly ever changes.
"""

import time

from keystoneauth1 import exceptions as ks_exc
from nova import exception as nova_exception
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: The most nodes that one survey asks for; the next one goes on.
MOST = 100
#: Seconds after which a node is asked for again, since a server may have been
#: resized, and of how many at most: nobody is to wait for that.
OLD = 600
MOST_OLD = 5


class Amounts:
    """Knows the allocations of servers on nodes. For use by one thread."""

    def __init__(self):
        #: {node uuid: (when it was read, {server uuid: amounts})}
        self._known = {}
        self._left = self._left_old = 0

    def begin(self, nodes):
        """A survey begins.

        :param nodes: uuids of all nodes that there are.
        """
        self._left, self._left_old = MOST, MOST_OLD
        for gone in self._known.keys() - set(nodes):
            del self._known[gone]

    def _is_to_ask(self, unknown, is_old):
        if unknown and self._left:
            self._left -= 1
            return True
        if is_old and self._left_old:
            self._left_old -= 1
            return True
        return False

    def of(self, context, client, node, servers):
        """What servers have allocated on their node itself.

        :param context: an admin RequestContext.
        :param client: Nova's client of Placement.
        :param node: uuid of the node.
        :param servers: set of uuids of servers that have devices there.
        :returns: {server uuid: {resource class: amount}}, or None while that
            is not known of each.
        """
        now = time.monotonic()
        read, found = self._known.get(node, (now, {}))
        if self._is_to_ask(servers - found.keys(), now - read > OLD):
            try:
                allocations = client.get_allocations_for_resource_provider(
                    context, node).allocations
            except (ks_exc.ClientException,
                    nova_exception.ResourceProviderAllocationRetrievalFailed
                    ) as exc:
                LOG.debug('Allocations of node %s: %s', node, exc)
            else:
                found = {server: allocations.get(server, {}).get(
                    'resources', {}) for server in servers}
                self._known[node] = now, found
        if servers - found.keys():
            return None
        return {server: found[server] for server in servers}
