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

"""Reading a layout file, and saying where a mistake in it is."""

import re

import yaml

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import layout

_NAME = re.compile(r'^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$', re.IGNORECASE)
_MODEL = re.compile(r'^[a-z0-9][a-z0-9_.-]{0,39}$', re.IGNORECASE)


def load(path):
    """Read a layout file.

    :param path: a YAML file, see doc/devcloud.rst for its keys
    :returns: a ``layout.Layout``
    :raises: LayoutError that names the line, the key and what is accepted
    """
    try:
        with open(path, encoding='utf-8') as stream:
            return parse(stream.read(), name=str(path))
    except OSError as exc:
        raise exceptions.LayoutError(
            f'Cannot read layout {path}: {exc.strerror}.') from exc
    except UnicodeDecodeError as exc:
        raise exceptions.LayoutError(
            f'Layout {path} is not UTF-8 text.') from exc


def parse(text, name='layout'):
    """Parse the text of a layout file; see ``load``."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, 'problem_mark', None)
        line = f', line {mark.line + 1}' if mark else ''
        problem = getattr(exc, 'problem', None) or exc
        raise exceptions.LayoutError(
            f'{name}{line}: not valid YAML: {problem}.') from exc
    if root is None:
        raise exceptions.LayoutError(
            f'{name} is empty; a mapping with the key "hosts" is needed.')
    return _Reader(name).document(root)


class _Reader:
    """Turns YAML nodes into a layout and says where a mistake is."""

    HOST_KEYS = ('name', 'zone', 'vcpus', 'memory_mb', 'disk_gb', 'gpus')
    GPU_KEYS = ('model', 'count', 'numa_node', 'nvlink_group')

    def __init__(self, name):
        self.name = name

    def fail(self, node, key, problem):
        """Raise the error about a key at a node."""
        raise exceptions.LayoutError(
            f'{self.name}, line {node.start_mark.line + 1}: '
            f'{key}: {problem}')

    def document(self, root):
        """Read the whole document."""
        top = self.mapping(root, 'layout', ('hosts',))
        if 'hosts' not in top:
            self.fail(root, 'hosts', 'missing; a list of hosts is needed.')
        nodes = self.sequence(top['hosts'], 'hosts')
        if not nodes:
            self.fail(top['hosts'], 'hosts', 'at least one host is needed.')
        hosts, groups_of_hosts, seen = [], [], set()
        for index, node in enumerate(nodes):
            host, groups = self.host(node, f'hosts[{index}]')
            if host['name'] in seen:
                self.fail(node, f'hosts[{index}].name',
                          f'"{host["name"]}" is used twice; host names are '
                          'unique.')
            seen.add(host['name'])
            hosts.append(host)
            groups_of_hosts.append(groups)
        products = layout.product_ids(groups_of_hosts)
        return layout.Layout(hosts=tuple(
            layout.Host(**host, gpus=layout.lay_out(groups, products))
            for host, groups in zip(hosts, groups_of_hosts)))

    def host(self, node, where):
        """Read one host: its own keys, and its groups of GPUs."""
        keys = self.mapping(node, where, self.HOST_KEYS)
        if 'name' not in keys:
            self.fail(node, f'{where}.name', 'missing; a host name is needed.')
        host = {'name': self.text(keys['name'], f'{where}.name', _NAME)}
        if 'zone' in keys:
            host['zone'] = self.text(keys['zone'], f'{where}.zone', _NAME)
        for key in ('vcpus', 'memory_mb', 'disk_gb'):
            if key in keys:
                host[key] = self.integer(keys[key], f'{where}.{key}', 1)
        groups = []
        if 'gpus' in keys:
            for index, gpu in enumerate(
                    self.sequence(keys['gpus'], f'{where}.gpus')):
                groups.append(self.group(gpu, f'{where}.gpus[{index}]'))
        if sum(group[1] for group in groups) > layout.MAX_GPUS:
            self.fail(node, f'{where}.gpus',
                      f'more than {layout.MAX_GPUS} GPUs on one host.')
        return host, groups

    def group(self, node, where):
        """Read one group of equal GPUs of a host."""
        keys = self.mapping(node, where, self.GPU_KEYS)
        model = layout.DEFAULT_MODEL
        if 'model' in keys:
            model = self.text(keys['model'], f'{where}.model', _MODEL)
        count, numa_node, nvlink_group = 1, None, None
        if 'count' in keys:
            count = self.integer(keys['count'], f'{where}.count', 1)
        if 'numa_node' in keys:
            numa_node = self.integer(
                keys['numa_node'], f'{where}.numa_node', 0)
        if 'nvlink_group' in keys:
            nvlink_group = self.text(
                keys['nvlink_group'], f'{where}.nvlink_group', _MODEL)
        return model, count, numa_node, nvlink_group

    def mapping(self, node, where, accepted):
        """Return the nodes of a mapping by key, all of them accepted ones."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, where, 'a mapping is needed, with the keys '
                      + ', '.join(accepted) + '.')
        keys = {}
        for key, value in node.value:
            if key.value not in accepted:
                self.fail(key, f'{where}.{key.value}', 'unknown key; '
                          'accepted: ' + ', '.join(accepted) + '.')
            if key.value in keys:
                self.fail(key, f'{where}.{key.value}', 'given twice.')
            keys[key.value] = value
        return keys

    def sequence(self, node, where):
        """Return the nodes of a list."""
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, where, 'a list is needed.')
        return node.value

    def text(self, node, where, pattern):
        """Return a scalar as text that matches the pattern."""
        if (not isinstance(node, yaml.ScalarNode) or
                not pattern.match(str(node.value))):
            value = getattr(node, 'value', None)
            shown = f'"{value}"' if isinstance(value, str) else 'this'
            self.fail(node, where, f'{shown} is not accepted; letters, '
                      'digits, "-" and "." are, beginning with a letter or '
                      'digit.')
        return node.value

    def integer(self, node, where, minimum):
        """Return a scalar as an integer of at least the minimum."""
        if (isinstance(node, yaml.ScalarNode) and
                re.match(r'^\d{1,9}$', node.value) and
                int(node.value) >= minimum):
            return int(node.value)
        value = getattr(node, 'value', None)
        shown = f'"{value}"' if isinstance(value, str) else 'this'
        self.fail(node, where, f'{shown} is not accepted; an integer of at '
                  f'least {minimum} is.')
