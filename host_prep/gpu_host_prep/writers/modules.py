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

"""The files of modprobe and of the modules that are loaded at boot."""

from gpu_host_prep import merge
from gpu_host_prep import model

MODPROBE = '/etc/modprobe.d/gpu-host-prep.conf'
LOAD = '/etc/modules-load.d/gpu-host-prep.conf'

# Who takes what when the kernel's own table (modules.alias) cannot be read,
# or a driver is not installed yet.
_GRAPHICS = {
    model.NVIDIA: ('nouveau', 'nvidiafb', 'nvidia', 'nvidia_drm'),
    model.AMD: ('amdgpu', 'radeon'),
    model.INTEL: ('i915', 'xe')}
_KINDS = {'audio': ('snd_hda_intel',), 'usb': ('xhci_pci',),
          'ucsi': ('i2c_nvidia_gpu', 'ucsi_ccg')}


def native(function):
    """Modules of the drivers that a function has without this tool."""
    known = [name for name in function.modules if 'vfio' not in name]
    if function.kind == 'graphics':
        known += _GRAPHICS.get(function.vendor, ())
    elif function.vendor == model.NVIDIA or function.kind != 'ucsi':
        known += _KINDS.get(function.kind, ())
    return tuple(dict.fromkeys(known))


def blacklist(state, selection):
    """Modules that are not to be loaded for a device.

    By default those of the graphics, unless a card that the host keeps needs
    them. Sound and USB are never among them: the host has its own.
    """
    if state.blacklist is not None:
        return state.blacklist
    needed = {name for function in selection.host.functions.values()
              if function.address not in selection.addresses
              for name in native(function)}
    return tuple(dict.fromkeys(
        name for target in selection.targets
        if target.function.kind == 'graphics'
        for name in native(target.function) if name not in needed))


def preceded(selection):
    """Modules before which the drivers for guests have to be loaded."""
    return tuple(dict.fromkeys(
        name for target in selection.targets
        for name in native(target.function)))


def exclusive_ids(selection):
    """Ids that only functions have which vfio-pci is to take.

    :returns: tuple of texts like ``10de:1f02``
    """
    others = {function.id for function in selection.host.functions.values()
              if function.address not in selection.addresses}
    others |= {target.function.id for target in selection.targets
               if target.module != 'vfio_pci'}
    return tuple(dict.fromkeys(
        target.function.id for target in selection.targets
        if target.function.id not in others))


def files(state, selection):
    drivers = selection.drivers
    lines = [merge.HEADER]
    ids = exclusive_ids(selection)
    if ids:
        lines += ['# No device that the host keeps has one of these ids.',
                  f'options vfio-pci ids={",".join(ids)}']
    if state.unsafe_interrupts:
        lines.append('options vfio_iommu_type1 allow_unsafe_interrupts=1')
    lines.append('# Whoever comes first has the device.')
    lines += [f'softdep {name} pre: {" ".join(drivers)}'
              for name in preceded(selection)]
    names = blacklist(state, selection)
    if names:
        lines.append('# Nothing that the host keeps needs these.')
        lines += [f'blacklist {name}' for name in names]
    load = dict.fromkeys((*drivers, 'vfio_iommu_type1', *state.modules))
    return [merge.owned(MODPROBE, lines),
            merge.owned(LOAD, [merge.HEADER, *load])]
