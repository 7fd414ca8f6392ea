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


"""Every compute node that has devices, as Nova and Placement know it now."""

import collections
import dataclasses
import time

from keystoneauth1 import exceptions as ks_exc
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.objects import fields
from nova.scheduler.client import report
from oslo_log import log as logging

from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease.planner import topology_file
from nova_gpu_lease.scheduler import devices
from nova_gpu_lease.scheduler import room
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: nova-compute writes its devices after the row of its node. Seconds after
#: which devices read with an unchanged row are surely those of that row.
SETTLED = 5
#: One question for all of Placement's providers is cheaper than one for each
#: node with devices, unless there are more nodes than this for each of them.
SPARSE = 20
#: Every node has some of these free; those that do not are asked for apart.
_ANY = 'resources=MEMORY_MB:1'

#: What this process saw in its last survey: the nodes with GPUs, and how many
#: devices there are of each model.
_gpu_nodes = frozenset()
_supply = {}


def gpu_nodes():
    """The uuids of the nodes that had GPUs, used or free, when last seen."""
    return _gpu_nodes


def supply():
    """How many devices there were, used or free, when last seen.

    :returns: {frozenset of aliases that a model serves: number}.
    """
    return _supply


def _remember(nodes):
    global _gpu_nodes, _supply
    aliases = CONF.gpu_lease.aliases
    _gpu_nodes = frozenset(
        uuid for uuid, node in nodes.items() if not aliases or any(
            not set(aliases).isdisjoint(pool['aliases'])
            for pool in node.pools))
    total = collections.Counter()
    for node in nodes.values():
        for pool in node.pools:
            total[frozenset(pool['aliases'])] += pool['total']
    _supply = dict(total)


@dataclasses.dataclass
class Node:
    """One compute node with devices.

    :ivar compute: its ComputeNode.
    :ivar service: the Service of its nova-compute.
    :ivar cell: uuid of its cell.
    :ivar up: whether the service reported lately.
    :ivar devices: its NodeDevices.
    :ivar pools: as from NodeDevices.pools().
    :ivar tree: its room.Tree, or None when Placement has none.
    :ivar aggregates: set of uuids of the host's aggregates.
    :ivar promised: [[request uuid, alias, number of devices]] that servers
        being built have not taken yet.
    :ivar leaving: set of uuids of servers that have, or will have, devices.
    :ivar held: as from NodeDevices.held().
    :ivar amounts: as from Amounts.of().
    :ivar place: its topology_file.Place.
    """

    compute: object
    service: object
    cell: str
    up: bool
    devices: devices.NodeDevices
    pools: list
    tree: room.Tree | None
    aggregates: frozenset
    promised: list
    leaving: set
    held: list
    amounts: dict | None
    place: topology_file.Place

    @property
    def usable(self):
        return self.up and not self.service.disabled

    def _room(self):
        if not self.tree:
            return {}
        # What is free now is no use without what each end frees.
        return None if self.amounts is None else self.tree.amounts()

    def as_dict(self):
        """The entry of the node in the answer of the survey."""
        return {'host': self.compute.host,
                'node': self.compute.hypervisor_hostname,
                'cell': self.cell, 'up': self.up,
                'disabled': self.service.disabled, 'pools': self.pools,
                'promised': self.promised, 'held': self.held,
                'claimed': self.devices.claimed,
                'amounts': self.amounts or {}, 'room': self._room(),
                'place': self.place.path, 'steps': self.place.steps}


@dataclasses.dataclass
class Landscape:
    """What one survey looks at.

    :ivar nodes: {compute node uuid: Node}.
    :ivar shared: resource classes that sharing providers offer.
    :ivar complete: whether every cell and Placement answered; if not, nobody
        can say that something never fits.
    """

    nodes: dict
    shared: set
    complete: bool


class DeviceReader:
    """Reads the PciDevices of nodes, and knows when they are the same."""

    def __init__(self):
        self._known = {}
        #: Nodes whose devices were not all saved when they were last read.
        self.doubtful = set()

    def read(self, context, compute):
        """The devices of a node.

        :param context: a context of the cell of the node.
        :param compute: a ComputeNode.
        :returns: a list of PciDevice.
        """
        row = (compute.updated_at, str(compute.pci_device_pools))
        now = time.monotonic()
        known = self._known.get(compute.uuid)
        if known and known['row'] == row:
            if (known['read'] - known['seen'] > SETTLED and
                    _agree(compute, known['devices'])):
                return known['devices']
        else:
            known = self._known[compute.uuid] = {'row': row, 'seen': now}
        known['devices'] = list(objects.PciDeviceList.get_by_compute_node(
            context, compute.id))
        known['read'] = now
        if _agree(compute, known['devices']):
            self.doubtful.discard(compute.uuid)
        else:
            self.doubtful.add(compute.uuid)
        return known['devices']


def _agree(compute, found):
    """Whether there are rows of all free devices that a node's row tells of.

    There are not while Nova saves them, which it does last, and tries again
    a minute later when that failed.
    """
    free = sum(pool.count for pool in compute.pci_device_pools or ())
    return free <= sum(device.status == fields.PciDeviceStatus.AVAILABLE
                       for device in found)


def gather(context, manager, reader, known, places):
    """Look at everything.

    :param context: an admin RequestContext.
    :param manager: the SchedulerManager.
    :param reader: a DeviceReader.
    :param known: an amounts.Amounts.
    :param places: a places.Places.
    :returns: a Landscape.
    """
    reader.doubtful = set()
    # Before the devices: a build that ends meanwhile is then counted twice
    # for a moment, never not at all.
    building = db.leases_in([states.LEASE_BUILDING])
    cells = manager.host_manager.cells
    computes, services = manager.host_manager._get_computes_for_cells(
        context, list(cells.values()), None)
    found = _with_devices(context, reader, cells, computes, services)
    complete = len(computes) == len(cells) and not reader.doubtful
    trees, shared = {}, set()
    if found:
        try:
            trees, shared = _trees(
                context, manager.placement_client, list(found),
                sum(len(nodes) for nodes in computes.values()))
        except (ks_exc.ClientException, PlacementFailed) as exc:
            LOG.warning('Placement did not answer the survey: %s', exc)
            complete = False
    aggregates = collections.defaultdict(set)
    all_aggregates = objects.AggregateList.get_all(context)
    for aggregate in all_aggregates:
        for host in aggregate.hosts:
            aggregates[host].add(aggregate.uuid)
    place_of = places.find(all_aggregates)
    known.begin(found)
    nodes = {}
    for uuid, (cell, compute, found_devices) in found.items():
        service = services[compute.host]
        tree = trees.get(uuid)
        held = devices.NodeDevices(compute, found_devices, tree)
        promised, leaving, coming = _promised(
            context, manager.placement_client, uuid, held, tree, building)
        nodes[uuid] = Node(
            compute, service, cell,
            manager.servicegroup_api.service_is_up(service), held,
            held.pools(promised), tree, frozenset(aggregates[compute.host]),
            promised, leaving, held.held(coming),
            known.of(context, manager.placement_client, uuid, held.holders),
            place_of(compute.host))
    nodes = {uuid: node for uuid, node in nodes.items() if node.pools}
    _remember(nodes)
    return Landscape(nodes, shared, complete)


def _with_devices(context, reader, cells, computes, services):
    """{node uuid: (cell uuid, ComputeNode, [PciDevice])}."""
    found = {}
    for cell, nodes in computes.items():
        with nova_context.target_cell(context, cells[cell]) as cctxt:
            for compute in nodes:
                if compute.host not in services:
                    continue
                some = reader.read(cctxt, compute)
                if some:
                    found[compute.uuid] = (cell, compute, some)
    return found


def _promised(context, client, uuid, held, tree, building):
    """What servers that are being built on a node have not taken yet.

    :param building: the leases that are BUILDING.
    :returns: a tuple of [[request uuid, alias, number of devices]], the set
        of uuids of all servers that have devices or will have them, and
        [(server uuid, alias, number of devices)] of those that have not
        taken them, be they claimed in Placement or not.
    """
    promised, coming = [], []
    leaving = set(held.holders)
    for lease in building:
        if lease.node_uuid != uuid:
            continue
        leaving.add(lease.server_id)
        if lease.server_id in held.holders:
            continue
        coming.extend((lease.server_id, alias, count) for alias, count
                      in sorted(lease.devices.items()))
        if not (CONF.filter_scheduler.pci_in_placement and tree and
                _claimed(context, client, lease.server_id, tree)):
            promised.extend([lease.request.uuid, alias, count] for
                            alias, count in sorted(lease.devices.items()))
    return promised, leaving, coming


def _claimed(context, client, server_id, tree):
    """Whether Placement already counts a server's devices as used."""
    try:
        allocations = client.get_allocs_for_consumer(
            context, server_id)['allocations']
    except (ks_exc.ClientException,
            nova_exception.ConsumerAllocationRetrievalFailed) as exc:
        LOG.debug('Taken as not claimed yet: %s', exc,
                  instance_uuid=server_id)
        return False
    return not tree.providers.keys().isdisjoint(allocations)


class PlacementFailed(Exception):
    """Placement answered with an error."""


def _get(context, client, url):
    response = client.get(url, version=report.SAME_SUBTREE_VERSION,
                          global_request_id=context.global_id)
    if response.status_code != 200:
        raise PlacementFailed('GET %s: %s' % (url, response.text))
    return response.json()


def _trees(context, client, uuids, number_of_nodes):
    """What Placement knows about nodes.

    :param uuids: of the compute nodes.
    :param number_of_nodes: of the whole cloud.
    :returns: as from room.parse_summaries().
    """
    summaries = {}
    if len(uuids) * SPARSE < number_of_nodes:
        queries = ['%s&in_tree=%s' % (_ANY, uuid) for uuid in uuids]
    else:
        queries = [_ANY]
    for query in queries:
        summaries.update(_get(
            context, client,
            '/allocation_candidates?' + query)['provider_summaries'])
    trees, shared = room.parse_summaries(summaries)
    for uuid in uuids:
        if uuid not in trees:
            tree = _full_tree(context, client, uuid)
            if tree:
                trees[uuid] = tree
    return trees, shared


def _full_tree(context, client, root):
    """A node without any memory left: no candidate names it."""
    providers = {}
    for entry in _get(context, client, '/resource_providers?in_tree=%s' %
                      root)['resource_providers']:
        url = '/resource_providers/%s/' % entry['uuid']
        used = _get(context, client, url + 'usages')['usages']
        inventories = _get(context, client, url + 'inventories')
        providers[entry['uuid']] = room.Provider(
            frozenset(_get(context, client, url + 'traits')['traits']),
            {name: (int((inventory['total'] - inventory['reserved']) *
                        inventory['allocation_ratio']), used.get(name, 0))
             for name, inventory in inventories['inventories'].items()})
    return room.Tree(root, providers) if root in providers else None
