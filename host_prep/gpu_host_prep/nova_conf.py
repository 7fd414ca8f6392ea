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

"""The lines for nova.conf and the flavors that fit a host.

Nova reads what is printed here; that it can is tested in the repository of
nova-gpu-lease, with Nova's own parsers.
"""

import json
import shlex

from gpu_host_prep import catalog
from gpu_host_prep import lists
from gpu_host_prep import numa

PARTS = ('compute', 'control', 'flavors')
_COMPANION = 'ib'
# GiB. A CUDA toolkit with its driver takes about 15, what is built on it as
# much again; images of some GiB are too small for either.
_DISK = 100
_MIN_DISK = 40
_MELLANOX = '15b3'
_INFINIBAND = '0207'


def text(host, state, selection, part=None):
    """Print what Nova needs.

    :param part: one of ``PARTS``; None for all
    """
    writers = {'compute': _compute, 'control': _control, 'flavors': _flavors}
    blocks = []
    for name in PARTS if part is None else (part,):
        blocks.append('\n'.join(writers[name](host, state, selection)))
    return '\n\n'.join(blocks)


def labels(functions, name):
    """Group functions by the alias that they get.

    With ``pci_in_placement`` Nova refuses an alias of several ids: models of
    the same name then have their product id at the end.

    :param name: gives the name of a function
    :returns: dict of alias to list of functions
    """
    ids = {}
    for function in functions:
        ids.setdefault(name(function), set()).add(function.id)
    found = {}
    for function in functions:
        alias = name(function)
        if len(ids[alias]) > 1:
            alias = f'{alias}-{function.device}'
        found.setdefault(alias, []).append(function)
    return found


def models(selection):
    """The cards of each model.

    :returns: dict of alias to list of cards
    """
    cards = {card.gpu: card for card in selection.cards}
    return {name: [cards[gpu] for gpu in gpus] for name, gpus in
            labels(cards, catalog.alias).items()}


def ports(host, state):
    """The fast network ports, by the alias that they get."""
    name = state.nova.get('companion', _COMPANION)
    return labels(companions(host), lambda _function: name)


def companions(host):
    """InfiniBand and other fast ports that the host does not use."""
    return [
        function for function in host.functions.values()
        if (function.class_code.startswith(_INFINIBAND) or
            function.vendor == _MELLANOX and function.kind == 'network') and
        not set(function.interfaces) & host.machine.interfaces_up and
        not function.virtual_functions]


def device_type(function):
    """What Nova, by way of libvirt, calls a function."""
    if function.physical_function:
        return 'type-VF'
    return 'type-PF' if function.total_vfs else 'type-PCI'


def _option(name, value):
    return f'{name} = {value}'


def _json(**values):
    return json.dumps(values)


def device_specs(selection):
    """``[pci] device_spec``: by ids, or by addresses where cards are kept.

    Only the graphics: the other functions of a card are held for guests
    because their group has to be, and no guest needs them to compute.
    """
    lines = []
    taken = {card.gpu.address for card in selection.cards}
    for cards in models(selection).values():
        gpu = cards[0].gpu
        same = [function for function in selection.host.functions.values()
                if function.id == gpu.id]
        if all(function.address in taken for function in same):
            lines.append(_json(vendor_id=gpu.vendor, product_id=gpu.device))
        else:
            lines += [_json(address=card.gpu.address) for card in cards]
    return lines


def aliases(host, state, selection):
    """``[pci] alias``: one a model, and one for the fast ports."""
    firsts = {name: cards[0].gpu for name, cards in models(selection).items()}
    firsts |= {name: functions[0] for name, functions in
               ports(host, state).items()}
    return [_json(name=name, vendor_id=function.vendor,
                  product_id=function.device,
                  device_type=device_type(function))
            for name, function in firsts.items()]


def _compute(host, state, selection):
    cpus = numa.split_cpus(host.machine, state)
    lines = ['# nova.conf of nova-compute on this host', '[pci]']
    lines += [_option('device_spec', spec)
              for spec in device_specs(selection)]
    lines += [_option('device_spec', _json(address=function.address))
              for function in companions(host)]
    lines.append('# Also here: a resize looks the aliases up on the host.')
    lines += [_option('alias', alias)
              for alias in aliases(host, state, selection)]
    lines += ['# Each GPU becomes a resource provider in Placement. Once on, '
              'it cannot be', '# switched off again.',
              _option('report_in_placement', 'true')]
    if cpus.dedicated and cpus.shared:
        lines += ['', '[compute]',
                  '# For pinned servers; the rest is for the host and for '
                  'emulator threads.',
                  _option('cpu_dedicated_set', lists.format(cpus.dedicated)),
                  _option('cpu_shared_set', lists.format(cpus.shared))]
    if not state.hugepages and host.machine.nodes:
        count = numa.sensible_hugepages(host.machine, state)
        lines += ['', '# No huge pages: "hugepages: {size: 1G, count: '
                  f'{count}}}" in the state file', '# would leave the host '
                  'what it needs.']
    return lines


def _control(host, state, selection):
    lines = ['# nova.conf of nova-api, nova-conductor and nova-scheduler; '
             'add to what is there', '[pci]']
    lines += [_option('alias', alias)
              for alias in aliases(host, state, selection)]
    lines += [
        '', '[filter_scheduler]',
        '# Only when every host with GPUs has report_in_placement.',
        _option('pci_in_placement', 'true'),
        _option('available_filters', 'nova.scheduler.filters.all_filters'),
        _option('available_filters',
                'nova_gpu_lease.scheduler.filters.GPULeaseFilter'),
        '# NUMATopologyFilter is for the pinned flavors.',
        _option('enabled_filters', ','.join((
            'ComputeFilter', 'ComputeCapabilitiesFilter',
            'ImagePropertiesFilter', 'ServerGroupAntiAffinityFilter',
            'ServerGroupAffinityFilter', 'NUMATopologyFilter',
            'GPULeaseFilter'))),
        _option('weight_classes', 'nova.scheduler.weights.all_weighers,'
                'nova_gpu_lease.scheduler.weights.GPULeaseWeigher'),
        '', '[gpu_lease]']
    if ports(host, state):
        lines += ['# Those of the aliases that are GPUs.',
                  _option('aliases', ','.join(models(selection)))]
    for option, example in (('default_duration', '4h'),
                            ('max_duration', '7d')):
        value = state.nova.get(option)
        lines.append(_option(option, value) if value
                     else '#' + _option(option, example))
    return lines


def _flavors(host, state, selection):
    lines = ['# Flavors; run as an administrator']
    for name, cards in models(selection).items():
        size = numa.share(host.machine, state, selection, cards)
        if size is None:
            lines.append(f'# {name}: the host has no NUMA nodes in sysfs, so '
                         'no size can be told.')
            continue
        lines += _of_model(host, state, name, cards, size)
    minimum = state.nova.get('min_disk', _MIN_DISK)
    lines += ['# Images with CUDA need room: Nova refuses flavors with less.',
              f'#openstack image set --min-disk {minimum} --min-ram 8192 '
              'IMAGE']
    return lines


def _of_model(host, state, name, cards, size):
    lines = [f'# {name}: one of {size.most} on the NUMA node that has most of '
             'them']
    lines.append(_flavor(host, state, f'gpu-{name}', {name: 1}, size))
    if size.most > 1:
        lines += ['# all of one NUMA node',
                  _flavor(host, state, f'gpu-{name}-x{size.most}',
                          {name: size.most}, size)]
    for other in ports(host, state):
        lines += ['# with a fast network port of the same NUMA node',
                  _flavor(host, state, f'gpu-{name}-{other}',
                          {name: 1, other: 1}, size)]
    if any(catalog.is_consumer(card.gpu) for card in cards):
        lines += ['# for Windows: the driver of a consumer card looks for a '
                  'hypervisor',
                  _flavor(host, state, f'gpu-{name}-windows', {name: 1}, size,
                          ('hw:hide_hypervisor_id', 'true'))]
    return lines


def _flavor(host, state, name, labels, size, *more):
    """One command.

    :param labels: dict of alias to how many of it a server gets
    """
    count = next(iter(labels.values()))
    properties = [
        ('pci_passthrough:alias',
         ','.join(f'{alias}:{number}' for alias, number in labels.items())),
        ('hw:cpu_policy', 'dedicated'), ('hw:numa_nodes', '1')]
    if numa.split_cpus(host.machine, state).shared:
        properties.append(('hw:emulator_threads_policy', 'share'))
    if size.known_node:
        properties.append(('hw:pci_numa_affinity_policy', 'required'))
    if state.hugepages:
        kib = state.hugepages[0]
        properties.append(('hw:mem_page_size',
                           f'{kib // 1048576}GB' if kib >= 1048576 else
                           f'{kib // 1024}MB' if kib >= 1024 else f'{kib}KB'))
    words = ['openstack', 'flavor', 'create', name,
             '--vcpus', str(size.cpus * count),
             '--ram', str(size.memory * count),
             '--disk', str(state.nova.get('disk', _DISK))]
    for key, value in (*properties, *more):
        words += ['--property', f'{key}={value}']
    return shlex.join(words)
