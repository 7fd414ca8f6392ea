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


"""On which nodes a request could run: now, later, or ever.

*Now* is Nova's own answer: Placement's candidates and all enabled filters,
for a request without its devices. *After* is the same once every server with
a device has left a node, *ever* once everybody has; both are worked out here,
with Nova's filters on a host state that was emptied.
"""

import collections
import copy

import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.scheduler.filters import numa_topology_filter
from nova.scheduler.filters import pci_passthrough_filter
from nova.scheduler import request_filter
from nova.scheduler import utils
from nova.virt import hardware

from nova_gpu_lease import planner
from nova_gpu_lease.scheduler import room

CONF = nova.conf.CONF

#: Filters of Nova that judge what a host is, not what happens on it: only
#: their refusal of an empty host means never.
LASTING_FILTERS = frozenset((
    'AggregateImagePropertiesIsolation', 'AggregateInstanceExtraSpecsFilter',
    'AggregateMultiTenancyIsolation', 'AggregateTypeAffinityFilter',
    'ComputeCapabilitiesFilter', 'ImagePropertiesFilter',
    'IsolatedHostsFilter', 'NUMATopologyFilter', 'SimpleCIDRAffinityFilter'))

#: A candidate of no node in particular, for filters that look at them.
_ANY_CANDIDATE = {'allocations': {}, 'mappings': {}}


_PCI = pci_passthrough_filter.PciPassthroughFilter


def enabled_filters(host_manager):
    """The enabled filters with Nova's own for PCI devices in place of ours.

    :returns: a list of filters.
    """
    others = [filter_ for filter_ in host_manager.enabled_filters
              if not isinstance(filter_, _PCI)]
    return others + [_PCI()]


class Eligibility:
    """Answers for all requests that differ in nothing but their servers."""

    def __init__(self, context, manager, view, spec):
        """Read what is asked for.

        :param context: an admin RequestContext.
        :param manager: the SchedulerManager.
        :param view: the Landscape.
        :param spec: the RequestSpec of one server, as it is scheduled; it is
            changed.
        :raises: NoValidHost or RequestFilterFailed if Nova refuses it before
            it looks at any host.
        """
        self.context = context
        self.manager = manager
        self.view = view
        self.spec = spec
        request_filter.process_reqspec(context, spec)
        requests = spec.pci_requests.requests if spec.pci_requests else []
        self.flavor_requests = [request for request in requests if
                                request.source == request.FLAVOR_ALIAS]
        self.devices = collections.Counter()
        for request in self.flavor_requests:
            self.devices[request.alias_name] += request.count
        # Without its devices; ports with devices of their own are not ours.
        self.bare = spec.obj_clone()
        self.bare.pci_requests = objects.InstancePCIRequests(requests=[
            request for request in requests
            if request.source != request.FLAVOR_ALIAS])
        self.resources = self._resources()
        self.queries = [room.parse_query(resources.to_querystring())
                        for resources in self.resources]
        own = self._own_cell()
        #: Nova starts new servers in no cell that is disabled; those that are
        #: in one may start there.
        self.open_cells = {own} if own else {
            cell.uuid for cell in manager.host_manager.enabled_cells}
        self.nodes = {
            uuid: node for uuid, node in view.nodes.items()
            if own in (None, node.cell) and
            planner.most([(frozenset(pool['aliases']), pool['total'])
                          for pool in node.pools], self.devices, 1)}
        self._fits = self._after = self._ever = None
        self.missing = []

    def answer(self, num_servers):
        """The entry of one request in the answer of the survey.

        :param num_servers: how many servers start together.
        """
        if self._fits is None:
            self._fits = self._find_now()
            self._after = self._find_after()
        never = None
        if not self._enough(self._after, num_servers):
            never = self._why_never(num_servers)
        return {'fits': self._fits, 'after': self._after,
                'amounts': self.queries[0].amounts,
                'together': self._together, 'never': never,
                'reason': '' if self._fits else never or self._why()}

    @property
    def _together(self):
        group = self.spec.instance_group
        return bool(group and group.policy == 'affinity')

    def _enough(self, slots, num_servers):
        """Whether all servers could run, were all devices free."""
        return self._most(slots, num_servers) >= num_servers

    def _most(self, slots, num_servers):
        """How many servers could run at the same time, at most."""
        counts = [planner.most(
            [(frozenset(pool['aliases']), pool['total'])
             for pool in self.nodes[uuid].pools], self.devices,
            min(count, num_servers)) for uuid, count in slots.items()]
        return max(counts, default=0) if self._together else sum(counts)

    def _own_cell(self):
        """The uuid of the cell that the servers are in; None for new ones."""
        destination = self.spec.requested_destination
        if destination and 'cell' in destination and destination.cell:
            return destination.cell.uuid
        return None

    def _is_usable(self, node):
        """Whether Nova would have a server go there now."""
        return (node.usable and bool(node.tree) and
                node.cell in self.open_cells)

    def _resources(self):
        """What is asked of Placement, as SchedulerManager does."""
        result = []
        for translate in (True, False):
            resources = utils.resources_from_request_spec(
                self.context, self.bare, self.manager.host_manager,
                enable_pinning_translate=translate)
            # Hosts without devices may not crowd those with out.
            resources._limit = None
            result.append(resources)
            if (not resources.cpu_pinning_requested or
                    CONF.workarounds.disable_fallback_pcpu_query):
                break
        return result

    # Now

    def _find_now(self):
        usable = {uuid: node for uuid, node in self.nodes.items()
                  if self._is_usable(node)}
        if not usable:
            return {}
        candidates = self._candidates()
        states = self._states(usable)
        for state in states:
            state.allocation_candidates = copy.deepcopy(
                candidates[state.uuid])
        states = [state for state in states if state.allocation_candidates]
        passed = self._filter(
            states, self.bare, enabled_filters(self.manager.host_manager))
        fits = {}
        for state in passed:
            node = usable[state.uuid]
            if self._affinity_to_devices(state, node):
                self._add(fits, state, node, node.tree.amounts())
        return fits

    def _candidates(self):
        """{node uuid: [candidate]} as Placement sees it."""
        result = collections.defaultdict(list)
        for resources in self.resources:
            found = self.manager.placement_client.get_allocation_candidates(
                self.context, resources)
            for candidate in (found and found[0]) or ():
                for uuid in candidate['allocations']:
                    result[uuid].append(candidate)
        return result

    def _affinity_to_devices(self, state, node):
        """Whether free devices are on the NUMA nodes that have room.

        Too few free devices are not the question here.
        """
        if not self.spec.numa_topology or not planner.most(
                [(frozenset(pool['aliases']), pool['free'])
                 for pool in node.pools], self.devices, 1):
            return True
        state.allocation_candidates = [_ANY_CANDIDATE]
        return bool(self._filter(
            [state], self.spec, [filter_ for filter_ in enabled_filters(
                self.manager.host_manager) if isinstance(
                    filter_, numa_topology_filter.NUMATopologyFilter)]))

    # After, and ever

    def _find_after(self):
        """Where it fits once those with devices have left."""
        usable = {uuid: node for uuid, node in self.nodes.items()
                  if uuid not in self._fits and self._is_usable(node) and
                  not self._unsuitable(node, False)}
        result = dict(self._fits)
        if not usable:
            return result
        released = {uuid: self._released(node)
                    for uuid, node in usable.items()}
        states = [self._vacate(state, usable[state.uuid], False)
                  for state in self._states(usable)]
        for state in self._filter(
                states, self._on_vacated(False),
                enabled_filters(self.manager.host_manager)):
            node = usable[state.uuid]
            self._add(result, state, node,
                      node.tree.amounts(released[state.uuid]))
        return result

    def _find_ever(self):
        """Where it fits on an empty host, up or not."""
        possible = {}
        for uuid, node in self.nodes.items():
            problem = node.tree and self._unsuitable(node, True)
            if problem:
                self.missing.append(problem)
            elif node.tree:
                possible[uuid] = node
        lasting = [filter_ for filter_ in enabled_filters(
            self.manager.host_manager)
            if type(filter_).__name__ in LASTING_FILTERS]
        result = {}
        states = [self._vacate(state, possible[state.uuid], True)
                  for state in self._states(possible)]
        for state in self._filter(
                states, self._on_vacated(True), lasting):
            node = possible[state.uuid]
            self._add(result, state, node, node.tree.amounts(empty=True),
                      _largest(node.compute))
        return result

    def _unsuitable(self, node, ignore_disabled):
        problems = [room.suits(query, node.tree, node.aggregates,
                               ignore_disabled) for query in self.queries]
        return problems[0] if all(problems) else None

    def _released(self, node):
        """{resource class: amount} that servers with devices have here."""
        result = collections.Counter()
        allocations = self.manager.placement_client.\
            get_allocations_for_resource_provider(
                self.context, node.compute.uuid).allocations
        for consumer in node.leaving & allocations.keys():
            result.update(allocations[consumer]['resources'])
        return result

    def _on_vacated(self, everybody):
        """The spec to filter vacated host states with."""
        spec = self.spec.obj_clone()
        spec.pci_requests = objects.InstancePCIRequests(
            requests=self.flavor_requests)
        if everybody:
            # Hosts are ignored because of what happened there lately.
            spec.ignore_hosts = None
        return spec

    def _vacate(self, state, node, everybody):
        """Take servers off a host state, and give it all of its devices."""
        gone = set(state.instances) if everybody else node.leaving
        state.instances = {uuid: instance for uuid, instance
                           in state.instances.items() if uuid not in gone}
        state.num_instances = max(0, state.num_instances - len(gone))
        state.num_io_ops = 0
        if everybody:
            state.num_instances = state.vcpus_used = state.disk_mb_used = 0
            state.free_ram_mb = state.total_usable_ram_mb
            state.free_disk_mb = state.total_usable_disk_gb * 1024
            for cell in state.numa_topology.cells if (
                    state.numa_topology) else ():
                cell.cpu_usage = cell.memory_usage = 0
                cell.pinned_cpus = set()
                for pages in cell.mempages:
                    pages.used = 0
        else:
            self._vacate_numa(state, node)
        state.pci_stats.pools = [dict(pool)
                                 for pool in node.devices.everything]
        state.pci_stats.numa_topology = state.numa_topology
        state.allocation_candidates = [_ANY_CANDIDATE]
        return state

    def _vacate_numa(self, state, node):
        if not state.numa_topology or not self.spec.numa_topology:
            return
        with nova_context.target_cell(
                self.context,
                self.manager.host_manager.cells[node.cell]) as cctxt:
            for uuid in node.devices.holders:
                try:
                    used = objects.InstanceNUMATopology.get_by_instance_uuid(
                        cctxt, uuid)
                except nova_exception.NumaTopologyNotFound:
                    continue
                state.numa_topology = hardware.numa_usage_from_instance_numa(
                    state.numa_topology, used, free=True)

    # Common

    def _states(self, nodes):
        """Fresh host states of nodes, as Nova makes them."""
        computes = collections.defaultdict(list)
        for node in nodes.values():
            computes[node.cell].append(node.compute)
        services = {node.compute.host: node.service
                    for node in nodes.values()}
        # A node that never reported its usage has no uuid yet.
        return [state for state in
                self.manager.host_manager._get_host_states(
                    self.context, computes, services) if state.uuid]

    def _filter(self, states, spec, some_filters):
        """Those that pass; forced and ignored hosts are honoured."""
        if not states:
            # Nova would log at length that all of them were refused.
            return []
        host_manager = copy.copy(self.manager.host_manager)
        host_manager.enabled_filters = some_filters
        passed = list(host_manager.get_filtered_hosts(states, spec))
        if not passed:
            self.missing.append(self._refused_by(states, spec, some_filters))
        return passed

    @staticmethod
    def _refused_by(states, spec, some_filters):
        for filter_ in some_filters:
            states = list(filter_.filter_all(states, spec))
            if not states:
                return 'no such host passes %s' % type(filter_).__name__
        return 'another host was asked for'

    def _add(self, slots, state, node, amounts, largest=None):
        """Note how many servers have room on a node."""
        counts, problems = zip(*(
            room.slots(query, node.tree, self.view.shared, amounts, largest)
            for query in self.queries))
        count = max(counts)
        group = self.spec.instance_group
        if count and group and group.policy == 'anti-affinity':
            limit = (group.rules or {}).get('max_server_per_host', 1)
            count = min(count, int(limit) - len(
                state.instances.keys() & set(group.members)))
        if count > 0:
            slots[state.uuid] = count
        elif problems[0]:
            self.missing.append('no such host has %s' % problems[0])

    def _need(self):
        return ', '.join('%d %s' % (count, alias) for alias, count
                         in sorted(self.devices.items()))

    def _why(self):
        """What is missing now, for the user."""
        if not self.nodes:
            return 'No host has these devices: %s.' % self._need()
        if not any(node.usable for node in self.nodes.values()):
            return 'All hosts with these devices are down or disabled.'
        reasons = list(dict.fromkeys(self.missing))
        return 'No room now on a host with these devices: %s.' % (
            '; '.join(reasons[:3]) or 'not enough is free')

    def _why_never(self, num_servers):
        """Why it fits nowhere even when all hosts are empty, or None."""
        if not self.view.complete:
            return None
        if not self.nodes:
            return self._why()
        if any(node.tree is None for node in self.nodes.values()):
            # A host that starts up and is not in Placement yet.
            return None
        if self._ever is None:
            self.missing, now = [], self.missing
            self._ever = self._find_ever()
            self._never_missing, self.missing = self.missing, now
        possible = self._most(self._ever, num_servers)
        if possible >= num_servers:
            return None
        if not self._ever:
            reasons = list(dict.fromkeys(self._never_missing))
            return ('No host could run it even when empty: %s.' %
                    '; '.join(reasons[:3]))
        return 'Only %d of %d servers could ever run at the same time%s.' % (
            possible, num_servers, ' on one host' if self._together else '')


def _largest(compute):
    """The most that one server may have of what a node is made of."""
    return {'VCPU': compute.vcpus, 'MEMORY_MB': compute.memory_mb,
            'DISK_GB': compute.local_gb}
