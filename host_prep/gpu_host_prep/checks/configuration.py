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

"""Checks of the configuration that decides what the next boot is like."""

import os

from gpu_host_prep import checks
from gpu_host_prep import modprobe
from gpu_host_prep.writers import initramfs
from gpu_host_prep.writers import modules


@checks.check('not-persistent')
def persistence(context):
    config = modprobe.Config.of(context.root, context.machine)
    rules = ''.join(
        context.root.text(f'/etc/udev/rules.d/{name}') or ''
        for name in context.root.names('/etc/udev/rules.d')
        if name.endswith('.rules'))
    by_rule = {line.partition('KERNEL=="')[2].partition('"')[0]
               for line in rules.splitlines() if 'driver_override' in line}
    for target in context.selection.targets:
        if target.function.driver != target.driver:
            continue                    # That is told already.
        ids = config.options('vfio_pci', 'ids')
        if not (target.address in by_rule or target.function.id in ids or
                context.root.exists(f'/etc/driverctl.d/{target.address}')):
            yield checks.Deviation(
                'not-persistent',
                f'it is bound to {target.driver} now, but nothing says so '
                'for the next boot.',
                'after a reboot a driver of the host has it again.',
                'gpu-host-prep apply.', target.address)


@checks.check('module-order', 'blacklist-missing', 'driver-blacklisted')
def module_order(context):
    config = modprobe.Config.of(context.root, context.machine)
    drivers = context.selection.drivers
    for name in modules.preceded(context.selection):
        known = (name in context.machine.known_modules or
                 name in context.machine.loaded_modules)
        if known and not config.is_blacklisted(name) and not (
                set(config.before(name)) & set(drivers)):
            yield checks.Deviation(
                'module-order',
                f'nothing makes {" or ".join(drivers)} come before {name}.',
                f'if {name} is loaded first, it has the card.',
                f'gpu-host-prep apply writes "softdep {name} pre: '
                f'{" ".join(drivers)}" and, where nothing else needs it, '
                f'"blacklist {name}".')
    for name in context.state.blacklist or ():
        if not config.is_blacklisted(name):
            yield checks.Deviation(
                'blacklist-missing', f'{name} is not blacklisted.',
                'the state file asks for it.', 'gpu-host-prep apply.')
    for name in drivers:
        if config.is_blacklisted(name):
            yield checks.Deviation(
                'driver-blacklisted',
                f'{name} itself is blacklisted, in {config.where(name)}.',
                'udev does not load it for the card.',
                'take that line out.')
    yield from _initramfs_order(context, drivers)


def _initramfs_order(context, drivers):
    """The modules of initramfs-tools are loaded in the order of the file."""
    if initramfs.kind(context.root, context.state) != initramfs.TOOLS:
        return
    lines = (context.root.text(initramfs.MODULES) or '').splitlines()
    names = [line.split()[0].replace('-', '_') for line in lines
             if line.strip() and not line.startswith('#')]
    first = min((names.index(driver) for driver in drivers
                 if driver in names), default=len(names))
    for name in names[:first]:
        if name in modules.preceded(context.selection):
            yield checks.Deviation(
                'module-order',
                f'{initramfs.MODULES} has {name} before '
                f'{" and ".join(drivers)}.',
                f'the initramfs loads {name} first, and it has the card.',
                f'take {name} out of that file, or put it at the end, then '
                'update-initramfs -u.')


@checks.check('initramfs-outdated')
def initramfs_age(context):
    kind = initramfs.kind(context.root, context.state)
    image = initramfs.image(kind, context.machine.kernel)
    made = None if image is None else context.root.modified(image)
    if made is None:
        return
    newer = sorted(path for path in _files(context.root,
                                           initramfs.configuration(kind))
                   if context.root.modified(path) > made)
    if newer:
        yield checks.Deviation(
            'initramfs-outdated',
            f'{image} is older than {", ".join(newer)}.',
            'the drivers are chosen by what is in the initramfs: the next '
            'boot does not know of the change.',
            ' '.join(initramfs.commands(kind)[0]) + ', then reboot.')


def _files(root, names):
    """The files of some directories, and those that are named themselves."""
    for name in names:
        if os.path.isdir(root.path(name)):
            yield from (f'{name}/{each}' for each in root.names(name)
                        if not each.startswith('.'))
        elif root.exists(name):
            yield name
