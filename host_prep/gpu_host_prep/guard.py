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

"""What may not be taken from the host: its disks, network and console.

Asked before a file is written and again before a driver is changed. There is
no switch to overrule it but ``boot_vga: pass``, for hosts whose operators
reach them by the network.
"""

import dataclasses

from gpu_host_prep import inventory

# Consoles that somebody can look at without a screen.
_SERIAL = ('ttyS', 'ttyA', 'ttyUSB', 'hvc')
# Every code with what it means; messages begin with the code.
CODES = {
    'carries-disk': 'a disk is behind the function',
    'carries-network': 'a network interface in use is behind the function',
    'shows-console': 'the function shows the only console of the host',
    'boot-vga': "the function is the firmware's display",
    'used-by-process': 'a program of the host has the card open',
    'used-by-guest': 'a guest has the card',
    'group-shared': "a driver of the host has another device of its group",
    'no-iommu-group': 'no IOMMU keeps the function apart',
    'driver-missing': 'the kernel has no such driver',
}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """One reason not to do something."""

    code: str
    address: str
    text: str

    def __str__(self):
        return f'refused: {self.code}: {self.address}: {self.text}'


def for_files(selection, state):
    """What speaks against taking the functions at the next boot."""
    found = []
    for target in selection.targets:
        found += _losses(selection.host, target.function, state)
    return found


def for_runtime(selection, state):
    """What speaks against taking the functions now."""
    found = []
    host = selection.host
    for target in selection.targets:
        function = target.function
        found += _losses(host, function, state)
        found += _group(selection, function)
        if target.module not in host.machine.known_modules | \
                host.machine.loaded_modules:
            found.append(Refusal(
                'driver-missing', function.address,
                f'Linux {host.machine.kernel} has no module {target.module}; '
                'install the package with the modules of this kernel '
                '(linux-modules-extra on Ubuntu cloud images, linux-image '
                'without "cloud" on Debian).'))
        if function.driver != target.driver:
            found += (for_release(host, function) or
                      _users(host, function))
    return found


def for_release(host, function):
    """What speaks against giving a function back to the host now."""
    users = host.users(function)
    if users and inventory.passes(function.driver):
        return [Refusal(
            'used-by-guest', function.address,
            f'{", ".join(users)} has it; stop or shelve the server first.')]
    return []


def _losses(host, function, state):
    found = []
    if function.blocks:
        found.append(Refusal('carries-disk', function.address,
                             _disk_text(host, function)))
    used = [name for name in function.interfaces
            if name in host.machine.interfaces_up]
    if used:
        found.append(Refusal(
            'carries-network', function.address,
            f'the network interface {", ".join(used)} is behind it and in '
            'use; a guest cannot have it too.'))
    if state.boot_vga != 'pass':
        found += _console(host, function)
    return found


def _disk_text(host, function):
    uses = sorted({
        place for name, places in host.machine.mounts.items()
        if any(name == disk or name.startswith(disk)
               for disk in function.blocks) for place in places})
    disks = ', '.join(function.blocks)
    if uses:
        return (f'{disks} is behind it, and used as {", ".join(uses)}; the '
                'host would lose it.')
    return (f'{disks} is behind it; the host would lose it. Remove the disk, '
            'or move it to another controller.')


def _console(host, function):
    """The screen counts if nothing else shows what the kernel says."""
    others = [name for name in host.machine.consoles
              if name.startswith(_SERIAL)]
    if function.address in host.machine.framebuffers and not others:
        return [Refusal(
            'shows-console', function.address,
            'it shows the only console of the host. Add a serial console '
            '(console=ttyS0,115200), or say "boot_vga: pass" in the state '
            'file if the host is only reached by the network.')]
    if function.boot_vga:
        return [Refusal(
            'boot-vga', function.address,
            'the firmware shows its screen on it. Choose another card as the '
            'primary display in the firmware, or say "boot_vga: pass" in the '
            'state file.')]
    return []


def _group(selection, function):
    host = selection.host
    if function.iommu_group is None:
        return [Refusal(
            'no-iommu-group', function.address,
            'it is in no IOMMU group, so no guest can have it; "gpu-host-prep '
            'assert" says why.')]
    blocking = [
        each for each in host.group(function)
        if each.kind != 'bridge' and each.driver is not None and
        each.address not in selection.addresses and
        not inventory.passes(each.driver)]
    if not blocking:
        return []
    return [Refusal(
        'group-shared', function.address,
        f'IOMMU group {function.iommu_group} also has '
        f'{", ".join(each.label for each in blocking)}. The kernel gives a '
        'group to a guest as a whole or not at all: move the card to another '
        'slot, or take the others too ("functions: group").')]


def _users(host, function):
    users = host.users(function)
    if not users:
        return []
    return [Refusal(
        'used-by-process', function.address,
        f'{", ".join(users)} has it open; taking its driver away would hang '
        'or crash. Stop what uses the card, or reboot after "apply".')]
