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

"""Checks of the firmware, the kernel and its command line."""

import gzip
import lzma
import zlib

from gpu_host_prep import checks
from gpu_host_prep import lists
from gpu_host_prep.writers import binding
from gpu_host_prep.writers import bootloader
from gpu_host_prep.writers import modules

_FIRMWARE_NAMES = {
    'intel': 'VT-d (also: Intel Virtualization Technology for Directed I/O)',
    'amd': 'IOMMU (also: AMD-Vi, SVM, NB Configuration)',
    'smmu': 'SMMU (the IORT table)', 'unknown': 'VT-d or AMD-Vi'}
_OFF = ('iommu=off', 'intel_iommu=off', 'amd_iommu=off', 'intremap=off',
        'nointremap', 'iommu.passthrough=off')
_SIGNATURE = b'~Module signature appended~\n'


@checks.check('firmware-iommu-off', 'iommu-inactive')
def iommu(context):
    machine = context.machine
    if machine.iommus:
        return
    if machine.iommu_table is None:
        yield checks.Deviation(
            'firmware-iommu-off',
            'the firmware describes no IOMMU (no DMAR, IVRS or IORT table).',
            'without an IOMMU a guest with a device could write to all '
            'memory, so the kernel does not allow it.',
            f'switch on {_FIRMWARE_NAMES[machine.iommu_kind]} in the '
            'firmware setup; in a virtual machine give it an IOMMU.')
    elif not _missing(context) and not _configured_only(context):
        yield checks.Deviation(
            'iommu-inactive',
            f'the firmware has the table {machine.iommu_table} and the '
            'kernel arguments are there, but no IOMMU is in use.',
            'no device is in a group, so none can be given to a guest.',
            'look for DMAR, AMD-Vi or arm-smmu in the kernel log: the '
            'firmware\'s table may be broken (update the firmware), or the '
            'kernel was built without the driver.')


def _missing(context):
    """Wanted arguments that neither run nor wait for a reboot."""
    configured = _configured(context)
    return [argument for argument in _wanted(context)
            if not _has(context.machine.command_line, argument) and
            not _has(configured, argument)]


def _configured_only(context):
    """Wanted arguments that come with the next boot."""
    configured = _configured(context)
    return [argument for argument in _wanted(context)
            if not _has(context.machine.command_line, argument) and
            _has(configured, argument)]


def _has(words, argument):
    """Whether an argument is there, maybe with more: intel_iommu=on,sm_on."""
    return any(word == argument or word.startswith(f'{argument},')
               for word in words)


def _wanted(context):
    return bootloader.arguments(context.machine, context.state)


def _configured(context):
    """The words of the files that the boot loader's menu is made from."""
    root = context.root
    words = []
    for path in (bootloader.CMDLINE, bootloader.DEFAULTS, *(
            f'/etc/default/grub.d/{name}' for name in
            root.names('/etc/default/grub.d') if name.endswith('.cfg'))):
        for line in (root.text(path) or '').splitlines():
            if not line.lstrip().startswith('#'):
                words += line.replace('"', ' ').replace("'", ' ').split()
    return words


@checks.check('kernel-argument-missing', 'reboot-pending')
def kernel_arguments(context):
    for argument in _missing(context):
        yield checks.Deviation(
            'kernel-argument-missing',
            f'the kernel was started without {argument}.',
            _reason_for(argument),
            'gpu-host-prep apply, then reboot.')
    waiting = _configured_only(context)
    if waiting:
        yield checks.Deviation(
            'reboot-pending',
            f'{" ".join(waiting)} is in the boot loader\'s configuration, '
            'but the kernel was started before.',
            'the arguments have no effect yet.', 'reboot the host.')
    packages = context.root.text('/run/reboot-required.pkgs') or ''
    kernels = [name for name in packages.split()
               if name.startswith(('linux-', 'kernel'))]
    if kernels:
        yield checks.Deviation(
            'reboot-pending',
            f'{", ".join(sorted(set(kernels)))} was updated since the boot.',
            'what is checked here is the old kernel.',
            'reboot the host, then check again.')
    written = [path for path in (modules.MODPROBE, binding.RULES)
               if (context.root.modified(path) or 0) >
               context.machine.boot_time]
    if written and any(target.function.driver != target.driver
                       for target in context.selection.targets):
        yield checks.Deviation(
            'reboot-pending',
            f'{", ".join(written)} was written after the host was started.',
            'functions still have the drivers of before.',
            'reboot the host, or gpu-host-prep apply --runtime.')


def _reason_for(argument):
    name = argument.partition('=')[0]
    return {
        'intel_iommu': 'VT-d stays off unless the distribution built it on.',
        'iommu': 'the host\'s own devices are slowed down by translation '
        'that only guests need.',
        'hugepages': 'servers of flavors with huge pages do not start here.',
        'hugepagesz': 'the pages would have another size.',
        'default_hugepagesz': 'the pages would have another size.',
        'isolcpus': 'the host\'s processes run on CPUs of pinned servers.',
    }.get(name, 'the state file asks for it.')


@checks.check('kernel-argument-conflict', 'acs-override')
def conflicting_arguments(context):
    for argument in context.machine.command_line:
        if argument in _OFF and argument not in _wanted(context):
            yield checks.Deviation(
                'kernel-argument-conflict',
                f'the kernel was started with {argument}.',
                'it switches off what passthrough needs, whatever the other '
                'arguments say.',
                'take it out of the boot loader\'s configuration '
                '(/etc/default/grub or /etc/kernel/cmdline), then reboot.')
        if argument.startswith('pcie_acs_override'):
            yield checks.Deviation(
                'acs-override', f'the kernel was started with {argument}.',
                'the groups then pretend that devices cannot reach each '
                'other; a guest may read and write what belongs to another.',
                'take it out, and move cards to slots with a group of '
                'their own.')


@checks.check('interrupt-remapping-off', 'unsafe-interrupts')
def interrupts(context):
    machine = context.machine
    if not machine.iommus:
        return
    wanted = context.state.unsafe_interrupts
    if not machine.interrupt_remapping and not machine.unsafe_interrupts:
        yield checks.Deviation(
            'interrupt-remapping-off',
            'interrupts do not go through the IOMMU.',
            'VFIO refuses to start a guest with a device ("No interrupt '
            'remapping"), because it could send interrupts to the host.',
            'switch on interrupt remapping (or x2APIC) in the firmware'
            + (', or reboot for the option that allows it to take effect.'
               if wanted else '; if the machine has none and its guests are '
               'trusted, say "unsafe_interrupts: true" in the state file.'))
    if machine.unsafe_interrupts and not wanted:
        yield checks.Deviation(
            'unsafe-interrupts',
            'vfio_iommu_type1 allows unsafe interrupts.',
            'a guest with a device can send any interrupt to the host'
            + (', although this machine could prevent it.'
               if machine.interrupt_remapping else '.'),
            'take allow_unsafe_interrupts out of /etc/modprobe.d and the '
            'kernel\'s arguments, or say "unsafe_interrupts: true" in the '
            'state file if all guests are trusted.')


@checks.check('module-missing', 'module-not-loaded', 'secure-boot-lockdown')
def vfio_modules(context):
    machine = context.machine
    wanted = dict.fromkeys((*context.selection.drivers,
                            *context.state.modules))
    for name in wanted:
        if name in machine.loaded_modules:
            continue
        if name not in machine.known_modules:
            yield checks.Deviation(
                'module-missing',
                f'Linux {machine.kernel} has no module {name}.',
                'nothing can hold the card for guests.',
                'install the package with the modules of this kernel: '
                'linux-modules-extra on Ubuntu, the kernel without "cloud" '
                'on Debian, kernel-modules on Fedora.')
        elif (machine.secure_boot or machine.lockdown != 'none') and \
                _is_signed(context.root, machine.kernel, name) is False:
            yield checks.Deviation(
                'secure-boot-lockdown',
                f'the module {name} has no signature, and the kernel is '
                f'locked down (Secure Boot '
                f'{"on" if machine.secure_boot else "off"}, lockdown '
                f'{machine.lockdown}).',
                'a locked-down kernel does not load it.',
                'use the distribution\'s signed module, or sign it with a '
                'key that mokutil has enrolled.')
        elif name in context.state.modules and not _is_built_in(
                context.root, machine.kernel, name):
            yield checks.Deviation(
                'module-not-loaded', f'the module {name} is not loaded.',
                'the state file asks for it.',
                f'gpu-host-prep apply, then reboot or "modprobe {name}".')


def _is_built_in(root, kernel, name):
    table = root.attribute(f'/lib/modules/{kernel}/modules.builtin') or ''
    return any(line.rpartition('/')[2].replace('-', '_') == f'{name}.ko'
               for line in table.splitlines())


def _is_signed(root, kernel, name):
    """Whether a module has a signature; None if it cannot be told."""
    table = root.attribute(f'/lib/modules/{kernel}/modules.dep') or ''
    for line in table.splitlines():
        path = line.partition(':')[0]
        last = path.rpartition('/')[2].replace('-', '_')
        if last.partition('.ko')[0] == name:
            break
    else:
        return None                     # Built in, or unknown.
    data = root.data(f'/lib/modules/{kernel}/{path}')
    if data is None:
        return None
    try:
        if path.endswith('.xz'):
            data = lzma.decompress(data)
        elif path.endswith('.gz'):
            data = gzip.decompress(data)
        elif not path.endswith('.ko'):
            return None
    except (lzma.LZMAError, OSError, EOFError, zlib.error):
        return None
    return data.endswith(_SIGNATURE)


@checks.check('hugepages-missing', 'cpus-not-isolated')
def resources(context):
    machine, state = context.machine, context.state
    if state.hugepages:
        size, count = state.hugepages
        there = sum(node.hugepages.get(size, 0) for node in machine.nodes)
        if there < count:
            nodes = ', '.join(
                f'node {node.number}: {node.hugepages.get(size, 0)}'
                for node in machine.nodes)
            yield checks.Deviation(
                'hugepages-missing',
                f'{there} huge pages of {size} KiB are there ({nodes}); '
                f'{count} should be.',
                'servers of flavors with huge pages find no room.',
                'gpu-host-prep apply, then reboot: later, memory is in '
                'pieces. If they were asked for, there is too little memory.')
    missing = set(state.isolated_cpus) - set(machine.isolated_cpus)
    if missing:
        yield checks.Deviation(
            'cpus-not-isolated',
            f'CPUs {lists.format(missing)} are not isolated.',
            'the host\'s processes run on CPUs of pinned servers.',
            'gpu-host-prep apply, then reboot.')
