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

"""The kernel's command line: what it needs, and where boot loaders keep it."""

from gpu_host_prep import lists
from gpu_host_prep import merge

GRUB, SYSTEMD_BOOT, NONE = 'grub', 'systemd-boot', 'none'
DROP_IN = '/etc/default/grub.d/60-gpu-host-prep.cfg'
DEFAULTS = '/etc/default/grub'
CMDLINE = '/etc/kernel/cmdline'
_LOADER_INFO = ('/sys/firmware/efi/efivars/LoaderInfo-'
                '4a67b082-0a4c-41cf-b6c7-440b29bb8c4f')
_BY_KIND = {'intel': ('intel_iommu=on', 'iommu=pt'), 'amd': ('iommu=pt',),
            'smmu': (), 'unknown': ()}


def kind(root, state):
    """Which boot loader the host has: the one that started it, if it says."""
    if state.bootloader != 'auto':
        return state.bootloader
    told = (root.data(_LOADER_INFO) or b'').decode('utf-16-le', 'ignore')
    if 'systemd-boot' in told:
        return SYSTEMD_BOOT
    if root.exists(DEFAULTS) or root.exists('/etc/default/grub.d'):
        return GRUB
    return SYSTEMD_BOOT if root.exists('/etc/kernel') else NONE


def arguments(machine, state):
    """What the kernel should be started with.

    :returns: tuple of arguments
    """
    wanted = list(_BY_KIND[machine.iommu_kind]
                  if state.kernel_arguments is None
                  else state.kernel_arguments)
    if state.hugepages:
        size, count = state.hugepages
        text = f'{size // 1048576}G' if size >= 1048576 else (
            f'{size // 1024}M' if size >= 1024 else f'{size}K')
        wanted += [f'default_hugepagesz={text}', f'hugepagesz={text}',
                   f'hugepages={count}']
    if state.isolated_cpus:
        wanted.append(f'isolcpus={lists.format(state.isolated_cpus)}')
    return tuple(dict.fromkeys(wanted))


def files(root, loader, state, selection):
    machine = selection.host.machine
    wanted = arguments(machine, state)
    if loader == NONE or not wanted:
        return []
    if loader == SYSTEMD_BOOT:
        # Without this file kernel-install takes the line of the running
        # kernel, less what the boot loader adds.
        base = ' '.join(argument for argument in machine.command_line
                        if not argument.startswith(('BOOT_IMAGE=',
                                                    'initrd=')))
        return [merge.words(CMDLINE, wanted, base)]
    # Kernels that are installed later may take their line from there.
    later = [merge.words(CMDLINE, wanted, '')] if root.exists(CMDLINE) else []
    line = f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(wanted)}"'
    if _has_drop_ins(root):
        return [merge.owned(DROP_IN, [merge.HEADER, line]), *later]
    return [merge.block(DEFAULTS, [line]), *later]


def _has_drop_ins(root):
    """Debian and Ubuntu read a directory; others only the one file."""
    if root.exists('/etc/default/grub.d'):
        return True
    return any('default/grub.d' in (root.attribute(f'/usr/sbin/{name}') or '')
               for name in ('grub-mkconfig', 'grub2-mkconfig'))


def commands(root, loader):
    """What makes the boot loader know the new line."""
    if loader == GRUB:
        if root.has_program('update-grub'):
            return (('update-grub',),)
        if root.has_program('grub2-mkconfig'):
            # Fedora and its kin keep the line in an entry of each kernel.
            entries = ('--update-bls-cmdline',) if 'GRUB_ENABLE_BLSCFG=true' \
                in (root.text(DEFAULTS) or '') else ()
            return (('grub2-mkconfig', *entries, '-o',
                     '/boot/grub2/grub.cfg'),)
        if root.has_program('grub-mkconfig'):
            return (('grub-mkconfig', '-o', '/boot/grub/grub.cfg'),)
        return ()
    return tuple(
        ('kernel-install', 'add', kernel, image)
        for kernel in root.names('/lib/modules')
        for image in (f'/lib/modules/{kernel}/vmlinuz',
                      f'/boot/vmlinuz-{kernel}')
        if root.exists(image)) if loader == SYSTEMD_BOOT else ()
