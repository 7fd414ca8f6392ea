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

"""The desired state of a host: a YAML file, checked with line numbers.

What the keys mean is told in the operator's guide; what is accepted, here.
"""

import dataclasses
import re

import yaml

from gpu_host_prep import exceptions
from gpu_host_prep import lists
from gpu_host_prep import model

DEFAULT = '/etc/gpu-host-prep/state.yaml'

_SIZES = {'2M': 2048, '1G': 1048576, '512M': 524288, '64K': 64, '32M': 32768,
          '16G': 16777216}
_NAME = re.compile(r'[A-Za-z0-9_-]+$')
_DRIVER = re.compile(r'(pci-stub|[a-z0-9_-]*vfio[a-z0-9_-]*)$')
_ID = re.compile(r'[0-9a-f]{4}:[0-9a-f]{4}$')


@dataclasses.dataclass(frozen=True)
class Choice:
    """One entry of ``cards`` or ``keep``."""

    line: int
    address: str | None = None
    id: str | None = None
    model: str | None = None
    exclude: tuple[str, ...] = ()
    count: int | None = None
    driver: str | None = None           # None: the one that fits
    functions: tuple[str, ...] | str = 'all'

    def __str__(self):
        for name in ('address', 'id', 'model'):
            if getattr(self, name) is not None:
                return f'{name} {getattr(self, name)}'
        return 'all GPUs'


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """A deviation that is known and lived with."""

    code: str
    address: str | None
    reason: str


@dataclasses.dataclass(frozen=True)
class State:
    """A whole file. None means that the tool chooses."""

    cards: tuple[Choice, ...]
    keep: tuple[Choice, ...] = ()
    kernel_arguments: tuple[str, ...] | None = None
    modules: tuple[str, ...] = ()
    blacklist: tuple[str, ...] | None = None
    hugepages: tuple[int, int] | None = None    # size in KiB, number
    isolated_cpus: tuple[int, ...] = ()
    unsafe_interrupts: bool = False
    boot_vga: str = 'refuse'
    initramfs: str = 'auto'
    bootloader: str = 'auto'
    accept: tuple[Acceptance, ...] = ()
    nova: dict = dataclasses.field(default_factory=dict)


def load(text, name):
    """Read a state file.

    :param text: its content
    :param name: what messages call it
    :returns: a :class:`State`
    :raises: BadInput with the line, what is there and what is accepted
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        line = f'{name}:{mark.line + 1}' if mark else name
        problem = getattr(error, 'problem', None) or str(error)
        raise exceptions.BadInput(
            f'{line}: this is not YAML: {problem}.') from error
    if node is None:
        raise exceptions.BadInput(
            f'{name}: the file is empty; it needs at least "cards".')
    return _Reader(name).state(node)


class _Reader:
    """Turns nodes of YAML, which know their lines, into values."""

    def __init__(self, name):
        self.name = name

    def fail(self, node, text):
        line = node if isinstance(node, int) else node.start_mark.line + 1
        raise exceptions.BadInput(f'{self.name}:{line}: {text}')

    def state(self, node):
        known = {
            'version': self._version, 'cards': self._choices,
            'keep': self._kept, 'kernel_arguments': self._words,
            'modules': self._modules, 'blacklist': self._modules,
            'hugepages': self._hugepages, 'isolated_cpus': self._cpus,
            'unsafe_interrupts': self._boolean,
            'boot_vga': self._one_of('refuse', 'pass'),
            'initramfs': self._one_of('auto', 'initramfs-tools', 'dracut',
                                      'none'),
            'bootloader': self._one_of('auto', 'grub', 'systemd-boot',
                                       'none'),
            'accept': self._acceptances, 'nova': self._nova}
        values = self.mapping(node, known, 'the file')
        values.pop('version', None)
        if not values.get('cards'):
            self.fail(node, 'the file has no "cards"; name at least one, by '
                      'address, id or model.')
        return State(**values)

    def mapping(self, node, known, where):
        """Read a mapping whose keys are known.

        :param known: dict of key to what reads its value
        """
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f'{where} is {_kind(node)}; a mapping is '
                      f'accepted, with the keys {", ".join(known)}.')
        values = {}
        for key, value in node.value:
            if key.value not in known:
                self.fail(key, f'{key.value!r} is not a key of {where}; '
                          f'accepted are {", ".join(known)}.')
            if key.value in values:
                self.fail(key, f'{key.value!r} is there twice.')
            values[key.value] = known[key.value](value)
        return values

    def sequence(self, node, read, what):
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, f'this is {_kind(node)}; a list of {what} is '
                      'accepted.')
        return tuple(read(each) for each in node.value)

    def scalar(self, node, what):
        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, f'this is {_kind(node)}; {what} is accepted.')
        return node.value

    def _matching(self, pattern, what):
        def read(node):
            value = self.scalar(node, what)
            if not pattern.match(value):
                self.fail(node, f'{value!r} is not {what}.')
            return value
        return read

    def _one_of(self, *accepted):
        def read(node):
            value = self.scalar(node, ' or '.join(accepted))
            if value not in accepted:
                self.fail(node, f'{value!r} is not accepted; '
                          f'{" or ".join(accepted)} is.')
            return value
        return read

    def _boolean(self, node):
        return self._one_of('true', 'false')(node) == 'true'

    def _integer(self, low, what):
        def read(node):
            value = self.scalar(node, what)
            if not re.fullmatch(r'\d+', value) or int(value) < low:
                self.fail(node, f'{value!r} is not {what}.')
            return int(value)
        return read

    def _version(self, node):
        return self._one_of('1')(node)

    def _words(self, node):
        word = self._matching(re.compile(r'[^\s"\'$`\\]+$'),
                              'a kernel argument without blanks and quotes')
        return self.sequence(node, word, 'kernel arguments')

    def _modules(self, node):
        read = self._matching(_NAME, 'a name of a kernel module')
        return tuple(name.replace('-', '_') for name in self.sequence(
            node, read, 'kernel modules'))

    def _address(self, node):
        what = ('a PCI address such as "0000:01:00.0" (in quotes, with the '
                'domain)')
        return self._matching(model.ADDRESS, what)(node)

    def _functions(self, node):
        if isinstance(node, yaml.ScalarNode):
            return self._one_of('all', 'group')(node)
        return self.sequence(node, self._one_of(*model.KINDS),
                             'kinds of functions')

    def _choices(self, node):
        return self.sequence(node, lambda each: self._choice(each, {
            'count': self._integer(1, 'a number of cards, at least 1'),
            'driver': self._matching(
                _DRIVER, 'a driver that holds devices for guests (vfio-pci, '
                'pci-stub or a vfio driver of the vendor)'),
            'functions': self._functions}), 'cards')

    def _kept(self, node):
        return self.sequence(node, lambda each: self._choice(each, {}),
                             'cards')

    def _choice(self, node, more):
        values = self.mapping(node, {
            'address': self._address,
            'id': self._matching(_ID, 'vendor and product id such as '
                                 '"10de:1f02", in small letters and quotes'),
            'model': lambda each: self.scalar(each, 'a part of a name'),
            'except': lambda each: self.sequence(each, self._address,
                                                 'PCI addresses'),
            **more}, 'a card')
        named = [key for key in ('address', 'id', 'model') if key in values]
        if len(named) != 1:
            self.fail(node, 'a card is named by one of "address", "id" and '
                      f'"model"; this one has {" and ".join(named) or "none"}'
                      '.')
        if 'except' in values:
            values['exclude'] = values.pop('except')
        return Choice(line=node.start_mark.line + 1, **values)

    def _hugepages(self, node):
        values = self.mapping(node, {
            'size': self._one_of(*_SIZES),
            'count': self._integer(1, 'a number of pages, at least 1')},
            '"hugepages"')
        if len(values) != 2:
            self.fail(node, '"hugepages" needs "size" and "count".')
        return _SIZES[values['size']], values['count']

    def _cpus(self, node):
        what = 'a list of CPUs such as "4-31,36-63"'
        value = self.scalar(node, what)
        try:
            return lists.parse(value)
        except ValueError:
            self.fail(node, f'{value!r} is not {what}.')

    def _acceptances(self, node):
        def read(each):
            values = self.mapping(each, {
                'code': lambda node: self.scalar(node, 'a code'),
                'address': self._address,
                'reason': lambda node: self.scalar(node, 'a reason')},
                'an accepted deviation')
            if 'code' not in values or not values.get('reason'):
                self.fail(each, 'an accepted deviation needs "code" and '
                          '"reason".')
            return Acceptance(values['code'], values.get('address'),
                              values['reason'])
        return self.sequence(node, read, 'accepted deviations')

    def _nova(self, node):
        lease = self._matching(re.compile(r'[0-9A-Za-z]+$'),
                               'a length of time such as 4h')
        return self.mapping(node, {
            'default_duration': lease, 'max_duration': lease,
            'disk': self._integer(1, 'a number of GiB'),
            'min_disk': self._integer(1, 'a number of GiB'),
            'reserved_cpus': self._integer(1, 'a number of CPU cores of '
                                           'each NUMA node'),
            'reserved_memory': self._integer(0, 'a number of MiB'),
            'companion': self._matching(_NAME, 'a name of a PCI alias')},
            '"nova"')


def _kind(node):
    if isinstance(node, yaml.MappingNode):
        return 'a mapping'
    if isinstance(node, yaml.SequenceNode):
        return 'a list'
    return f'{node.value!r}' if node.value else 'empty'
