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

"""Reads the PCI functions of a host from sysfs."""

import dataclasses
import fnmatch
import re

from gpu_host_prep import model
from gpu_host_prep import names

DEVICES = '/sys/bus/pci/devices'
_IO, _PREFETCH, _64BIT = 0x100, 0x2000, 0x100000
# In the extended configuration space.
_FIRST_CAPABILITY, _ACS, _SPACE = 0x100, 0x000d, 4096
# Source validation, redirection of requests and completions, forwarding.
_ACS_WANTED = 0x1d


def read(root):
    """Read all functions.

    :param root: a :class:`gpu_host_prep.root.Root`
    :returns: dict of address to Function, in order of the addresses
    """
    known = names.Names.of(root)
    aliases = _aliases(root)
    displays = _displays(root)
    blocks = _owned(root, '/sys/class/block')
    interfaces = _owned(root, '/sys/class/net')
    return {address: dataclasses.replace(
                _function(root, address, known, aliases),
                displays=displays.get(address, ()),
                blocks=_disks(root, address, blocks),
                interfaces=tuple(interfaces.get(address, ())))
            for address in root.names(DEVICES)
            if model.ADDRESS.match(address)}


def _function(root, address, known, aliases):
    path = f'{DEVICES}/{address}'
    vendor = _hexadecimal(root, f'{path}/vendor', 4)
    device = _hexadecimal(root, f'{path}/device', 4)
    override = root.attribute(f'{path}/driver_override')
    group = root.link_name(f'{path}/iommu_group')
    node = _number(root, f'{path}/numa_node')
    return model.Function(
        address=address, vendor=vendor, device=device,
        class_code=_hexadecimal(root, f'{path}/class', 6),
        name=known.device(vendor, device), vendor_name=known.vendor(vendor),
        driver=root.link_name(f'{path}/driver'),
        driver_override=None if override in (None, '', '(null)')
        else override,
        modules=_modules(root, path, aliases), iommu_group=group,
        numa_node=None if node is None or node < 0 else node,
        reset_methods=_reset_methods(root, path),
        bars=_bars(root.attribute(f'{path}/resource')),
        link=_link(root, path),
        boot_vga=root.attribute(f'{path}/boot_vga') == '1',
        bridges=_bridges(root, path, address),
        physical_function=root.link_name(f'{path}/physfn'),
        virtual_functions=tuple(
            root.link_name(f'{path}/{name}') for name in root.names(path)
            if name.startswith('virtfn')),
        total_vfs=_number(root, f'{path}/sriov_totalvfs') or 0,
        nodes=_nodes(root, path, address, group),
        acs=_acs(root.data(f'{path}/config')))


def _hexadecimal(root, name, digits):
    text = root.attribute(name) or '0x0'
    return text.removeprefix('0x').zfill(digits)


def _number(root, name):
    text = root.attribute(name)
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


def _reset_methods(root, path):
    """How the kernel resets a function; None on kernels that do not tell."""
    methods = root.attribute(f'{path}/reset_method')
    if methods is not None:
        return tuple(methods.split())
    # Before Linux 5.15 there was only the file that triggers a reset, and
    # since then both are missing when there is no way.
    return None if root.exists(f'{path}/reset') else ()


def _bars(resource):
    """Parse the first six lines of ``resource``: start, end and flags."""
    bars = []
    for index, line in enumerate((resource or '').splitlines()[:6]):
        start, end, flags = (int(part, 16) for part in line.split())
        if end <= start:
            continue
        kind = ('io' if flags & _IO else
                'mem64' if flags & _64BIT else 'mem32')
        bars.append(model.BAR(index, end - start + 1, kind,
                              bool(flags & _PREFETCH)))
    return tuple(bars)


def _link(root, path):
    values = [root.attribute(f'{path}/{name}') for name in
              ('current_link_speed', 'current_link_width', 'max_link_speed',
               'max_link_width')]
    return model.Link(*values) if any(values) else None


def _bridges(root, path, address):
    parts = root.resolve(path).split('/')
    return tuple(part for part in parts
                 if model.ADDRESS.match(part) and part != address)


def _owner(root, path):
    """The PCI function that a device of sysfs is behind, or None."""
    return next((part for part in reversed(root.resolve(path).split('/'))
                 if model.ADDRESS.match(part)), None)


def _owned(root, folder):
    """Which devices of a class are behind which function.

    :returns: dict of address to list of names
    """
    found = {}
    for name in root.names(folder):
        owner = _owner(root, f'{folder}/{name}')
        if owner is not None:
            found.setdefault(owner, []).append(name)
    return found


def _disks(root, address, blocks):
    """The disks behind a function, without their partitions.

    With several paths the disks of an NVMe controller are virtual devices:
    then the controller stands for them, whose name theirs begin with.
    """
    names = blocks.get(address, [])
    whole = [name for name in names
             if not root.exists(f'/sys/class/block/{name}/partition')]
    controllers = [name for name in
                   root.names(f'{DEVICES}/{address}/nvme')
                   if not any(each.startswith(name) for each in whole)]
    return tuple(sorted(whole + controllers))


def _nodes(root, path, address, group):
    """The files in /dev that belong to a function."""
    nodes = []
    if group is not None:
        nodes.append(f'/dev/vfio/{group}')
    nodes += [f'/dev/vfio/devices/{name}'
              for name in root.names(f'{path}/vfio-dev')]
    nodes += [f'/dev/dri/{name}' for name in root.names(f'{path}/drm')
              if name.startswith(('card', 'render'))]
    for card in root.names(f'{path}/sound'):
        number = card.removeprefix('card')
        nodes.append(f'/dev/snd/controlC{number}')
        nodes += [f'/dev/snd/{name}' for name in
                  root.names(f'{path}/sound/{card}')
                  if name.startswith(('pcm', 'hwC'))]
    information = root.attribute(
        f'/proc/driver/nvidia/gpus/{address}/information') or ''
    minor = re.search(r'Device Minor:\s*(\d+)', information)
    if minor:
        nodes.append(f'/dev/nvidia{minor.group(1)}')
    return tuple(nodes)


def _displays(root):
    """Which connectors of which function have a display attached."""
    displays = {}
    for connector in root.names('/sys/class/drm'):
        path = f'/sys/class/drm/{connector}'
        if root.attribute(f'{path}/status') != 'connected':
            continue
        owner = _owner(root, path)
        if owner is not None:
            displays[owner] = (*displays.get(owner, ()), connector)
    return displays


def _aliases(root):
    """The kernel's table of which module drives which PCI device.

    :returns: dict of vendor, as the table has it, to a list of (pattern,
        module); ``*`` has those for devices of any vendor
    """
    release = root.attribute('/proc/sys/kernel/osrelease')
    table = root.attribute(f'/lib/modules/{release}/modules.alias') or ''
    found = {}
    for line in table.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1].startswith('pci:v'):
            vendor = parts[1][5:13]
            found.setdefault('*' if '*' in vendor else vendor, []).append(
                (parts[1], parts[2].replace('-', '_')))
    return found


def _modules(root, path, aliases):
    alias = root.attribute(f'{path}/modalias')
    if not alias:
        return ()
    return tuple(dict.fromkeys(
        module for vendor in (alias[5:13], '*')
        for pattern, module in aliases.get(vendor, ())
        if fnmatch.fnmatchcase(alias, pattern)))


def _acs(config):
    """Whether a function keeps those below it apart.

    :returns: None if the configuration space cannot be read that far (only
        root may), else whether ACS is there and on
    """
    if config is None or len(config) < _SPACE:
        return None
    offset = _FIRST_CAPABILITY
    seen = set()
    while offset >= _FIRST_CAPABILITY and offset not in seen:
        seen.add(offset)
        header = int.from_bytes(config[offset:offset + 4], 'little')
        if header & 0xffff == _ACS:
            control = int.from_bytes(config[offset + 6:offset + 8], 'little')
            return control & _ACS_WANTED == _ACS_WANTED
        offset = header >> 20
    return False
