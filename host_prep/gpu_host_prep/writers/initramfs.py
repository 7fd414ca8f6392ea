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

"""The files of initramfs-tools (Debian, Ubuntu) and dracut (most others)."""

from gpu_host_prep import merge
from gpu_host_prep.writers import binding
from gpu_host_prep.writers import modules

TOOLS, DRACUT, NONE = 'initramfs-tools', 'dracut', 'none'
MODULES = '/etc/initramfs-tools/modules'
INIT_TOP = '/etc/initramfs-tools/scripts/init-top/gpu-host-prep'
DRACUT_CONF = '/etc/dracut.conf.d/gpu-host-prep.conf'


def kind(root, state):
    """Which of the two makes the host's initramfs, or ``none``."""
    if state.initramfs != 'auto':
        return state.initramfs
    if (root.has_program('update-initramfs') and
            root.exists('/etc/initramfs-tools')):
        return TOOLS
    return DRACUT if root.has_program('dracut') else NONE


def image(initramfs_kind, kernel):
    """Where the initramfs of a kernel is looked for."""
    return {TOOLS: f'/boot/initrd.img-{kernel}',
            DRACUT: f'/boot/initramfs-{kernel}.img'}.get(initramfs_kind)


def configuration(initramfs_kind):
    """Directories and files that an initramfs is made from."""
    return {
        TOOLS: ('/etc/modprobe.d', MODULES, '/etc/initramfs-tools/conf.d',
                '/etc/initramfs-tools/scripts/init-top',
                '/etc/initramfs-tools/hooks'),
        DRACUT: ('/etc/modprobe.d', '/etc/dracut.conf', '/etc/dracut.conf.d',
                 binding.RULES, binding.SCRIPT)}.get(initramfs_kind, ())


def files(initramfs_kind, state, selection):
    drivers = selection.drivers
    if initramfs_kind == TOOLS:
        prologue = [
            '#!/bin/sh', 'PREREQ=""',
            'case "$1" in prereqs) echo "$PREREQ"; exit 0 ;; esac',
            # What the initramfs gives as arguments is not meant for us.
            'set --']
        return [merge.block(MODULES, drivers),
                merge.owned(INIT_TOP, [*prologue,
                                       *binding.script(selection)], 0o755)]
    if initramfs_kind == DRACUT:
        lines = [merge.HEADER,
                 f'force_drivers+=" {" ".join(drivers)} vfio_iommu_type1 "',
                 f'install_items+=" {modules.MODPROBE} {binding.RULES} '
                 f'{binding.SCRIPT} "']
        omitted = modules.blacklist(state, selection)
        if omitted:
            lines.append(f'omit_drivers+=" {" ".join(omitted)} "')
        return [merge.owned(DRACUT_CONF, lines)]
    return []


def commands(initramfs_kind):
    return {TOOLS: (('update-initramfs', '-u', '-k', 'all'),),
            DRACUT: (('dracut', '--force', '--regenerate-all'),)}.get(
                initramfs_kind, ())
