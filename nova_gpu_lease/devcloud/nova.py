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

"""Nova's configuration: what its services and its commands are told."""

import json

import nova.conf

from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import config
from nova_gpu_lease.devcloud import layout as layout_mod
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import state as state_mod

SERVICE_DOWN_TIME = 12
DRIVER = 'gpu_lease_devcloud.DevcloudDriver'


def config_file(state):
    """Return the path of the controllers' nova.conf."""
    return state.path('etc', 'nova', 'nova.conf')


def compute_config_file(state, host):
    """Return the path of a host's nova.conf."""
    return state.path('etc', f'nova-compute-{host}', 'nova.conf')


def controllers(state):
    """Return the host names of the services that are not nova-compute."""
    return ['scheduler', *(f'conductor{number}' for number in
                           range(1, state.option('conductors') + 1)),
            *(f'conductor-{cell}' for cell in cells.separate(state))]


def service_config_files(state, host, cell=None):
    """Return the files of a controller's service, which has its own host.

    :param cell: the name of the cell whose conductor it is
    """
    return [cell_config_file(state, cell) if cell else config_file(state),
            state.path('etc', 'nova', f'{host}.conf')]


def cell_config_file(state, cell):
    """Return the path of the nova.conf of a cell's conductor."""
    return state.path('etc', f'nova-{cell}', 'nova.conf')


def manage_config_files(state, cell='cell1'):
    """Return the files of nova-manage, for what concerns one cell."""
    return [config_file(state), state.path('etc', 'nova', f'{cell}.conf')]


def configure(state):
    """Write all of Nova's configuration."""
    text = packages.data_file('nova', 'api-paste.ini').read_text()
    if not state.option('stock'):
        from nova_gpu_lease.api import paste
        text = paste.insert_filter(text)
    state.write(text, 'etc', 'nova', 'api-paste.ini')
    state.make('nova', 'lock')
    config.write(state, 'nova', _controller(state),
                 'etc', 'nova', 'nova.conf')
    for cell in cells.names(state):
        state.write(config.render({'database': {
            'connection': state.database(cells.database(cell), 'nova')}}),
            'etc', 'nova', f'{cell}.conf')
    for cell in cells.separate(state):
        config.write(state, 'nova', _cell_conductor(state, cell),
                     'etc', f'nova-{cell}', 'nova.conf')
    for host in controllers(state):
        state.write(config.render({'DEFAULT': {'host': host}}),
                    'etc', 'nova', f'{host}.conf')
    for host in state.layout.hosts:
        _configure_host(state, host)


def _configure_host(state, host):
    """Write what one host's nova-compute and its driver read."""
    home = state.make('hosts', host.name)
    state.write(json.dumps(_host_dict(host), indent=1),
                'hosts', host.name, 'host.json')
    sections = _common(state, cells.of_host(state, host.name))
    sections['DEFAULT'].update({
        'host': host.name, 'state_path': home, 'compute_driver': DRIVER,
        'instances_path': state.make('hosts', host.name, 'instances')})
    sections['pci']['device_spec'] = _device_spec(host)
    sections['oslo_concurrency'] = {
        'lock_path': state.make('hosts', host.name, 'lock')}
    config.write(state, 'nova', sections, 'etc',
                 f'nova-compute-{host.name}', 'nova.conf')


def _host_dict(host):
    return layout_mod.Layout(hosts=(host,)).to_dict()['hosts'][0]


def _device_spec(host):
    """Return one line for each kind of GPU of a host.

    Devices in an NVLink group carry it as a tag, by address.
    """
    specs = []
    for gpu in host.gpus:
        spec = {'vendor_id': layout_mod.VENDOR_ID,
                'product_id': gpu.product_id}
        if gpu.nvlink_group is not None:
            spec = {'address': gpu.address, 'nvlink_group': gpu.nvlink_group}
        if spec not in specs:
            specs.append(spec)
    return [json.dumps(spec) for spec in specs]


def _aliases(state):
    """Return one alias for each GPU model, of the model's name."""
    return [json.dumps({
        'name': model, 'vendor_id': layout_mod.VENDOR_ID,
        'product_id': product_id, 'device_type': 'type-PCI'})
        for model, product_id in state.layout.models.items()]


def _common(state, cell=None):
    """Return the sections that every service of Nova has.

    :param cell: the name of its cell; None for what serves the API
    """
    sections = config.messaging(
        state, cells.virtual_host(state, cell) if cell else '')
    sections['DEFAULT'].update({
        'my_ip': state_mod.HOST,
        'report_interval': 2, 'service_down_time': SERVICE_DOWN_TIME,
        'periodic_fuzzy_delay': 0,
        'update_resources_interval': 20,
        'sync_power_state_interval': 20,
        'vif_plugging_timeout': 0, 'vif_plugging_is_fatal': 'false',
        # Of this Nova keeps 20 seconds back for its own cleaning up.
        'manager_shutdown_timeout': 24, 'graceful_shutdown_timeout': 34,
        'reserved_host_memory_mb': 0,
    })
    in_placement = str(bool(state.option('pci_in_placement'))).lower()
    service_user = config.user(state, 'nova')
    sections.update({
        'api': {'auth_strategy': 'keystone'},
        'keystone_authtoken': config.authtoken(state, 'nova'),
        'service_user': {**service_user, 'send_service_user_token': 'true'},
        'placement': service_user,
        'neutron': {**service_user,
                    'metadata_proxy_shared_secret':
                        state.password('metadata')},
        'glance': {'region_name': state_mod.REGION,
                   'api_servers': state.url('glance')},
        'pci': {'alias': _aliases(state), 'report_in_placement': in_placement},
        'filter_scheduler': {'pci_in_placement': in_placement},
        'oslo_concurrency': {'lock_path': state.path('nova', 'lock')},
        'vnc': {'enabled': 'false'},
    })
    return sections


def _controller(state, cell=None):
    """Return the sections of nova-api, nova-conductor, nova-scheduler."""
    sections = _common(state, cell)
    sections['DEFAULT']['state_path'] = state.path('nova')
    database = (cells.database(cell) if cell else cells.api_database(state))
    sections['database'] = {'connection': state.database(database, 'nova'),
                            **config.pool()}
    sections['api_database'] = {
        'connection': state.database('nova_api', 'nova'), **config.pool()}
    sections['conductor'] = {'workers': 2}
    sections['scheduler'] = {'workers': 1,
                             'discover_hosts_in_cells_interval': 5}
    sections['filter_scheduler'].update(_filters(state))
    if not state.option('stock'):
        sections['gpu_lease'] = {'encryption_keys': state.data['fernet_key']}
        sections['gpu_lease_database'] = {
            'connection': state.database('gpu_lease')}
    return sections


def _cell_conductor(state, cell):
    """Return the sections of a nova-conductor that serves one cell."""
    sections = _controller(state, cell)
    del sections['api_database']
    return sections


def _filters(state):
    """Return Nova's own filters and weighers, with ours among them."""
    options = {opt.name: opt.default
               for opt in nova.conf.scheduler.filter_scheduler_opts}
    enabled = [name for name in options['enabled_filters']
               if name != 'PciPassthroughFilter']
    if state.option('stock'):
        return {'enabled_filters': ','.join(enabled +
                                            ['PciPassthroughFilter'])}
    return {
        'available_filters': [
            'nova.scheduler.filters.all_filters',
            'nova_gpu_lease.scheduler.filters.GPULeaseFilter'],
        'enabled_filters': ','.join(enabled + ['GPULeaseFilter']),
        'weight_classes':
            'nova.scheduler.weights.all_weighers,'
            'nova_gpu_lease.scheduler.weights.GPULeaseWeigher',
        'host_subset_size': 1,
    }
