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

"""Machines made of files: sysfs and procfs as this package reads them.

A ``Layout`` says which functions a machine has, ``Machine`` writes it to a
directory and plays the kernel: what is written to ``unbind``,
``driver_override`` and ``drivers_probe`` has the effect that it has in sysfs.

What a published listing does not tell has to be made up, or nothing could be
tested: ``Device.listed`` names the attributes that were published, all others
are **reconstructed** from what such hardware commonly has.
"""

import dataclasses
import os

from gpu_host_prep import exceptions
from gpu_host_prep import root as roots

K, M, G = 1024, 1024 ** 2, 1024 ** 3
PCI_EXPRESS_3 = ('8.0 GT/s PCIe', '16', '8.0 GT/s PCIe', '16')
KERNEL = '6.1.0-test'


@dataclasses.dataclass(frozen=True)
class Device:
    """One function.

    :param bars: pairs of size and type (mem32, mem64, io); 64-bit memory is
        prefetchable, as on all cards here
    :param blocks: names of disks behind it
    :param interfaces: names of network interfaces behind it
    :param listed: names of the attributes that the source tells
    """

    address: str
    class_code: str
    id: str
    name: str
    driver: str | None = None
    group: int | None = None
    numa: int = -1
    bars: tuple = ()
    link: tuple | None = None
    reset: str | None = 'flr bus'
    parent: str | None = None
    modules: tuple = ()
    boot_vga: bool | None = None
    displays: tuple = ()
    blocks: tuple = ()
    interfaces: tuple = ()
    total_vfs: int = 0
    physfn: str | None = None
    acs: bool | None = None
    listed: frozenset = frozenset()

    @property
    def reconstructed(self):
        """Names of the attributes that have a value but no source."""
        return frozenset(
            field.name for field in dataclasses.fields(self)
            if field.name not in self.listed and field.name != 'listed' and
            getattr(self, field.name) not in (None, (), field.default))


@dataclasses.dataclass(frozen=True)
class Layout:
    """One machine.

    :param source: where the listing was published
    :param cpu: intel, amd or arm
    :param numa_nodes: number of nodes, each with cores and memory (MiB)
    """

    name: str
    source: str
    devices: tuple
    cpu: str = 'intel'
    numa_nodes: int = 1
    cores: int = 8
    threads: int = 2
    memory: int = 65536

    def device(self, address):
        return next(device for device in self.devices
                    if device.address == address)

    def replacing(self, address, **changes):
        """The layout with another version of one function."""
        return dataclasses.replace(self, devices=tuple(
            dataclasses.replace(device, **changes)
            if device.address == address else device
            for device in self.devices))

    def with_devices(self, *devices):
        return dataclasses.replace(self, devices=(*self.devices, *devices))


_CPUINFO = {'intel': 'vendor_id\t: GenuineIntel\n',
            'amd': 'vendor_id\t: AuthenticAMD\n',
            'arm': 'CPU implementer\t: 0x41\n'}
_TABLES = {'intel': 'DMAR', 'amd': 'IVRS', 'arm': 'IORT'}
_UNITS = {'intel': 'dmar0', 'amd': 'ivhd0', 'arm': 'smmu3.0x0000000005000000'}
_FLAGS = {'mem32': 0x40200, 'mem64': 0x14220c, 'io': 0x40101}


class Machine(roots.Root):
    """A layout in a directory, as a root of this package.

    :param iommu: on; off (by the kernel) or missing (in the firmware)
    :param arguments: of the kernel
    """

    def __init__(self, path, layout, iommu='on', remapping=True,
                 arguments='root=/dev/sda1 ro', modules=('vfio_pci',)):
        super().__init__(os.path.realpath(path))
        self.layout = layout
        self.commands = []
        self.failing = set()        # commands, and functions that do not bind
        self.native = {device.address: device.driver
                       for device in layout.devices}
        self._kernel(arguments, remapping, modules)
        self._firmware(iommu)
        self._nodes()
        for device in layout.devices:
            self._device(device, iommu == 'on')
        self._names()
        self.put('/sys/bus/pci/drivers_probe', '')

    # Files.

    def put(self, name, content, modified=None):
        """Write a file with its directories."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as stream:
            stream.write(content if isinstance(content, bytes)
                         else content.encode())
        if modified is not None:
            os.utime(path, (modified, modified))

    def symlink(self, name, target):
        """Make a link to another name of the machine, a relative one."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # The directory may be behind a link itself.
        folder = os.path.realpath(os.path.dirname(path))
        if os.path.islink(path):
            os.unlink(path)
        os.symlink(os.path.relpath(self.path(target), folder), path)

    def program(self, name):
        self.put(f'/usr/sbin/{name}', '')

    def everything(self):
        """The installed system: dict of name to content and mode.

        :returns: all files but those of the kernel and of the journal
        """
        found = {}
        for folder, folders, files in os.walk(self.base):
            if folder == self.base:
                folders[:] = set(folders) - {'sys', 'proc', 'dev', 'run'}
            for name in files:
                path = os.path.join(folder, name)
                short = path[len(self.base):]
                if not short.startswith('/var/lib/gpu-host-prep/'):
                    with open(path, 'rb') as stream:
                        found[short] = (stream.read(),
                                        os.stat(path).st_mode & 0o777)
        return found

    # Making.

    def _kernel(self, arguments, remapping, modules):
        self.put('/proc/sys/kernel/osrelease', KERNEL + '\n')
        self.put('/proc/cmdline', arguments + '\n')
        self.put('/proc/cpuinfo', _CPUINFO[self.layout.cpu])
        self.put('/proc/modules', '')
        self.put('/proc/stat', 'cpu 0\nbtime 1000000\n')
        self.put('/proc/consoles',
                 'tty0                 -WU (EC p  )    4:1\n')
        chip = 'IR-PCI-MSI' if remapping else 'PCI-MSI'
        self.put('/proc/interrupts',
                 f'           CPU0\n 24:   7   {chip} 512-edge   nvme0q0\n')
        self.put('/proc/self/mounts', 'proc /proc proc rw 0 0\n')
        drivers = {module for device in self.layout.devices
                   for module in device.modules}
        self.put(f'/lib/modules/{KERNEL}/modules.dep', ''.join(
            f'kernel/{module}.ko:\n' for module in sorted(
                {*modules, *drivers})))
        self.put(f'/lib/modules/{KERNEL}/modules.alias', ''.join(
            f'alias pci:v0000{device.id[:4].upper()}d0000'
            f'{device.id[5:].upper()}sv*sd*bc*sc*i* {module}\n'
            for device in self.layout.devices for module in device.modules))

    def _firmware(self, iommu):
        tables = ['FACP'] + ([] if iommu == 'missing'
                             else [_TABLES[self.layout.cpu]])
        for table in tables:
            self.put(f'/sys/firmware/acpi/tables/{table}', '')
        if iommu == 'on':
            self.put(f'/sys/class/iommu/{_UNITS[self.layout.cpu]}/uevent', '')

    def _nodes(self):
        layout = self.layout
        per_node = layout.cores * layout.threads
        for number in range(layout.numa_nodes):
            top = f'/sys/devices/system/node/node{number}'
            # Threads come after all cores, as on most servers.
            cores = [number * layout.cores + core
                     for core in range(layout.cores)]
            total = layout.numa_nodes * layout.cores
            cpus = [core + thread * total for core in cores
                    for thread in range(layout.threads)]
            assert len(cpus) == per_node
            self.put(f'{top}/cpulist',
                     ','.join(str(cpu) for cpu in sorted(cpus)) + '\n')
            self.put(f'{top}/meminfo', f'Node {number} MemTotal:       '
                     f'{layout.memory * 1024} kB\n')
            for size in (2048, 1048576):
                self.put(f'{top}/hugepages/hugepages-{size}kB/nr_hugepages',
                         '0\n')
            for core in cores:
                threads = [core + thread * total
                           for thread in range(layout.threads)]
                for cpu in threads:
                    self.put(f'/sys/devices/system/cpu/cpu{cpu}/topology/'
                             'thread_siblings_list',
                             ','.join(str(each) for each in threads) + '\n')
        self.put('/sys/devices/system/cpu/isolated', '\n')

    def _place(self, device):
        """Where sysfs has a function: below the bridges above it."""
        if device.parent is None:
            domain_bus = device.address.rpartition(':')[0]
            return f'/sys/devices/pci{domain_bus}/{device.address}'
        return (f'{self._place(self.layout.device(device.parent))}/'
                f'{device.address}')

    def _device(self, device, has_groups):
        place = self._place(device)
        vendor, product = device.id.split(':')
        attributes = {
            'vendor': f'0x{vendor}', 'device': f'0x{product}',
            'class': f'0x{device.class_code}',
            'numa_node': str(device.numa), 'driver_override': '(null)',
            'modalias': f'pci:v0000{vendor.upper()}d0000{product.upper()}'
            f'sv00000000sd00000000bc{device.class_code[:2].upper()}'
            f'sc{device.class_code[2:4].upper()}'
            f'i{device.class_code[4:].upper()}',
            'resource': _resource(device.bars)}
        if device.reset is not None:
            attributes['reset_method'] = device.reset
            attributes['reset'] = ''
        if device.link is not None:
            attributes.update(zip(
                ('current_link_speed', 'current_link_width',
                 'max_link_speed', 'max_link_width'), device.link))
        if device.boot_vga is not None:
            attributes['boot_vga'] = str(int(device.boot_vga))
        if device.total_vfs:
            attributes['sriov_totalvfs'] = str(device.total_vfs)
        for name, value in attributes.items():
            self.put(f'{place}/{name}', f'{value}\n')
        self.put(f'{place}/config', _config(device.acs))
        self.symlink(f'/sys/bus/pci/devices/{device.address}', place)
        if device.group is not None and has_groups:
            group = f'/sys/kernel/iommu_groups/{device.group}'
            self.symlink(f'{group}/devices/{device.address}', place)
            self.symlink(f'{place}/iommu_group', group)
        if device.physfn:
            self._virtual(device, place)
        self._below(device, place)
        if device.driver:
            self._bind(device.address, device.driver)

    def _virtual(self, device, place):
        whole = self._place(self.layout.device(device.physfn))
        self.symlink(f'{place}/physfn', whole)
        number = len([name for name in self.names(whole)
                      if name.startswith('virtfn')])
        self.symlink(f'{whole}/virtfn{number}', place)

    def _below(self, device, place):
        for disk in device.blocks:
            # NVMe has no directory "block", and a partition is in its disk.
            middle = 'nvme/nvme0' if disk.startswith('nvme') else 'host0/block'
            for name in ('', f'/{disk}1'):
                self.put(f'{place}/{middle}/{disk}{name}/size', '1\n')
                self.symlink(f'/sys/class/block/{name[1:] or disk}',
                             f'{place}/{middle}/{disk}{name}')
            self.put(f'{place}/{middle}/{disk}/{disk}1/partition', '1\n')
        for interface in device.interfaces:
            self.put(f'{place}/net/{interface}/flags', '0x1003\n')
            self.symlink(f'/sys/class/net/{interface}',
                         f'{place}/net/{interface}')
        for connector in device.displays:
            card = f'{place}/drm/card0'
            self.put(f'{card}/card0-{connector}/status', 'connected\n')
            self.symlink(f'/sys/class/drm/card0-{connector}',
                         f'{card}/card0-{connector}')

    def _names(self):
        vendors = {}
        for device in self.layout.devices:
            vendor, product = device.id.split(':')
            vendors.setdefault(vendor, {})[product] = device.name
        text = ''.join(
            f'{vendor}  Vendor {vendor}\n' + ''.join(
                f'\t{product}  {name}\n' for product, name in known.items())
            for vendor, known in vendors.items())
        self.put('/usr/share/misc/pci.ids', f'# A part.\n{text}C 03  Display\n'
                 '\t00  VGA\n')

    # Playing the kernel.

    def use(self, address, node, pid=4242, name='qemu-system-x86'):
        """Let a process have a file of a device open."""
        self.put(f'/proc/{pid}/comm', f'{name}\n')
        os.makedirs(self.path(f'/proc/{pid}/fd'), exist_ok=True)
        number = len(self.names(f'/proc/{pid}/fd'))
        os.symlink(node, self.path(f'/proc/{pid}/fd/{number}'))

    def driver(self, address):
        return self.link_name(f'/sys/bus/pci/devices/{address}/driver')

    def override(self, address):
        return self.attribute(
            f'/sys/bus/pci/devices/{address}/driver_override')

    def _bind(self, address, driver):
        folder = f'/sys/bus/pci/drivers/{driver}'
        for name in ('bind', 'unbind'):
            self.put(f'{folder}/{name}', '')
        self.symlink(f'/sys/bus/pci/devices/{address}/driver', folder)

    def tell(self, name, text):
        word = text.strip()
        last = name.rpartition('/')[2]
        if (last, word) in self.failing:
            raise exceptions.HostPrepError(f'{name} does not take {word}.')
        if not self.exists(name):
            raise exceptions.HostPrepError(f'{name} is not there.')
        if last == 'driver_override':
            self.put(name, f'{word or "(null)"}\n')
        elif last == 'unbind':
            os.unlink(self.path(f'/sys/bus/pci/devices/{word}/driver'))
        elif last == 'drivers_probe':
            wanted = self.override(word)
            if wanted == '(null)':
                wanted = self.native[word]
            if wanted and self.exists(f'/sys/bus/pci/drivers/{wanted}') and \
                    word not in self.failing:
                self._bind(word, wanted)
        elif last == 'bind':
            if word not in self.failing:
                self._bind(word, name.split('/')[-2])

    def run(self, *command):
        if command[0] in self.failing:
            raise exceptions.HostPrepError(f'{command[0]} failed.')
        self.commands.append(command)
        if command[0] == 'modprobe':
            self.put(f'/sys/bus/pci/drivers/{command[1]}/bind', '')
        if command[0] == 'update-initramfs':
            self.put(f'/boot/initrd.img-{KERNEL}', 'new')


def _resource(bars):
    lines, start = [], 0x100000000000
    for size, kind in bars:
        lines.append(f'0x{start:016x} 0x{start + size - 1:016x} '
                     f'0x{_FLAGS[kind]:016x}')
        start += size
    lines += ['0x0000000000000000 ' * 2 + '0x0000000000000000'] * (
        13 - len(lines))
    return '\n'.join(lines)


def _config(acs):
    """A configuration space; with 4096 bytes as root sees it."""
    if acs is None:
        return bytes(64)
    space = bytearray(4096)
    # Advanced error reporting, then access control.
    space[0x100:0x104] = (0x0001 | 1 << 16 | 0x148 << 20).to_bytes(
        4, 'little')
    if acs:
        space[0x148:0x14c] = (0x000d | 1 << 16).to_bytes(4, 'little')
        space[0x14e:0x150] = (0x1d).to_bytes(2, 'little')
    return bytes(space)
