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

"""What ``up`` can be asked for, and what may change later."""

from nova_gpu_lease.devcloud import config
from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import layout as layout_mod
from nova_gpu_lease.devcloud import layout_file

DEFAULTS = {
    'hosts': 2, 'gpus_per_host': 2, 'layout': None, 'pci_in_placement': False,
    'conductors': 1, 'cells': 1, 'stock': False, 'settings': [],
}
_FLAGS = {
    'hosts': '--hosts', 'gpus_per_host': '--gpus-per-host',
    'layout': '--layout', 'pci_in_placement': '--pci-in-placement',
    'conductors': '--conductors', 'cells': '--cells', 'stock': '--stock',
    'settings': '--set',
}
_HARDWARE = ('hosts', 'gpus_per_host', 'layout')
# What cannot be changed as long as there is data.
_FIXED = (*_HARDWARE, 'cells')


def _check(asked):
    unknown = set(asked) - set(DEFAULTS)
    if unknown:
        raise TypeError(f'unknown options: {sorted(unknown)}')
    asked = {name: value for name, value in asked.items()
             if value is not None}
    if asked.get('conductors', 1) < 1:
        raise exceptions.DevcloudError('--conductors is at least 1.')
    if asked.get('cells', 1) < 1:
        raise exceptions.DevcloudError('--cells is at least 1.')
    if 'layout' in asked and ('hosts' in asked or 'gpus_per_host' in asked):
        raise exceptions.DevcloudError(
            '--layout says which hosts there are; leave --hosts and '
            '--gpus-per-host out.')
    if 'settings' in asked:
        asked['settings'] = [
            config.parse_setting(text) for text in asked['settings']]
    return asked


def _layout(options):
    if options['layout']:
        return layout_file.load(options['layout'])
    return layout_mod.uniform(options['hosts'], options['gpus_per_host'])


def new(asked):
    """Return the options and the layout of a new cloud.

    :param asked: dict of what was asked for; None means not asked for
    :returns: options, Layout
    """
    options = {**DEFAULTS, **_check(asked)}
    if options['layout']:
        options['layout'] = str(options['layout'])
    return options, _layout(options)


def update(state, asked, running):
    """Let a cloud that exists have other options, where that is possible.

    :param running: whether any of its processes runs
    :raises: DevcloudError that names the options that differ
    """
    asked = _check(asked)
    before = {**DEFAULTS, **state.data['options']}
    options = {**before, **asked}
    problems = []
    if options['cells'] != before['cells']:
        problems.append(_FLAGS['cells'])
    if any(name in asked for name in _HARDWARE):
        if 'layout' not in asked and ('hosts' in asked or
                                      'gpus_per_host' in asked):
            options['layout'] = None
        if _layout(options) != state.layout:
            problems += [_FLAGS[name] for name in _HARDWARE if name in asked]
        options = {**options, **{name: before[name] for name in _HARDWARE}}
    if running:
        problems += [_FLAGS[name] for name in asked
                     if name not in _FIXED and
                     options[name] != before[name]]
    if problems:
        hint = ('use "down" first, which removes it' if set(problems) &
                {_FLAGS[name] for name in _FIXED}
                else 'use "down --keep-state" first')
        raise exceptions.DevcloudError(
            f'The devcloud in {state.dir} was made with other values of '
            f'{", ".join(problems)}: it has {_describe(state)}. To change '
            f'that, {hint}.')
    state.data['options'] = options
    state.save()


def _describe(state):
    options = {**DEFAULTS, **state.data['options']}
    hosts = state.layout.hosts
    parts = [f'{len(hosts)} hosts with '
             f'{sum(len(host.gpus) for host in hosts)} GPUs',
             f'{options["conductors"]} conductors',
             f'{options["cells"]} cells',
             '--pci-in-placement' if options['pci_in_placement']
             else '--no-pci-in-placement']
    if options['stock']:
        parts.append('--stock')
    parts += ['--set ' + f'{service}:{group}.{option}={value}'
              for service, group, option, value in options['settings']]
    return ', '.join(parts)
