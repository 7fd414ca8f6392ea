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


"""Where hosts are in the network, by the topology file or by aggregates."""

from oslo_log import log as logging

from nova_gpu_lease.planner import topology_file
from nova_gpu_lease import topology_watch

LOG = logging.getLogger(__name__)

#: The key of an aggregate's metadata; its value is like site1/switch2/rack3.
KEY = 'gpu_lease:place'

_UNKNOWN = topology_file.Place()


class Places:
    """Knows the places of hosts, and says once what is wrong with them."""

    def __init__(self):
        # A mistake is in the log when the service starts.
        topology_watch.current()
        self._said = set()

    def find(self, aggregates):
        """The places of all hosts.

        The file decides if it has a network; places of both are not mixed,
        for nobody could say how far they are from each other.

        :param aggregates: all host aggregates.
        :returns: a function of a host that returns its Place.
        """
        places = topology_watch.current().places
        if not places:
            places, problems = from_aggregates(aggregates)
            for problem in problems:
                if problem not in self._said:
                    LOG.warning('%s', problem)
            self._said = set(problems)
        return lambda host: places.get(host, _UNKNOWN)


def from_aggregates(aggregates):
    """The places that the metadata of aggregates gives to their hosts.

    A host may be in several aggregates with a place, if each of these is on
    the way to the next one: the longest counts.

    :param aggregates: objects with ``name``, ``hosts`` and ``metadata``.
    :returns: a tuple of {host: Place} and a list of what is wrong, for the
        operator; a host whose place is contradictory has none.
    """
    found, problems = {}, []
    for aggregate in sorted(aggregates, key=lambda item: item.name):
        text = aggregate.metadata.get(KEY)
        if text is None:
            continue
        try:
            path = topology_file.place(text)
        except ValueError as exc:
            problems.append('Aggregate %s, metadata %s: %s' % (
                aggregate.name, KEY, exc))
            continue
        for host in aggregate.hosts:
            found.setdefault(host, []).append((path, aggregate.name))
    places = {}
    for host, given in sorted(found.items()):
        longest, name = max(given, key=lambda item: len(item[0]))
        others = [(path, other) for path, other in given
                  if longest[:len(path)] != path]
        if others:
            problems.append(
                'Host %s has two places: %s from aggregate %s and %s from '
                'aggregate %s. Its place is taken as unknown; change the '
                'metadata %s of one of them, or take the host out of it.' % (
                    host, '/'.join(longest), name, '/'.join(others[0][0]),
                    others[0][1], KEY))
        else:
            places[host] = topology_file.Place(longest, (1,) * len(longest))
    return places, problems


def contradictions(topology, aggregates, hosts, with_devices):
    """What an operator should know about a file that is valid by itself.

    :param topology: a Topology.
    :param aggregates: all host aggregates.
    :param hosts: names of all hosts.
    :param with_devices: names of those that are known to have GPUs.
    :returns: a list of messages.
    """
    problems = []
    if not topology.places:
        problems.extend(from_aggregates(aggregates)[1])
        named = set(topology.devices)
    else:
        named = set(topology.places) | set(topology.devices)
        places, _ = from_aggregates(aggregates)
        for host in sorted(places.keys() & topology.places.keys()):
            paths = places[host].path, topology.places[host].path
            if paths[0] != paths[1][:len(paths[0])]:
                problems.append(
                    'Host %s is at %s in the topology file, which counts, and '
                    'at %s by the metadata %s of its aggregates; change or '
                    'remove the latter.' % (
                        host, '/'.join(paths[1]), '/'.join(paths[0]), KEY))
        missing = sorted(set(with_devices) - set(topology.places))
        if missing:
            problems.append(
                'Not in the network of the topology file, so taken as far '
                'from all others: %s.' % _some(missing))
    unknown = sorted(named - set(hosts))
    if unknown:
        problems.append(
            'In the topology file, but no compute host of Nova has such a '
            'name: %s. "openstack compute service list" shows the names.'
            % _some(unknown))
    return problems


def _some(names, limit=10):
    """The first of many names."""
    return ', '.join(names[:limit]) + (
        ' and %d more' % (len(names) - limit) if len(names) > limit else '')
