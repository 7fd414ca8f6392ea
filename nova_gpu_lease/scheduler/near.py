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


"""Devices of one server that are near to each other, chosen by the scheduler.

With PCI in Placement an allocation candidate names the devices, and Nova
claims the first one of a host that passed all filters. Here those are put to
the front whose devices share the most. Without PCI in Placement the compute
chooses, see :mod:`nova_gpu_lease.compute.near`.
"""

import collections

from nova_gpu_lease.conf import CONF
from nova_gpu_lease.planner import links
from nova_gpu_lease import topology_watch


def prefer(hosts, spec):
    """Put the best candidates of each host first; none is taken away.

    :param hosts: the HostStates that pass a filter.
    :param spec: a RequestSpec.
    :returns: an iterable of the same hosts.
    """
    if not CONF.filter_scheduler.pci_in_placement:
        return hosts
    return _sorted(hosts, spec, topology_watch.current().devices)


def _sorted(hosts, spec, described):
    for host in hosts:
        if len(host.allocation_candidates) > 1:
            _sort(host, spec, described.get(host.host, {}))
        yield host


def _sort(host, spec, described):
    ids = [request.request_id for request in spec.pci_requests.requests
           if request.source == request.FLAVOR_ALIAS]
    # Nova makes a group of resources for each device of a request.
    chosen = [[[providers[0] for group, providers
                in candidate['mappings'].items() if group.startswith(name)]
               for name in ids] for candidate in host.allocation_candidates]
    wanted = {provider for sets in chosen for some in sets
              for provider in some}
    kinds, free = {}, collections.Counter()
    for pool in host.pci_stats.pools:
        if pool.get('rp_uuid') in wanted:
            kind = kinds[pool['rp_uuid']] = links.kind(pool, described)
            free[kind] += pool['count']
    if len(free) < 2:
        return
    ranks = []
    for index, sets in enumerate(chosen):
        sets = [[kinds[provider] for provider in some if provider in kinds]
                for some in sets]
        ranks.append((sum(map(links.cost, sets)),
                      sum(links.left_over(some, free) for some in sets),
                      index))
    host.allocation_candidates = [
        host.allocation_candidates[index]
        for _cost, _left, index in sorted(ranks)]
