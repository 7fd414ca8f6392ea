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

"""What is known of GPU models beyond what the kernel tells.

Kept short on purpose: a model that is not here works like any other, it only
gets a plainer alias and no hints.
"""

import re

from gpu_host_prep import model

# Product id: (alias, MIG, NVLink without an NVSwitch in the host). Source:
# pci.ids and NVIDIA's MIG user guide.
_NVIDIA = {
    '13f2': ('m60', False, False), '15f8': ('p100', False, False),
    '1b38': ('p40', False, False), '1bb3': ('p4', False, False),
    '1db4': ('v100', False, False), '1db1': ('v100sxm', False, True),
    '1db5': ('v100sxm', False, True), '1db6': ('v100', False, False),
    '1eb8': ('t4', False, False), '20b0': ('a100', True, True),
    '20b2': ('a100', True, True), '20b5': ('a100pcie', True, False),
    '20f1': ('a100pcie', True, False), '20b7': ('a30', True, False),
    '2235': ('a40', False, False), '2236': ('a10', False, False),
    '2330': ('h100', True, True), '2331': ('h100pcie', True, False),
    '2321': ('h100nvl', True, True), '2335': ('h200', True, True),
    '233b': ('h200nvl', True, True), '2342': ('gh200', True, True),
    '2345': ('gh200', True, True), '2348': ('gh200', True, True),
    '26b5': ('l40', False, False),
    '26b9': ('l40s', False, False), '27b8': ('l4', False, False),
    '2901': ('b200', True, True), '2941': ('gb200', True, True),
    '3182': ('b300', True, True), '31c2': ('gb300', True, True),
}
_AMD = {
    '738c': 'mi100', '7408': 'mi250x', '740c': 'mi250', '740f': 'mi210',
    '74a0': 'mi300a', '74a1': 'mi300x', '74a5': 'mi325x', '75a0': 'mi350x',
    '75a3': 'mi355x', '74b5': 'mi300xvf', '7410': 'mi210vf',
}
# Need a vfio driver of their own, for memory that the CPU shares; the ids
# are those of drivers/vfio/pci/nvgrace-gpu in Linux.
_GRACE = ('2342', '2345', '2348', '2941', '31c2')
GRACE_DRIVER = 'nvgrace_gpu_vfio_pci'

# These hang when a guest is stopped, and cannot be used again before the host
# is rebooted, without the out-of-tree module vendor-reset, whose list this is.
_BAD_RESET = re.compile(
    r'67[cde][0-9a-f]|6fdf|699f|698[0-9a-f]|694[0-9a-f]'     # Polaris
    r'|686[0-9a-f]|687f|66a[0-9a-f]'                         # Vega 10, 20
    r'|731[0-9a-f]|736[0-2]|734[0-9a-f]')                    # Navi 10, 12, 14

_CONSUMER = re.compile(r'GeForce|TITAN|Radeon (?!Pro|Instinct)|\bArc\b',
                       re.IGNORECASE)


def alias(gpu):
    """A name for ``[pci] alias``: letters, digits, ``-`` and ``_``."""
    if gpu.vendor == model.NVIDIA and gpu.device in _NVIDIA:
        return _NVIDIA[gpu.device][0]
    if gpu.vendor == model.AMD and gpu.device in _AMD:
        return _AMD[gpu.device]
    # "TU106 [GeForce RTX 2070]": the product is in brackets.
    product = re.search(r'\[([^\]]+)\]', gpu.name)
    text = (product.group(1) if product else gpu.name).lower()
    text = text.partition('/')[0]
    for word in ('geforce', 'nvidia', 'tesla', 'radeon', 'instinct'):
        text = text.replace(word, '')
    return re.sub(r'[^a-z0-9]', '', text) or f'gpu{gpu.vendor}{gpu.device}'


def is_consumer(gpu):
    """Whether a card's driver for Windows used to refuse virtual machines."""
    return _CONSUMER.search(gpu.name) is not None


def driver(gpu, known_modules):
    """The vfio driver that fits a GPU best, of those the kernel has."""
    if (gpu.vendor == model.NVIDIA and gpu.device in _GRACE and
            GRACE_DRIVER in known_modules):
        return GRACE_DRIVER.replace('_', '-')
    return 'vfio-pci'


def has_bad_reset(gpu):
    """Whether a GPU is known not to come back from a reset."""
    return (gpu.vendor == model.AMD and
            _BAD_RESET.fullmatch(gpu.device) is not None)


def hints(host, card):
    """What to know before a card is given to guests.

    :returns: dict of ``nvlink``, ``mig``, ``sriov``, ``board`` to a sentence
    """
    gpu = card.gpu
    found = {}
    _alias, mig, nvlink = _NVIDIA.get(
        gpu.device if gpu.vendor == model.NVIDIA else None,
        ('', False, False))
    if gpu.vendor == model.NVIDIA and host.nvswitches:
        found['nvlink'] = (
            f'NVLink through {len(host.nvswitches)} NVSwitches: guests with '
            'some of the GPUs need a fabric manager on the host, or give all '
            'GPUs and switches to one guest')
    elif nvlink:
        found['nvlink'] = 'the model has NVLink'
    if mig:
        found['mig'] = (
            'the model has MIG: it must be off before the card is given to a '
            'guest, which may switch it on for itself')
    if gpu.total_vfs:
        enabled = len(gpu.virtual_functions)
        found['sriov'] = (
            f'SR-IOV with up to {gpu.total_vfs} virtual functions, {enabled} '
            'on; Nova calls the card type-PF')
    if gpu.physical_function:
        found['sriov'] = f'virtual function of {gpu.physical_function}'
    board = [each.address for each in host.cards if each is not card and
             not each.is_virtual and not card.is_virtual and
             each.gpu.id == gpu.id and len(gpu.bridges) > 1 and
             each.gpu.bridges[:-1] == gpu.bridges[:-1]]
    if board:
        found['board'] = ('shares a PCIe switch, and maybe the board, with ' +
                          ', '.join(board))
    return found
