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


"""Nova's PciPassthroughFilter that knows who is next for a device."""

import copy

from nova.scheduler.filters import pci_passthrough_filter
from nova.scheduler import utils
from oslo_log import log as logging

from nova_gpu_lease.conf import CONF
from nova_gpu_lease.scheduler import devices
from nova_gpu_lease.scheduler import near
from nova_gpu_lease.scheduler import view

LOG = logging.getLogger(__name__)


class GPULeaseFilter(pci_passthrough_filter.PciPassthroughFilter):
    """Enable it in place of PciPassthroughFilter.

    A server whose lease is being built goes to the nodes that were planned
    for its request. Any other one that asks for a GPU, with a lease (a move
    or a resize) or without, does not take devices that are next for somebody
    else. While nobody waits it answers exactly as Nova's filter.
    """

    RUN_ON_REBUILD = False

    def filter_all(self, filter_obj_list, spec_obj):
        """The hosts that pass; one query for all of them."""
        if asks_for_gpu(spec_obj) and not utils.request_is_rebuild(spec_obj):
            return near.prefer(
                self._passing(filter_obj_list, spec_obj), spec_obj)
        return super().filter_all(filter_obj_list, spec_obj)

    def _passing(self, hosts, spec):
        known = view.read(spec)
        if known.late:
            LOG.debug('Nobody waits for a host of this server any more',
                      instance_uuid=spec.instance_uuid)
            return iter(())
        if known.planned:
            # Nova filters again for every server of a request what was left
            # by the one before, so the nodes of all have to pass.
            nodes = set(known.planned.values())
            hosts = [host for host in hosts if host.uuid in nodes]
        asked = gpu_requests(spec)
        wanted = devices.wanted(asked)
        hosts = self._enough(hosts, asked, wanted)
        if known.reservations and not known.planned:
            return self._spare(hosts, spec, asked, wanted,
                               known.reservations)
        return super().filter_all(hosts, spec)

    @staticmethod
    def _enough(hosts, asked, wanted):
        """Drop hosts that Nova would drop: it copies a host to see that."""
        for host in hosts:
            need = [request.count for request in asked]
            for pool in host.pci_stats.pools if host.pci_stats else ():
                for number in wanted(pool):
                    need[number] -= pool['count']
                if max(need) <= 0:
                    yield host
                    break
            else:
                LOG.debug('%s has not enough free devices', host)

    def _spare(self, hosts, spec, asked, wanted, reservations):
        """Yield the hosts that pass without what is next for others."""
        for host in hosts:
            kept = self._kept(reservations.get(host.uuid, ()))
            if not kept:
                if self._filter_one(host, spec):
                    yield host
            elif self._passes_beside(host, spec, asked, wanted, kept):
                yield host
            else:
                LOG.debug('%s: too few devices are free, or they are next '
                          'for waiting requests', host,
                          instance_uuid=spec.instance_uuid)

    def _passes_beside(self, host, spec, asked, wanted, kept):
        """Whether a host passes without the devices that are kept."""
        free = _free(host.pci_stats.pools, kept, devices.matcher())
        return (not self._must_take(host, asked, wanted, kept, free) and
                self._filter_one(host, spec) and
                self._spares(host, spec, kept, free))

    @staticmethod
    def _must_take(host, asked, wanted, kept, free):
        """Whether all that a request could use is next for others."""
        matches = devices.matcher()
        for number, request in enumerate(asked):
            usable = [matches(pool) for pool in host.pci_stats.pools
                      if number in wanted(pool)]
            for alias, count in kept.items():
                if all(alias in names for names in usable) and (
                        count is None or free[alias] - request.count < count):
                    return True
        return False

    @staticmethod
    def _kept(reservations):
        """{alias: number of devices that are kept, None for all}."""
        kept = {}
        for _request, alias, count in reservations:
            if count is None or kept.get(alias, 0) is None:
                kept[alias] = None
            else:
                kept[alias] = kept.get(alias, 0) + count
        return kept

    def _spares(self, host, spec, kept, before):
        """Keep the candidates that take no device that is next for others."""
        matches = devices.matcher()
        most = sum(request.count for request in spec.pci_requests.requests)
        if all(count is not None and before[alias] - most >= count
               for alias, count in kept.items()):
            # Whatever it takes, enough is left.
            return True

        def spares(candidate):
            # Of all that applying requests reads, it changes these only.
            stats = copy.copy(host.pci_stats)
            stats.pools = [dict(pool) for pool in stats.pools]
            # It was just tried, so it does not fail.
            stats.apply_requests(spec.pci_requests.requests,
                                 candidate['mappings'])
            after = _free(stats.pools, kept, matches)
            return all(
                after[alias] == free or (
                    kept[alias] is not None and after[alias] >= kept[alias])
                for alias, free in before.items())

        return bool(self.filter_candidates(host, spares))


def asks_for_gpu(spec):
    """Whether a request is for at least one device of a GPU alias.

    :param spec: a RequestSpec.
    """
    return bool(gpu_requests(spec))


def gpu_requests(spec):
    """The InstancePCIRequests of a RequestSpec that are for GPUs."""
    return [request for request in (
        spec.pci_requests.requests if spec.pci_requests else ())
        if is_gpu(request)]


def is_gpu(request):
    """Whether an InstancePCIRequest is for GPUs, by [gpu_lease] aliases."""
    return request.source == request.FLAVOR_ALIAS and (
        not CONF.gpu_lease.aliases or
        request.alias_name in CONF.gpu_lease.aliases)


def _free(pools, aliases, matches):
    """{alias: number of free devices that match it}."""
    free = dict.fromkeys(aliases, 0)
    for pool in pools:
        for alias in matches(pool):
            if alias in free:
                free[alias] += pool['count']
    return free
