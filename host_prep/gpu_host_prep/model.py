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

"""What there is on a host, as plain values: functions, cards, the machine.

Pure: nothing here reads a file. ``pci.py`` and ``machine.py`` do.
"""

import dataclasses
import functools
import re

ADDRESS = re.compile(r'[0-9a-f]{4,}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$')

NVIDIA = '10de'
AMD = '1002'
INTEL = '8086'
# Graphics of management controllers: the host's own console, never a GPU.
_MANAGEMENT = ('1a03', '102b', '19e5')

# The first match on the class code says what a function is.
_KINDS = (
    ('0300', 'graphics'), ('0302', 'graphics'), ('0380', 'graphics'),
    ('1200', 'graphics'), ('03', 'graphics'), ('0403', 'audio'),
    ('0401', 'audio'), ('0c03', 'usb'), ('0c80', 'ucsi'), ('01', 'storage'),
    ('02', 'network'), ('0600', 'bridge'), ('0604', 'bridge'))
KINDS = ('graphics', 'audio', 'usb', 'ucsi', 'storage', 'network', 'other')


@dataclasses.dataclass(frozen=True)
class BAR:
    """One memory or port range of a function; size in bytes."""

    index: int
    size: int
    type: str
    prefetchable: bool = False


@dataclasses.dataclass(frozen=True)
class Link:
    """The PCI Express link: now and at best, as the kernel writes it."""

    speed: str | None
    width: str | None
    max_speed: str | None
    max_width: str | None


@dataclasses.dataclass(frozen=True)
class Function:
    """One PCI function."""

    address: str
    vendor: str
    device: str
    class_code: str             # six hexadecimal digits
    name: str = ''              # of the device, from pci.ids
    vendor_name: str = ''
    driver: str | None = None
    driver_override: str | None = None
    modules: tuple[str, ...] = ()       # that could claim it
    iommu_group: str | None = None
    numa_node: int | None = None
    reset_methods: tuple[str, ...] | None = None    # None: not told
    bars: tuple[BAR, ...] = ()
    link: Link | None = None
    boot_vga: bool = False
    bridges: tuple[str, ...] = ()       # above it, outermost first
    physical_function: str | None = None
    virtual_functions: tuple[str, ...] = ()
    total_vfs: int = 0
    displays: tuple[str, ...] = ()      # connectors with a display
    blocks: tuple[str, ...] = ()        # disks below it
    interfaces: tuple[str, ...] = ()    # network interfaces below it
    nodes: tuple[str, ...] = ()         # its files in /dev
    acs: bool | None = None             # of a bridge; None: not told

    @property
    def id(self):
        return f'{self.vendor}:{self.device}'

    @property
    def slot(self):
        return self.address.rpartition('.')[0]

    @property
    def kind(self):
        """What it is for: one of ``KINDS``, ``bridge`` or ``nvswitch``."""
        if self.vendor == NVIDIA and self.class_code.startswith('0680'):
            return 'nvswitch'
        for prefix, kind in _KINDS:
            if self.class_code.startswith(prefix):
                return kind
        return 'other'

    @property
    def is_gpu(self):
        return self.kind == 'graphics' and self.vendor not in _MANAGEMENT

    @property
    def label(self):
        """How people are told of it."""
        name = self.name or f'device {self.id}'
        return f'{self.address} ({name}, {self.driver or "no driver"})'


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU with all functions of its slot, the graphics first."""

    functions: tuple[Function, ...]

    @property
    def gpu(self):
        return self.functions[0]

    @property
    def address(self):
        return self.gpu.address

    @property
    def is_virtual(self):
        """Whether it is a virtual function of another card."""
        return self.gpu.physical_function is not None

    @property
    def addresses(self):
        return tuple(function.address for function in self.functions)


@dataclasses.dataclass(frozen=True)
class Node:
    """One NUMA node; memory and huge pages by size in KiB."""

    number: int
    cpus: tuple[int, ...]
    memory_kib: int
    hugepages: dict[int, int]


@dataclasses.dataclass(frozen=True)
class Machine:
    """The host but for its PCI functions."""

    kernel: str = ''
    cpu_vendor: str = 'unknown'         # intel, amd, arm
    command_line: tuple[str, ...] = ()
    iommu_table: str | None = None      # DMAR, IVRS or IORT of the firmware
    iommus: tuple[str, ...] = ()        # those that the kernel drives
    interrupt_remapping: bool = False
    unsafe_interrupts: bool | None = None
    secure_boot: bool = False
    lockdown: str = 'none'
    loaded_modules: frozenset = frozenset()
    known_modules: frozenset = frozenset()
    boot_time: int = 0
    consoles: tuple[str, ...] = ()
    framebuffers: tuple[str, ...] = ()  # PCI addresses that show the console
    nodes: tuple[Node, ...] = ()
    siblings: tuple[tuple[int, ...], ...] = ()      # CPUs of each core
    isolated_cpus: tuple[int, ...] = ()
    mounts: dict = dataclasses.field(default_factory=dict)
    interfaces_up: frozenset = frozenset()
    users: dict = dataclasses.field(default_factory=dict)

    @property
    def iommu_kind(self):
        """intel, amd or smmu: by the firmware's table, else by the CPU."""
        return {'DMAR': 'intel', 'IVRS': 'amd', 'IORT': 'smmu'}.get(
            self.iommu_table,
            {'intel': 'intel', 'amd': 'amd', 'arm': 'smmu'}.get(
                self.cpu_vendor, 'unknown'))


@dataclasses.dataclass(frozen=True)
class Host:
    """Everything that was read."""

    machine: Machine
    functions: dict[str, Function]

    @functools.cached_property
    def cards(self):
        """All GPUs, in order of their addresses."""
        slots = {}
        for function in self.functions.values():
            if function.physical_function is None:
                slots.setdefault(function.slot, []).append(function)
        cards = []
        for function in self.functions.values():
            if not function.is_gpu:
                continue
            if function.physical_function is not None:
                cards.append(Card((function,)))
            elif function == _first_gpu(slots[function.slot]):
                rest = [each for each in slots[function.slot]
                        if each != function]
                cards.append(Card((function, *rest)))
        return tuple(cards)

    @functools.cached_property
    def nvswitches(self):
        return tuple(function for function in self.functions.values()
                     if function.kind == 'nvswitch')

    def group(self, function):
        """All functions of the IOMMU group of one; empty if it has none."""
        if function.iommu_group is None:
            return ()
        return tuple(each for each in self.functions.values()
                     if each.iommu_group == function.iommu_group)

    def group_others(self, card):
        """Who else is in the IOMMU groups of a card.

        Bridges do not count: they need no driver for passthrough, and pass
        on what the devices below them do.
        """
        return tuple(
            each for each in self.functions.values()
            if each.iommu_group is not None and each.kind != 'bridge' and
            each.address not in card.addresses and
            any(each.iommu_group == function.iommu_group
                for function in card.functions))

    def users(self, function):
        """The processes that have a file of a function open.

        :returns: tuple of texts like ``qemu-system-x86 (1234)``
        """
        return tuple(sorted({user for node in function.nodes
                             for user in self.machine.users.get(node, ())}))


def _first_gpu(functions):
    return next(function for function in functions if function.is_gpu)
