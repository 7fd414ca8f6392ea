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

"""Machines whose listings were published, with their sources.

Only ``listed`` attributes come from the source; see ``sysfs.Device``.
"""

import dataclasses

from gpu_host_prep.tests.fakes import sysfs
from gpu_host_prep.tests.fakes.sysfs import Device
from gpu_host_prep.tests.fakes.sysfs import G
from gpu_host_prep.tests.fakes.sysfs import K
from gpu_host_prep.tests.fakes.sysfs import M

# What "lspci -nn" tells; with the groups where a script added them, with the
# driver where "-k" did.
_LSPCI = frozenset(('address', 'class_code', 'id', 'name'))
_GROUPS = _LSPCI | {'group'}
_GROUPS_DRIVERS = _GROUPS | {'driver'}

_GENERATION_3 = sysfs.PCI_EXPRESS_3
_GENERATION_4 = ('16.0 GT/s PCIe', '16', '16.0 GT/s PCIe', '16')
_GENERATION_5 = ('32.0 GT/s PCIe', '16', '32.0 GT/s PCIe', '16')
_IDLE_3 = ('2.5 GT/s PCIe', '16', '8.0 GT/s PCIe', '16')

# Sizes of Turing's ranges: kernel log in "Regression: 5.7-rc…" on
# linux-kernel, May 2020, of a card with the same chip.
RTX_2070 = sysfs.Layout(
    name='rtx2070', cpu='intel',
    source='github.com/iamcodernitesh/Single_GPU_Passthrough_Guide, README, '
    '"Checking IOMMU groups"',
    devices=(
        Device('0000:00:00.0', '060000', '8086:3ec2',
               '8th Gen Core Processor Host Bridge/DRAM Registers', group=0,
               reset=None, listed=_GROUPS),
        Device('0000:00:01.0', '060400', '8086:1901',
               '6th-10th Gen Core Processor PCIe Controller (x16)', group=1,
               driver='pcieport', reset='pm', acs=False, listed=_GROUPS),
        Device('0000:01:00.0', '030000', '10de:1f02',
               'TU106 [GeForce RTX 2070]', group=1, driver='nouveau',
               bars=((16 * M, 'mem32'), (256 * M, 'mem64'),
                     (32 * M, 'mem64'), (128, 'io')),
               link=_IDLE_3, reset='', parent='0000:00:01.0', boot_vga=False,
               modules=('nvidiafb', 'nouveau'), listed=_GROUPS),
        Device('0000:01:00.1', '040300', '10de:10f9',
               'TU106 High Definition Audio Controller', group=1,
               driver='snd_hda_intel', bars=((16 * K, 'mem32'),),
               link=_IDLE_3, reset='', parent='0000:00:01.0',
               modules=('snd_hda_intel',), listed=_GROUPS),
        Device('0000:01:00.2', '0c0330', '10de:1ada',
               'TU106 USB 3.1 Host Controller', group=1, driver='xhci_hcd',
               bars=((256 * K, 'mem64'), (64 * K, 'mem64')), link=_IDLE_3,
               reset='', parent='0000:00:01.0', modules=('xhci_pci',),
               listed=_GROUPS),
        Device('0000:01:00.3', '0c8000', '10de:1adb',
               'TU106 USB Type-C UCSI Controller', group=1,
               driver='nvidia-gpu', bars=((4 * K, 'mem32'),), link=_IDLE_3,
               reset='', parent='0000:00:01.0',
               modules=('i2c_nvidia_gpu',), listed=_GROUPS),
        Device('0000:00:02.0', '030000', '8086:3e98',
               'CoffeeLake-S GT2 [UHD Graphics 630]', group=2, driver='i915',
               boot_vga=True, displays=('HDMI-A-1',), modules=('i915',),
               listed=_GROUPS),
        Device('0000:00:14.0', '0c0330', '8086:a36d',
               'Cannon Lake PCH USB 3.1 xHCI Host Controller', group=5,
               driver='xhci_hcd', modules=('xhci_pci',), listed=_GROUPS),
        Device('0000:00:17.0', '010601', '8086:a352',
               'Cannon Lake PCH SATA AHCI Controller', group=8,
               driver='ahci', blocks=('sda',), modules=('ahci',),
               listed=_GROUPS),
        Device('0000:00:1f.3', '040300', '8086:a348', 'Cannon Lake PCH cAVS',
               group=10, driver='snd_hda_intel', modules=('snd_hda_intel',),
               listed=_GROUPS),
        Device('0000:00:1f.6', '020000', '8086:15bc',
               'Ethernet Connection (7) I219-V', group=10, driver='e1000e',
               interfaces=('eno1',), modules=('e1000e',), listed=_GROUPS)))

# Sizes: kernel log of the same card on linux-hyperv, "PCI: hv", 2021.
TESLA_M60 = sysfs.Layout(
    name='m60', cpu='intel', numa_nodes=2, cores=10, memory=131072,
    source='"Deploying a NVIDIA GPU in OpenStack Queens via TripleO" '
    '(README of its repository): lspci -nn of a compute node',
    devices=(
        Device('0000:3a:00.0', '060400', '8086:2030',
               'Sky Lake-E PCI Express Root Port A', driver='pcieport',
               group=30, numa=0, acs=True),
        Device('0000:3b:00.0', '060400', '10b5:8747',
               'PEX 8747 48-Lane, 5-Port PCI Express Gen 3 Switch',
               driver='pcieport', group=31, numa=0, parent='0000:3a:00.0',
               acs=True),
        Device('0000:3c:08.0', '060400', '10b5:8747',
               'PEX 8747 48-Lane, 5-Port PCI Express Gen 3 Switch',
               driver='pcieport', group=32, numa=0, parent='0000:3b:00.0',
               acs=True),
        Device('0000:3c:10.0', '060400', '10b5:8747',
               'PEX 8747 48-Lane, 5-Port PCI Express Gen 3 Switch',
               driver='pcieport', group=33, numa=0, parent='0000:3b:00.0',
               acs=True),
        Device('0000:3d:00.0', '030000', '10de:13f2', 'GM204GL [Tesla M60]',
               driver='nouveau', group=34, numa=0, parent='0000:3c:08.0',
               bars=((16 * M, 'mem32'), (256 * M, 'mem64'),
                     (32 * M, 'mem64')), link=_GENERATION_3, boot_vga=False,
               reset='bus', modules=('nvidiafb', 'nouveau'), listed=_LSPCI),
        Device('0000:3e:00.0', '030000', '10de:13f2', 'GM204GL [Tesla M60]',
               driver='nouveau', group=35, numa=0, parent='0000:3c:10.0',
               bars=((16 * M, 'mem32'), (256 * M, 'mem64'),
                     (32 * M, 'mem64')), link=_GENERATION_3, boot_vga=False,
               reset='bus', modules=('nvidiafb', 'nouveau'), listed=_LSPCI),
        Device('0000:04:00.0', '030000', '102b:0538',
               'Integrated Matrox G200eW3 Graphics Controller', group=9,
               driver='mgag200', boot_vga=True)))

QUADRO_P4000 = sysfs.Layout(
    name='quadro', cpu='intel', numa_nodes=2, cores=12, memory=98304,
    source='"Intel CPU\'s, Virtualization and You!", slides by Will Fife: '
    'lspci -vnn of the graphics; the sound function by its id only',
    devices=(
        Device('0000:3a:00.0', '060400', '8086:2030',
               'Sky Lake-E PCI Express Root Port A', driver='pcieport',
               group=26, numa=0, acs=True),
        Device('0000:3b:00.0', '030000', '10de:1bb1',
               'GP104GL [Quadro P4000]', driver='vfio-pci', group=26, numa=0,
               bars=((16 * M, 'mem32'), (256 * M, 'mem64'),
                     (32 * M, 'mem64'), (128, 'io')), link=_GENERATION_3,
               reset='', parent='0000:3a:00.0', boot_vga=False,
               modules=('nouveau',),
               listed=_LSPCI | {'driver', 'numa', 'bars', 'modules'}),
        Device('0000:3b:00.1', '040300', '10de:10f0',
               'GP104 High Definition Audio Controller',
               driver='snd_hda_intel', group=26, numa=0,
               bars=((16 * K, 'mem32'),), reset='', parent='0000:3a:00.0',
               modules=('snd_hda_intel',), listed=frozenset(('id',))),
        Device('0000:04:00.0', '030000', '102b:0538',
               'Integrated Matrox G200eW3 Graphics Controller', group=9,
               driver='mgag200', boot_vga=True)))


def _h200():
    groups = {'0000:18:00.0': 59, '0000:2a:00.0': 50, '0000:3a:00.0': 41,
              '0000:5d:00.0': 15, '0000:9a:00.0': 107, '0000:ab:00.0': 98,
              '0000:ba:00.0': 89, '0000:db:00.0': 79}
    for number, (address, group) in enumerate(groups.items()):
        port = f'{address[:5]}{int(address[5:7], 16) - 1:02x}:01.0'
        node = 0 if number < 4 else 1
        yield Device(port, '060400', '8086:352a',
                     'Sapphire Rapids PCI Express Root Port',
                     driver='pcieport', group=200 + number, numa=node,
                     acs=True)
        yield Device(
            address, '030200', '10de:2335', 'GH100 [H200 SXM 141GB]',
            driver='nvidia', group=group, numa=node, parent=port,
            bars=((16 * M, 'mem64'), (256 * G, 'mem64'), (32 * M, 'mem64')),
            link=_GENERATION_5, total_vfs=32,
            modules=('nvidia', 'nouveau'), listed=_GROUPS_DRIVERS)
    for bus in ('05', '06', '07', '08'):
        yield Device(
            f'0000:{bus}:00.0', '068000', '10de:22a3',
            'GH100 [H100 NVSwitch]', driver='nvidia-nvswitch', group=114,
            numa=0, bars=((32 * M, 'mem64'),), modules=('nvidia',),
            listed=_GROUPS_DRIVERS)


HGX_H200 = sysfs.Layout(
    name='hgx-h200', cpu='intel', numa_nodes=2, cores=56, memory=1048576,
    source='github.com/bigstack-oss/cubecos, issue 259: GPU IOMMU Group List',
    devices=tuple(_h200()))


def _a100():
    switches = ('54', '55', '56', '57', '58', '59')
    for number, bus in enumerate(('10', '16', '49', '4d', '8a', '8f', 'c6',
                                  'ca')):
        yield Device(
            f'0000:{bus}:00.0', '030200', '10de:20b2',
            'GA100 [A100 SXM4 80GB]', driver='vfio-pci', group=60 + number,
            numa=number // 4, link=_GENERATION_4, total_vfs=20,
            bars=((16 * M, 'mem32'), (128 * G, 'mem64'), (32 * M, 'mem64')),
            modules=('nvidiafb', 'nouveau'),
            listed=_LSPCI | {'driver', 'modules', 'numa'})
    for number, bus in enumerate(switches):
        yield Device(
            f'0000:{bus}:00.0', '068000', '10de:1af1',
            'GA100 [A100 NVSwitch]', group=80 + number, numa=0,
            bars=((32 * M, 'mem64'),), listed=_LSPCI | {'driver'})


HGX_A100 = sysfs.Layout(
    name='hgx-a100', cpu='intel', numa_nodes=2, cores=48, memory=1048576,
    source='"OpenStack GPU Integration": lspci -nn and -k of the host '
    'omz-gpu, with four GPUs on each NUMA node',
    devices=tuple(_a100()))

# Sizes: those of a PCI function with as much memory, from the log of an MI210
# on amd-gfx, February 2025, scaled to 192 GiB.
MI300X = sysfs.Layout(
    name='mi300x', cpu='amd', numa_nodes=2, cores=96, memory=1179648,
    source='github.com/ROCm/gpu-operator, docs/kubevirt/kubevirt.md: lspci '
    '-nnk with a virtual function',
    devices=(
        Device('0000:80:01.1', '060400', '1022:14ab',
               'Genoa/Bergamo PCIe Root Port', driver='pcieport', group=40,
               numa=1, acs=True),
        Device('0000:85:00.0', '120000', '1002:74a1',
               'Aqua Vanjaram [Instinct MI300X]', driver='gim', group=41,
               numa=1, parent='0000:80:01.1', link=_GENERATION_5,
               bars=((256 * G, 'mem64'), (2 * M, 'mem64'), (256, 'io'),
                     (512 * K, 'mem32')),
               total_vfs=1, modules=('amdgpu',),
               listed=_LSPCI | {'driver', 'modules'}),
        Device('0000:85:02.0', '120000', '1002:74b5',
               'Aqua Vanjaram [Instinct MI300X VF]', driver='vfio-pci',
               group=42, numa=1, parent='0000:80:01.1',
               physfn='0000:85:00.0', bars=((256 * G, 'mem64'),),
               modules=('amdgpu',),
               listed=_LSPCI | {'driver', 'modules', 'physfn'})))

GRACE_HOPPER = sysfs.Layout(
    name='gh200', cpu='arm', cores=72, threads=1, memory=491520,
    source='github.com/PrincetonUniversity/gpu_programming_intro, nvidia-smi '
    'and lscpu of the node della-gh (address, name, CPUs); the id is one of '
    'Linux\'s nvgrace-gpu driver',
    devices=(
        Device('0009:00:00.0', '060400', '10de:22b1', 'Grace PCIe Root Port',
               driver='pcieport', group=19, numa=0, acs=True),
        Device('0009:01:00.0', '030200', '10de:2342', 'GH100 [GH200 480GB]',
               driver='nvidia', group=20, numa=0, parent='0009:00:00.0',
               bars=((16 * M, 'mem64'), (128 * K, 'mem64'),
                     (32 * M, 'mem64')), link=_GENERATION_4,
               modules=('nvidia', 'nouveau'), reset='flr bus',
               listed=frozenset(('address', 'name', 'id'))),
        Device('0002:01:00.0', '020700', '15b3:1021',
               'MT2910 Family [ConnectX-7]', driver='mlx5_core', group=11,
               numa=0, interfaces=('ib0',), modules=('mlx5_core',))))

ALL = (RTX_2070, TESLA_M60, QUADRO_P4000, HGX_H200, HGX_A100, MI300X,
       GRACE_HOPPER)


def two_equal_cards():
    """The RTX 2070 machine with a second such card; no such listing."""
    second = [
        dataclasses.replace(
            device, address=device.address.replace(':01:', ':02:'), group=12,
            parent='0000:00:01.1', listed=frozenset())
        for device in RTX_2070.devices if ':01:00' in device.address]
    port = Device('0000:00:01.1', '060400', '8086:1905',
                  '6th-10th Gen Core Processor PCIe Controller (x8)',
                  group=12, driver='pcieport', acs=True)
    return RTX_2070.with_devices(port, *second)


def shared_group():
    """The RTX 2070 machine with its disk controller in the card's group."""
    return RTX_2070.replacing('0000:00:17.0', group=1,
                              listed=_LSPCI)
