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

"""Checks of the cards: their groups, drivers and resets."""

from gpu_host_prep import catalog
from gpu_host_prep import checks
from gpu_host_prep import inventory

_LEFT = ('the guest does not start: all functions of a card are in one '
         'group, and no driver of the host may have any of them.')
# Code, why it matters, and what to know about getting rid of the driver.
_HOST_DRIVERS = {
    'graphics': ('driver-graphics', 'the host\'s driver has the card, and '
                 'guests cannot have it at the same time.',
                 'gpu-host-prep apply, then reboot; with --runtime at once, '
                 'if nothing uses the card.'),
    'audio': ('driver-audio', _LEFT,
              'gpu-host-prep apply. Do not blacklist the driver if the host '
              'has sound of its own: it is taken by address.'),
    'usb': ('driver-usb', _LEFT,
            'gpu-host-prep apply takes it by address; the driver cannot be '
            'blacklisted, the host\'s own USB needs it.'),
    'ucsi': ('driver-ucsi', _LEFT,
             'gpu-host-prep apply takes it by address.'),
}


@checks.check('driver-graphics', 'driver-audio', 'driver-usb', 'driver-ucsi',
              'driver-other', 'driver-none', 'driver-variant')
def drivers(context):
    for target in context.selection.targets:
        function = target.function
        if function.driver == target.driver:
            continue
        if inventory.passes(function.driver):
            yield checks.Deviation(
                'driver-variant',
                f'bound to {function.driver}, should be {target.driver}.',
                'the card works only in part, or not at all.',
                'gpu-host-prep apply.', function.address)
        elif function.driver is None:
            yield checks.Deviation(
                'driver-none',
                f'the {function.kind} function has no driver; it should have '
                f'{target.driver}.',
                'the first driver of the host that is loaded would take it.',
                'gpu-host-prep apply.', function.address)
        else:
            code, why, fix = _HOST_DRIVERS.get(
                function.kind, ('driver-other', _LEFT,
                                'gpu-host-prep apply.'))
            yield checks.Deviation(
                code, f'the {function.kind} function is bound to '
                f'{function.driver}, should be {target.driver}.', why, fix,
                function.address)


@checks.check('group-not-isolated', 'acs-missing', 'no-iommu-group')
def groups(context):
    host = context.host
    if not host.machine.iommus:
        return                          # Said once, for the whole host.
    for card in context.selection.cards:
        if card.gpu.iommu_group is None:
            yield checks.Deviation(
                'no-iommu-group', 'it is in no IOMMU group.',
                'no guest can have it.',
                'the slot is not behind an IOMMU (behind a volume management '
                'device, for example): use another slot.', card.address)
        others = [each for each in host.group_others(card)
                  if each.address not in context.selection.addresses]
        # Functions of the card itself that the state leaves to the host.
        others += [each for each in card.functions
                   if each.address not in context.selection.addresses and
                   each.iommu_group == card.gpu.iommu_group and
                   each.driver and not inventory.passes(each.driver)]
        if not others:
            continue
        yield checks.Deviation(
            'group-not-isolated',
            f'IOMMU group {card.gpu.iommu_group} also has '
            f'{", ".join(each.label for each in others)}.',
            'a group goes to one guest as a whole: the guest does not start '
            'while a driver of the host has one of the others.',
            'move the card to a slot with a group of its own, switch on ACS '
            'in the firmware, or take the others too ("functions: group").',
            card.address)
        yield from _acs(host, card, others)


def _acs(host, card, others):
    """Name the bridges that the card and the others have in common."""
    bridges = {address for each in (card.gpu, *others)
               for address in each.bridges}
    for address in sorted(bridges):
        bridge = host.functions.get(address)
        if bridge is not None and bridge.acs is False:
            yield checks.Deviation(
                'acs-missing',
                f'the bridge {bridge.label} does not keep what is behind it '
                'apart (no Access Control Services, or off).',
                'that is why the group has more than one device.',
                'switch on ACS in the firmware; if there is no such setting, '
                'use a slot of another bridge, best one at the CPU.', address)


@checks.check('reset-missing', 'reset-quirk')
def resets(context):
    for card in context.selection.cards:
        if catalog.has_bad_reset(card.gpu):
            if 'vendor_reset' not in context.machine.loaded_modules:
                yield checks.Deviation(
                    'reset-quirk',
                    f'{card.gpu.name or card.gpu.id} is known not to come '
                    'back from a reset, and the module vendor_reset is not '
                    'loaded.',
                    'the second server with this card hangs, until the host '
                    'is rebooted.',
                    'install vendor-reset and put it under "modules".',
                    card.address)
        for function in card.functions:
            if function.reset_methods == () and not _bus_is_ours(
                    context, function):
                yield checks.Deviation(
                    'reset-missing',
                    'the kernel knows no way to reset it, and its bus cannot '
                    'be reset because other devices are there too.',
                    'the next server finds what the last one left, memory '
                    'included.',
                    'use a slot with a port of its own, or take all '
                    'functions ("functions: all").', function.address)


def _bus_is_ours(context, function):
    """Whether VFIO can reset the whole bus instead.

    It does when all that is on the bus is held for guests, and a bridge above
    has the switch for it.
    """
    bus = function.address.rpartition(':')[0]
    return bool(function.bridges) and all(
        address in context.selection.addresses
        for address in context.host.functions
        if address.rpartition(':')[0] == bus)
