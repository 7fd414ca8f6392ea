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

"""Reads what a host is like, apart from its PCI functions."""

import os
import re

from gpu_host_prep import lists
from gpu_host_prep import model
from gpu_host_prep import pci

_EFI_GUID = '8be4df61-93ca-11d2-aa0d-00e098032b8c'
_TABLES = ('DMAR', 'IVRS', 'IORT')
_UP = 0x1


def read(root):
    """Read the whole host.

    :returns: a :class:`gpu_host_prep.model.Host`
    """
    return model.Host(read_machine(root), pci.read(root))


def read_machine(root):
    """Read everything but the PCI functions."""
    kernel = root.attribute('/proc/sys/kernel/osrelease') or ''
    return model.Machine(
        kernel=kernel, cpu_vendor=_cpu_vendor(root),
        command_line=tuple(
            (root.attribute('/proc/cmdline') or '').split()),
        iommu_table=next((table for table in _TABLES if
                          table in root.names('/sys/firmware/acpi/tables')),
                         None),
        iommus=_iommus(root),
        interrupt_remapping=_interrupt_remapping(root),
        unsafe_interrupts=_yes(root, '/sys/module/vfio_iommu_type1/'
                               'parameters/allow_unsafe_interrupts'),
        secure_boot=_secure_boot(root), lockdown=_lockdown(root),
        loaded_modules=frozenset(
            line.split()[0] for line in
            (root.attribute('/proc/modules') or '').splitlines()),
        known_modules=_known_modules(root, kernel),
        boot_time=_boot_time(root), consoles=_consoles(root),
        framebuffers=_framebuffers(root), nodes=_nodes(root),
        siblings=_siblings(root),
        isolated_cpus=lists.parse(
            root.attribute('/sys/devices/system/cpu/isolated') or ''),
        mounts=_mounts(root), interfaces_up=_interfaces_up(root),
        users=_users(root))


def _cpu_vendor(root):
    text = root.attribute('/proc/cpuinfo') or ''
    if 'GenuineIntel' in text:
        return 'intel'
    if 'AuthenticAMD' in text or 'HygonGenuine' in text:
        return 'amd'
    return 'arm' if 'CPU implementer' in text else 'unknown'


def _iommus(root):
    """The units that translate; with groups only, "other" stands for them."""
    found = tuple(root.names('/sys/class/iommu'))
    if not found and root.names('/sys/kernel/iommu_groups'):
        return ('other',)
    return found


def _interrupt_remapping(root):
    """Whether interrupts go through the IOMMU.

    On x86 the interrupt chips are then called IR-…; on Arm the interrupt
    controller keeps devices apart by itself.
    """
    if _cpu_vendor(root) == 'arm':
        return True
    return re.search(r'\sIR-', root.attribute('/proc/interrupts') or
                     '') is not None


def _yes(root, name):
    text = root.attribute(name)
    return None if text is None else text in ('Y', '1')


def _secure_boot(root):
    data = root.data(f'/sys/firmware/efi/efivars/SecureBoot-{_EFI_GUID}')
    # Four bytes of attributes come before the value.
    return data is not None and len(data) == 5 and data[4] == 1


def _lockdown(root):
    text = root.attribute('/sys/kernel/security/lockdown') or ''
    chosen = re.search(r'\[(\w+)\]', text)
    return chosen.group(1) if chosen else 'none'


def _known_modules(root, kernel):
    """Names of all modules that the running kernel has, built in or not."""
    found = set()
    for name in ('modules.dep', 'modules.builtin'):
        text = root.attribute(f'/lib/modules/{kernel}/{name}') or ''
        for line in text.splitlines():
            module = os.path.basename(line.partition(':')[0])
            found.add(module.partition('.ko')[0].replace('-', '_'))
    return frozenset(found)


def _boot_time(root):
    found = re.search(r'^btime (\d+)$', root.attribute('/proc/stat') or '',
                      re.MULTILINE)
    return int(found.group(1)) if found else 0


def _consoles(root):
    """The kernel's consoles that are on, such as tty0 and ttyS0."""
    return tuple(line.split()[0] for line in
                 (root.attribute('/proc/consoles') or '').splitlines()
                 if '(E' in line)


def _framebuffers(root):
    addresses = []
    for name in root.names('/sys/class/graphics'):
        parts = root.resolve(f'/sys/class/graphics/{name}').split('/')
        addresses += [part for part in parts
                      if model.ADDRESS.match(part)][-1:]
    return tuple(dict.fromkeys(addresses))


def _nodes(root):
    top = '/sys/devices/system/node'
    nodes = []
    for name in root.names(top):
        if not re.fullmatch(r'node\d+', name):
            continue
        meminfo = root.attribute(f'{top}/{name}/meminfo') or ''
        total = re.search(r'MemTotal:\s+(\d+) kB', meminfo)
        pages = {}
        for folder in root.names(f'{top}/{name}/hugepages'):
            size = int(re.sub(r'\D', '', folder))
            pages[size] = int(root.attribute(
                f'{top}/{name}/hugepages/{folder}/nr_hugepages') or 0)
        nodes.append(model.Node(
            int(name[4:]), lists.parse(
                root.attribute(f'{top}/{name}/cpulist') or ''),
            int(total.group(1)) if total else 0, pages))
    return tuple(sorted(nodes, key=lambda node: node.number))


def _siblings(root):
    top = '/sys/devices/system/cpu'
    found = {lists.parse(root.attribute(
        f'{top}/{name}/topology/thread_siblings_list') or '')
        for name in root.names(top) if re.fullmatch(r'cpu\d+', name)}
    return tuple(sorted(found - {()}))


def _mounts(root):
    """Where block devices are in use.

    :returns: dict of the name of a disk or partition, such as sda1, to the
        directories where it, or what is made of it, is mounted; a swap area
        is told as ``swap``
    """
    uses = {}
    text = root.attribute('/proc/self/mounts') or root.attribute(
        '/proc/mounts') or ''
    for line in text.splitlines():
        device, place = line.split()[:2]
        if device.startswith('/dev/'):
            uses.setdefault(device, []).append(place)
    swaps = (root.attribute('/proc/swaps') or '').splitlines()[1:]
    for line in swaps:
        if line.startswith('/dev/'):
            uses.setdefault(line.split()[0], []).append('swap')
    found = {}
    for device, places in uses.items():
        for name in _underlying(root, _block_name(root, device)):
            found.setdefault(name, []).extend(places)
    return {name: tuple(places) for name, places in found.items()}


def _block_name(root, device):
    """The kernel's name of a device file, also of /dev/mapper/…"""
    name = os.path.basename(root.link(device) or device)
    if root.exists(f'/sys/class/block/{name}'):
        return name
    for block in root.names('/sys/class/block'):
        if root.attribute(f'/sys/class/block/{block}/dm/name') == name:
            return block
    return name


def _underlying(root, name):
    """A block device with those that it is made of."""
    slaves = root.names(f'/sys/class/block/{name}/slaves')
    return [name, *(each for slave in slaves
                    for each in _underlying(root, slave))]


def _interfaces_up(root):
    """Network interfaces that are in use: up, or part of a bond or bridge."""
    found = set()
    for name in root.names('/sys/class/net'):
        path = f'/sys/class/net/{name}'
        flags = int(root.attribute(f'{path}/flags') or '0', 16)
        if flags & _UP or root.link(f'{path}/master'):
            found.add(name)
    return frozenset(found)


def _users(root):
    """Which processes have which files of devices open.

    :returns: dict of the name in /dev to a tuple of texts like "name (pid)"
    """
    users = {}
    for pid in root.names('/proc'):
        if not pid.isdigit():
            continue
        for descriptor in root.names(f'/proc/{pid}/fd'):
            target = root.link(f'/proc/{pid}/fd/{descriptor}') or ''
            if target.startswith(('/dev/vfio/', '/dev/dri/', '/dev/nvidia',
                                  '/dev/snd/')):
                comm = root.attribute(f'/proc/{pid}/comm') or 'process'
                users.setdefault(target, set()).add(f'{comm} ({pid})')
    return {node: tuple(sorted(found)) for node, found in users.items()}
