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

"""The view of ``inspect``: cards in use and free, and all about them."""

from gpu_host_prep import catalog

_VFIO = ('vfio', 'pci-stub')
# The states of a card, from most to least in use.
GUEST, HOST, MIXED, UNBOUND, FREE = 'guest', 'host', 'mixed', 'unbound', 'free'


def passes(driver):
    """Whether a driver holds devices for guests."""
    return driver is not None and any(word in driver for word in _VFIO)


def status(host, card):
    """Who has a card.

    :returns: ``guest`` (a process has it open through VFIO), ``free`` (all
        functions are held for guests, nobody has them), ``host`` (drivers of
        the host have all that are bound), ``mixed`` or ``unbound``
    """
    drivers = [function.driver for function in card.functions]
    if all(passes(driver) for driver in drivers):
        return GUEST if any(host.users(function)
                            for function in card.functions) else FREE
    if any(passes(driver) for driver in drivers):
        return MIXED
    return HOST if any(drivers) else UNBOUND


def report(host):
    """Everything as plain JSON types."""
    machine = host.machine
    return {
        'host': {
            'kernel': machine.kernel, 'cpu_vendor': machine.cpu_vendor,
            'iommu': {
                'firmware_table': machine.iommu_table,
                'kind': machine.iommu_kind,
                'active': bool(machine.iommus),
                'units': list(machine.iommus),
                'interrupt_remapping': machine.interrupt_remapping,
                'unsafe_interrupts': machine.unsafe_interrupts},
            'secure_boot': machine.secure_boot,
            'lockdown': machine.lockdown,
            'command_line': list(machine.command_line),
            'numa_nodes': [
                {'node': node.number, 'cpus': len(node.cpus),
                 'memory_mib': node.memory_kib // 1024,
                 'hugepages': {str(size): count for size, count in
                               node.hugepages.items()}}
                for node in machine.nodes]},
        'cards': [_card(host, card) for card in host.cards],
        'nvswitches': [_function(host, switch)
                       for switch in host.nvswitches]}


def _card(host, card):
    gpu = card.gpu
    users = sorted({user for function in card.functions
                    for user in host.users(function)})
    return {
        'address': gpu.address, 'id': gpu.id, 'name': gpu.name,
        'vendor': gpu.vendor_name, 'alias': catalog.alias(gpu),
        'status': status(host, card), 'used_by': users,
        'consumer': catalog.is_consumer(gpu),
        'boot_vga': any(each.boot_vga for each in card.functions),
        'shows_console': any(each.address in host.machine.framebuffers
                             for each in card.functions),
        'displays': [name for each in card.functions
                     for name in each.displays],
        'numa_node': gpu.numa_node, 'iommu_group': gpu.iommu_group,
        'group_others': [
            {'address': each.address, 'id': each.id, 'name': each.name,
             'kind': each.kind, 'driver': each.driver}
            for each in host.group_others(card)],
        'hints': catalog.hints(host, card),
        'functions': [_function(host, each) for each in card.functions]}


def _function(host, function):
    link = function.link
    return {
        'address': function.address, 'id': function.id,
        'class': function.class_code, 'kind': function.kind,
        'name': function.name, 'driver': function.driver,
        'driver_override': function.driver_override,
        'modules': list(function.modules),
        'iommu_group': function.iommu_group,
        'numa_node': function.numa_node,
        'reset_methods': None if function.reset_methods is None
        else list(function.reset_methods),
        'bars': [{'index': bar.index, 'bytes': bar.size, 'type': bar.type,
                  'prefetchable': bar.prefetchable} for bar in function.bars],
        'link': None if link is None else {
            'speed': link.speed, 'width': link.width,
            'max_speed': link.max_speed, 'max_width': link.max_width}}


def table(host):
    """Everything as text, a block of lines for each card."""
    machine = host.machine
    lines = [
        f'Host: Linux {machine.kernel or "?"}, '
        f'IOMMU {_iommu(machine)}, interrupt remapping '
        f'{"on" if machine.interrupt_remapping else "off"}, '
        f'Secure Boot {"on" if machine.secure_boot else "off"}'
        + (f', lockdown {machine.lockdown}'
           if machine.lockdown != 'none' else '')]
    for card in host.cards:
        lines += ['', *_card_lines(host, card)]
    if host.nvswitches:
        lines += ['', f'NVSwitches: {len(host.nvswitches)}']
        lines += ['  ' + line for line in columns(
            [_row(each) for each in host.nvswitches])]
    if not host.cards:
        lines += ['', 'No GPU.']
    return '\n'.join(lines)


def _iommu(machine):
    if machine.iommus:
        return f'{machine.iommu_kind}, on'
    return ('off in the firmware' if machine.iommu_table is None
            else f'{machine.iommu_kind}, off')


def _card_lines(host, card):
    gpu = card.gpu
    state = status(host, card)
    users = sorted({user for each in card.functions
                    for user in host.users(each)})
    meaning = {GUEST: 'in use by ' + ', '.join(users),
               FREE: 'free', HOST: 'in use by the host',
               MIXED: 'not whole: some functions are not for guests',
               UNBOUND: 'no driver'}[state]
    node = '-' if gpu.numa_node is None else gpu.numa_node
    lines = [f'{gpu.address}  {gpu.name or gpu.id} [{gpu.id}]: {meaning}',
             f'  NUMA node {node}, IOMMU group {gpu.iommu_group or "-"}']
    rows = [('function', 'id', 'kind', 'driver', 'group', 'reset', 'BARs',
             'link (best)', 'name')]
    rows += [_row(each) for each in card.functions]
    lines += ['  ' + line for line in columns(rows)]
    others = host.group_others(card)
    if others:
        lines.append('  also in its IOMMU group: ' +
                     ', '.join(each.label for each in others))
    notes = list(catalog.hints(host, card).values())
    if any(each.boot_vga for each in card.functions):
        notes.append('the firmware\'s display (boot VGA)')
    displays = [name for each in card.functions for name in each.displays]
    if displays:
        notes.append('display attached at ' + ', '.join(displays))
    return lines + [f'  note: {note}' for note in notes]


def _row(function):
    link = function.link
    methods = function.reset_methods
    return (
        function.address, function.id, function.kind, function.driver or '-',
        function.iommu_group or '-',
        '?' if methods is None else ','.join(methods) or 'none',
        ' '.join(human(bar.size) + ('' if bar.type != 'io' else ' io')
                 for bar in function.bars) or '-',
        '-' if link is None else
        f'{_speed(link.speed)} x{link.width} '
        f'({_speed(link.max_speed)} x{link.max_width})',
        function.name or '-')


def _speed(text):
    return (text or '?').removesuffix(' PCIe').replace(' GT/s', 'GT/s')


def columns(rows):
    """Lay rows of texts out in columns.

    :returns: list of lines
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return ['  '.join(cell.ljust(width) for cell, width in
                      zip(row, widths)).rstrip() for row in rows]


def human(size):
    """Bytes with a binary unit, as lspci has them: 16M."""
    for unit in ('', 'K', 'M', 'G', 'T'):
        if size < 1024 or size % 1024:
            return f'{size}{unit}'
        size //= 1024
    return f'{size}P'
