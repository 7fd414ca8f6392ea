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


"""Which devices of one host a server gets: those that share the most.

Two GPUs that NVLink joins talk many times faster than over PCI Express, and
two on one NUMA node share a root complex and the memory next to it, so two
devices are ``UNLINKED`` apart when they are in no common NVLink group, and
``FOREIGN`` more on different NUMA nodes; the cost of a set is the sum over
its pairs, as for hosts in :mod:`nova_gpu_lease.planner.topology`. Of sets
that cost the same that one is taken which leaves the fewest devices in the
groups and NUMA nodes that it touches (best fit), so that others stay whole
for those who need several.
"""

import collections
import itertools

UNLINKED = 2
FOREIGN = 1

#: With more ways to share k devices among what is alike, they are added one
#: by one, each where it costs least.
MAX_WAYS = 20000


#: The tag of [pci] device_spec that names the NVLink group of devices.
TAG = 'nvlink_group'
#: What devices of one model may differ in.
_OWN = frozenset(['address', 'count', 'devices', 'numa_node', 'parent_ifname',
                  'rp_uuid', TAG])


def kind(pool, described):
    """The NUMA node and the NVLink group of the devices of a pool.

    :param pool: a dict as in Nova's PciDeviceStats.pools.
    :param described: {PCI address: Device} of the host, from the topology
        file; what is not said there comes from Nova.
    """
    device = described.get(pool.get('address'))
    numa_node, group = pool.get('numa_node'), pool.get(TAG)
    if device is not None:
        if device.numa_node is not None:
            numa_node = device.numa_node
        group = device.nvlink_group or group
    return numa_node, group


def prefer(pools, count, described):
    """Pools in the order in which to take devices from them.

    As many devices of each model are at the front as were there before: which
    models a server takes was compared with what others wait for.

    :param pools: a list of pools as in Nova's PciDeviceStats.pools.
    :param count: how many devices are taken from the front.
    :param described: as for kind().
    """
    models = {}
    wanted = collections.Counter()
    for index, pool in enumerate(pools):
        model = frozenset((name, str(value)) for name, value in pool.items()
                          if name not in _OWN)
        models.setdefault(model, []).extend(
            [(index, kind(pool, described))] * pool['count'])
        taken = min(count, pool['count'])
        wanted[model] += taken
        count -= taken
    chosen = collections.Counter(
        index for model, devices in models.items()
        for index in choose(devices, wanted[model]))
    return [pools[index] for index in sorted(
        range(len(pools)), key=lambda index: -chosen[index])]


def cost(kinds):
    """The sum over all pairs of devices.

    :param kinds: a list of (NUMA node, NVLink group), one for each device;
        None is unknown, and no group.
    """
    total = 0
    for one, other in itertools.combinations(kinds, 2):
        total += (UNLINKED * (one[1] is None or one[1] != other[1]) +
                  FOREIGN * (one[0] != other[0]))
    return total


def left_over(kinds, free):
    """How many free devices stay in what a set of devices touches.

    :param kinds: those of the set.
    :param free: a Counter of the kinds of all free devices, the set included.
    """
    return _left(collections.Counter(kinds), free)


def _left(taken, free):
    left = 0
    for index in (0, 1):
        names = {kind[index] for kind in taken} - {None}
        left += sum(number - taken.get(kind, 0)
                    for kind, number in free.items() if kind[index] in names)
    return left


def choose(devices, count):
    """The devices for one server.

    :param devices: a list of (key, (NUMA node, NVLink group)) of those that
        are free, in the order in which they are taken if all are alike.
    :param count: how many; at most as many as there are.
    :returns: a list of keys in the order of ``devices``.
    """
    free = collections.Counter(kind for _key, kind in devices)
    if len(free) > 1 and count < len(devices):
        taken = _share(free, count)
    else:
        taken = collections.Counter(free)
    chosen = []
    for key, kind in devices:
        if taken[kind] and len(chosen) < count:
            taken[kind] -= 1
            chosen.append(key)
    return chosen


def _share(free, count):
    """How many devices of each kind are the best; {kind: number}."""
    ways = 1
    for number in free.values():
        ways *= min(number, count) + 1
    kinds = list(free)
    if ways > MAX_WAYS:
        return min((_grow(free, count, kind) for kind in kinds),
                   key=lambda taken: _rank(taken, free))
    best = None
    for numbers in _ways([free[kind] for kind in kinds], count):
        taken = collections.Counter({
            kind: number for kind, number in zip(kinds, numbers) if number})
        rank = _rank(taken, free)
        if best is None or rank < best[0]:
            best = rank, taken
    return best[1]


def _ways(limits, count):
    """All ways to write a count as a sum of numbers up to these limits."""
    if not limits:
        if not count:
            yield ()
        return
    for number in range(min(limits[0], count), -1, -1):
        for rest in _ways(limits[1:], count - number):
            yield (number, *rest)


def _grow(free, count, kind):
    """Begin with one device of a kind and add what costs least."""
    taken = collections.Counter()
    for _ in range(count):
        taken[kind] += 1
        kind = min((other for other in free if taken[other] < free[other]),
                   key=lambda other: _added(taken, other), default=None)
    return taken


def _added(taken, kind):
    """What one more device of a kind costs."""
    return sum(number * cost([kind, other])
               for other, number in taken.items())


def _rank(taken, free):
    """(cost, devices left over) of {kind: number}; the least is the best."""
    pairs = sum(number * taken[other] * cost([kind, other])
                for (kind, number), other in itertools.product(
                    taken.items(), taken) if kind != other)
    same = sum(number * (number - 1) * cost([kind, kind])
               for kind, number in taken.items())
    return (pairs + same) / 2, _left(taken, free)
