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


"""The devices of compute nodes as pools that serve PCI aliases.

What is free comes from Nova's rows and from Placement, never from leases;
leases only say what was promised and not yet taken. Nova's pools in a
compute node's row hold free devices only, so the total is counted from the
devices themselves.
"""

import collections
import functools

from nova.compute import pci_placement_translator
import nova.conf
from nova import objects
from nova.objects import fields
from nova.pci import request as pci_request
from nova.pci import stats as pci_stats
from oslo_utils import uuidutils

CONF = nova.conf.CONF

_GONE = (fields.PciDeviceStatus.REMOVED, fields.PciDeviceStatus.DELETED)
_HELD = (fields.PciDeviceStatus.CLAIMED, fields.PciDeviceStatus.ALLOCATED)
#: What a device and a pool have in common.
_KEYS = ('vendor_id', 'product_id', 'numa_node', 'dev_type')


@functools.cache
def _aliases(_definitions):
    return {name: objects.InstancePCIRequest(
                alias_name=name, count=1, spec=specs,
                request_id=uuidutils.generate_uuid(),
                numa_policy=numa_policy)
            for name, (numa_policy, specs)
            in pci_request.get_alias_from_config().items()}


def aliases():
    """The PCI aliases of the configuration.

    :returns: {name: an InstancePCIRequest for one device}.
    """
    return _aliases(tuple(CONF.pci.alias))


def matching(pool, requests):
    """Which requests could use a device of a pool, Placement aside.

    :param pool: a pool as in PciDeviceStats.pools.
    :param requests: {name: InstancePCIRequest for one device}.
    :returns: frozenset of names.
    """
    stats = pci_stats.PciDeviceStats(None)
    stats.pools = [dict(pool, count=1)]
    return frozenset(
        name for name, request in requests.items()
        if stats.support_requests([request], provider_mapping=None))


class Matcher:
    """Which requests pools serve; what is alike is tried once.

    Nova has a pool for each device, so there are many that differ in nothing
    that a request can ask for.
    """

    #: What Nova looks at whether a request asks for it or not.
    ALWAYS = {'dev_type', 'live_migratable', 'remote_managed'}

    def __init__(self, requests):
        """:param requests: {name: InstancePCIRequest for one device}."""
        self.requests = requests
        self._asked = sorted(self.ALWAYS.union(
            *(one for request in requests.values() for one in request.spec)))
        self._known = {}

    def __call__(self, pool):
        """As matching(): a frozenset of names."""
        key = tuple(map(pool.get, self._asked))
        try:
            return self._known[key]
        except KeyError:
            found = self._known[key] = matching(pool, self.requests)
            return found
        except TypeError:
            # Some tag is a list.
            return matching(pool, self.requests)


def matcher():
    """The Matcher of aliases(); the same one until they change."""
    return _matcher(tuple(CONF.pci.alias))


@functools.lru_cache(maxsize=1)
def _matcher(definitions):
    return Matcher(_aliases(definitions))


def wanted(requests, others=None):
    """A Matcher of what one server asks for, each time for one device.

    :param requests: a list of InstancePCIRequests; their positions are the
        names that the Matcher gives.
    :param others: {name: InstancePCIRequest for one device} to look for, too.
    """
    ones = dict(others or {})
    for number, request in enumerate(requests):
        ones[number] = request.obj_clone()
        ones[number].count = 1
        # Where devices were allocated before, if they were.
        for spec in ones[number].spec:
            spec.pop('rp_uuids', None)
    return Matcher(ones)


def as_pool(device):
    """The pool that a device is in by itself.

    :param device: a PciDevice, used or not.
    :returns: a dict as in PciDeviceStats.pools. It lacks those tags of the
        host's [pci] device_spec that Nova stores nowhere; no alias can ask
        for these.
    """
    pool = {key: getattr(device, key) for key in _KEYS}
    pool['address'] = device.parent_addr or device.address
    pool['count'] = 1
    for tag in ('live_migratable', 'parent_ifname'):
        if tag in device.extra_info:
            pool[tag] = device.extra_info[tag]
    if 'rp_uuid' in device.extra_info:
        pool['rp_uuid'] = device.extra_info['rp_uuid']
    return pool


class NodeDevices:
    """The devices of one compute node.

    :ivar holders: set of the uuids of the servers that have one.
    :ivar everything: list of pools with all devices, used ones too.
    :ivar claimed: number of devices that Nova has free and Placement has
        not, as of the last call of pools(), from which held() is, too.
    """

    def __init__(self, compute, devices, tree):
        """Read what is there.

        :param compute: a ComputeNode.
        :param devices: its PciDevices.
        :param tree: its room.Tree, or None when Placement knows none.
        """
        devices = [device for device in devices
                   if device.status not in _GONE]
        self._owners = [device.instance_uuid if device.status in _HELD
                        else None for device in devices]
        self.holders = {device.instance_uuid for device in devices
                        if device.status in _HELD}
        self.everything = [as_pool(device) for device in devices]
        self._free = self._free_by_nova(compute, devices)
        self._tree = tree
        self.claimed = 0
        self._pools = []
        self._held = collections.Counter()

    @staticmethod
    def _free_by_nova(compute, devices):
        """For each device, whether its row and the node's pools say free."""
        left = collections.Counter()
        for pool in compute.pci_device_pools or ():
            entry = pool.to_dict()
            key = tuple(entry.get(name) for name in _KEYS)
            left[key + (entry.get('address'),)] += pool.count
        result = []
        for device in devices:
            key = tuple(getattr(device, name) for name in _KEYS)
            # Computes older than the split by address have one pool.
            found = next(
                (full for full in (
                    key + (device.parent_addr or device.address,),
                    key + (None,)) if left[full] > 0), None)
            free = found is not None and (
                device.status == fields.PciDeviceStatus.AVAILABLE)
            if free:
                left[found] -= 1
            result.append(free)
        return result

    def pools(self, promised):
        """Devices by the aliases that they serve.

        :param promised: [[request uuid, alias, number of devices]] that
            servers will take and have not taken yet.
        :returns: a list of {'key', 'free', 'total', 'aliases'}; devices that
            no alias matches are left out.
        """
        requests = aliases()
        matches = matcher()
        left = {}
        pools = {}
        self.claimed = 0
        self._held.clear()
        for entry, free, owner in zip(
                self.everything, self._free, self._owners):
            names = self._names(entry, requests, matches)
            if not names:
                continue
            pool = pools.setdefault(names, {
                'key': ','.join(sorted(names)), 'free': 0, 'total': 0,
                'aliases': sorted(names)})
            pool['total'] += 1
            if owner:
                self._held[owner, pool['key']] += 1
            if free and self._placement_has(entry, left):
                pool['free'] += 1
            elif free:
                self.claimed += 1
        result = sorted(pools.values(),
                        key=lambda pool: (len(pool['aliases']), pool['key']))
        for _request, alias, count in promised:
            for pool in result:
                if alias in pool['aliases']:
                    taken = min(count, pool['free'])
                    pool['free'] -= taken
                    count -= taken
        self._pools = result
        return result

    def held(self, coming):
        """Which servers have the devices that are not free.

        As of the last call of pools().

        :param coming: [(server uuid, alias, number of devices)] of servers
            being built that have not taken theirs yet.
        :returns: a list of [server uuid, key of a pool, number of devices].
        """
        held = collections.Counter(self._held)
        taken = collections.Counter()
        for (_server, key), number in held.items():
            taken[key] += number
        for server, alias, count in coming:
            for pool in self._pools:
                if alias in pool['aliases']:
                    number = min(count, pool['total'] - pool['free'] -
                                 taken[pool['key']])
                    if number > 0:
                        held[server, pool['key']] += number
                        taken[pool['key']] += number
                        count -= number
        return [[server, key, number]
                for (server, key), number in sorted(held.items())]

    def _names(self, entry, requests, matches):
        """The aliases that a device serves."""
        if not CONF.filter_scheduler.pci_in_placement:
            return matches(entry)
        provider = self._provider(entry)
        if provider is None:
            return frozenset()
        return frozenset(name for name in matches(entry)
                         if self._serves(provider, requests[name].spec[0]))

    def _provider(self, entry):
        return self._tree and self._tree.providers.get(entry.get('rp_uuid'))

    @staticmethod
    def _serves(provider, spec):
        wanted = pci_placement_translator.get_resource_class(
            spec.get('resource_class'), spec.get('vendor_id'),
            spec.get('product_id'))
        return wanted in provider.resources and (
            pci_placement_translator.get_traits(spec.get('traits', ''))
            <= provider.traits)

    def _placement_has(self, entry, left):
        """Take one device of a provider, if Placement has one left.

        :param left: {provider uuid: number of devices}, kept between calls.
        """
        if not CONF.filter_scheduler.pci_in_placement:
            return True
        uuid = entry['rp_uuid']
        if uuid not in left:
            # The provider of a device has one class of resources.
            left[uuid] = max((capacity - used for capacity, used in
                              self._provider(entry).resources.values()),
                             default=0)
        left[uuid] -= 1
        return left[uuid] >= 0
