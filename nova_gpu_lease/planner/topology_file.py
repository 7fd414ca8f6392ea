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


"""The topology file: what it may say, and which line of it is wrong.

Text in, :class:`Topology` out; the file itself is read by
:mod:`nova_gpu_lease.topology_file`. The guide "Topology" describes the format
for operators.
"""

import dataclasses
import re

import yaml

from nova_gpu_lease import exception
from nova_gpu_lease.planner import topology
from nova_gpu_lease.planner import yaml_nodes

#: More levels than this are a mistake (or a YAML alias within itself).
MAX_LEVELS = 16
MAX_RATIO = 1000

_NAME = re.compile(r'[^\s/,]{1,255}\Z')
_ADDRESS = re.compile(r'([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z',
                      re.IGNORECASE)
_RATIO = re.compile(r'(\d+(?:\.\d+)?)(?::1)?\Z')
_NUMBER = re.compile(r'\d{1,4}\Z')
_NAMES = 'names without blanks, "/" and "," are accepted'


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a host is.

    :ivar path: tuple of names from the root down.
    :ivar steps: cost of the link above each of them.
    """

    path: tuple = ()
    steps: tuple = ()


@dataclasses.dataclass(frozen=True)
class Device:
    """What a device of a host shares with others; None is not said."""

    numa_node: int | None = None
    nvlink_group: str | None = None


@dataclasses.dataclass(frozen=True)
class Topology:
    """What a file says.

    :ivar places: {host: Place}.
    :ivar devices: {host: {PCI address: Device}}.
    """

    places: dict = dataclasses.field(default_factory=dict)
    devices: dict = dataclasses.field(default_factory=dict)


def parse(text, name='topology file'):
    """Read the text of a topology file.

    :param text: YAML.
    :param name: of the file, for messages.
    :returns: a Topology.
    :raises: exception.InvalidTopology with a line for each mistake: file,
        line, what was given, what is accepted.
    """
    try:
        root = yaml.compose(text, Loader=getattr(
            yaml, 'CSafeLoader', yaml.SafeLoader))
    except yaml.YAMLError as exc:
        mark = getattr(exc, 'problem_mark', None)
        raise exception.InvalidTopology(problems='%s%s: not YAML: %s.' % (
            name, ', line %d' % (mark.line + 1) if mark else '',
            getattr(exc, 'problem', None) or exc))
    reader = _Reader(name)
    try:
        if root is None:
            reader.problems.append('%s: it is empty; "network" or "devices" '
                                   'is needed.' % name)
        else:
            reader.document(root)
    except yaml_nodes.TooMany:
        reader.problems.append('%s: and more.' % name)
    if reader.problems:
        raise exception.InvalidTopology(problems='\n'.join(reader.problems))
    return Topology(reader.places, reader.devices)


def place(text):
    """The path in the metadata of an aggregate: ``site1/switch2/rack3``.

    :returns: a tuple of names.
    :raises: ValueError that says what is accepted.
    """
    path = tuple(text.strip().strip('/').split('/'))
    if len(path) > MAX_LEVELS or not all(map(_NAME.match, path)):
        raise ValueError(
            '"%s" is not a place; up to %d names separated by "/" are, from '
            'the root of the network down, without blanks and ",", such as '
            'site1/switch2/rack3.' % (text, MAX_LEVELS))
    return path


class _Reader(yaml_nodes.Reader):
    """Turns YAML nodes into places and devices."""

    def __init__(self, name):
        super().__init__(name)
        self.places = {}
        self.devices = {}
        #: {host: line} of the first time that it is named.
        self._lines = {}
        #: [(name, ratio)] of levels, or None where none are named.
        self._levels = None

    def document(self, root):
        top = self.mapping(root, 'the file', ('levels', 'network', 'devices'))
        if not {'network', 'devices'} & top.keys():
            self.fail(root, '"network" or "devices" is needed.')
        if 'levels' in top:
            self.levels(top['levels'])
        if 'network' in top:
            for child, node in self.mapping(
                    top['network'], 'network', None, _NAME, _NAMES).items():
                self.branch(node, (child,))
        if 'devices' in top:
            for node in self.sequence(top['devices'], 'devices'):
                self.machine(node, 'network' in top)

    def levels(self, node):
        """Read the names of the levels and their ratios."""
        found = []
        for entry in self.sequence(node, 'levels'):
            keys = self.mapping(entry, 'a level', ('name', 'ratio'))
            ratio = 1
            if 'name' not in keys:
                self.fail(entry, 'a level needs a "name".')
            if 'ratio' in keys:
                ratio = self.ratio(keys['ratio'])
            found.append((self.text(keys['name'], 'name', _NAME, _NAMES)
                          if 'name' in keys else '?', ratio))
        if found:
            self._levels = found

    def ratio(self, node):
        match = isinstance(node, yaml.ScalarNode) and _RATIO.match(node.value)
        value = float(match.group(1)) if match else 0
        if not 1 <= value <= MAX_RATIO:
            self.fail(node, 'ratio: %s is not accepted; how many times more '
                      'bandwidth comes from below than goes up is: a number '
                      'of 1 to %d, such as 2 or 2:1.' % (
                          yaml_nodes.shown(node), MAX_RATIO))
            return 1
        return int(value) if value == int(value) else value

    def branch(self, node, path):
        """Read what is below a place: a list of hosts, or places."""
        if len(path) > MAX_LEVELS:
            self.fail(node, 'more than %d levels.' % MAX_LEVELS)
        elif isinstance(node, yaml.MappingNode):
            for child, below in self.mapping(
                    node, '/'.join(path), None, _NAME, _NAMES).items():
                self.branch(below, path + (child,))
        elif isinstance(node, yaml.SequenceNode):
            self.hosts(node, path)
        else:
            self.fail(node, '%s: %s is not accepted; a list of hosts or a '
                      'mapping of what is below is.' % (
                          '/'.join(path), yaml_nodes.shown(node)))

    def hosts(self, node, path):
        if self._levels and len(path) != len(self._levels):
            self.fail(node, '%s has hosts in level %d; "levels" says that '
                      'they are in level %d: below %s.' % (
                          '/'.join(path), len(path), len(self._levels),
                          '/'.join(name for name, _ in self._levels)))
        steps = topology.link_costs(
            [ratio for _name, ratio in self._levels or ()][:len(path)] or
            [1] * len(path))
        for entry in node.value:
            host = self.text(entry, '/'.join(path), _NAME, _NAMES)
            if host is None:
                continue
            if host in self.places:
                self.fail(entry, 'host "%s" is below %s; line %d has it '
                          'below %s already, and a host has one place.' % (
                              host, '/'.join(path), self._lines[host],
                              '/'.join(self.places[host].path)))
                continue
            self.places[host] = Place(path, steps)
            self._lines[host] = entry.start_mark.line + 1

    def machine(self, node, placed):
        """Read the devices of hosts that are built alike.

        :param placed: whether hosts have to be in the network as well.
        """
        keys = self.mapping(node, 'an entry of devices',
                            ('hosts', 'numa_nodes', 'nvlink_groups'))
        if 'hosts' not in keys:
            self.fail(node, 'an entry of devices needs "hosts".')
            return
        numa = self.shared(keys.get('numa_nodes'), 'numa_nodes', _NUMBER,
                           'a number is')
        nvlink = self.shared(keys.get('nvlink_groups'), 'nvlink_groups',
                             _NAME, _NAMES)
        devices = {
            address: Device(int(numa[address]) if address in numa else None,
                            nvlink.get(address))
            for address in sorted({*numa, *nvlink})}
        for entry in self.sequence(keys['hosts'], 'hosts'):
            host = self.text(entry, 'hosts', _NAME, _NAMES)
            if host in self.devices:
                self.fail(entry, 'the devices of host "%s" are given twice.'
                          % host)
            elif host and placed and host not in self.places:
                self.fail(entry, 'host "%s" is not in "network"; its devices '
                          'are given, so its place is needed.' % host)
            elif host:
                self.devices[host] = devices

    def shared(self, node, what, pattern, accepted):
        """{PCI address: name of the NUMA node or NVLink group}."""
        found = {}
        for name, listed in (
                self.mapping(node, what, None, pattern, accepted).items()
                if node is not None else ()):
            for entry in self.sequence(listed, '%s: %s' % (what, name)):
                address = self.text(
                    entry, what, _ADDRESS, 'a PCI address is, such as '
                    '"0000:17:00.0"')
                if address is None:
                    continue
                address = address.lower()
                if address.count(':') == 1:
                    address = '0000:' + address
                if address in found:
                    self.fail(entry, '%s: %s is in "%s" already.' % (
                        what, address, found[address]))
                found.setdefault(address, name)
        return found
