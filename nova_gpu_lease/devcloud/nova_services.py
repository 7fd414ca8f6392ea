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

"""Nova's processes and the commands that prepare its databases."""

import os
import sys

from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import nova
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import process
from nova_gpu_lease.devcloud import rabbitmq
from nova_gpu_lease.devcloud import tool
from nova_gpu_lease.devcloud import wsgi
from nova_gpu_lease import failpoints

# A cell whose URLs are templates does not care about ports and passwords, so
# that a copy of its database serves another cloud.
_CELL_TRANSPORT = '{scheme}://{username}:{password}@{hostname}:{port}/'
_CELL_DATABASE = _CELL_TRANSPORT + '%s?{query}'
# A service that is ready is not to count as down a moment later: seconds.
_MARGIN = 6


def _manage(state, name, *arguments, cell='cell1'):
    files = []
    for path in nova.manage_config_files(state, cell):
        files += ['--config-file', path]
    tool.run(state, name, [
        packages.script('nova-manage'), *files, *arguments])


def sync_api(state):
    """Create or upgrade the tables of the API database."""
    _manage(state, 'nova-api-db-sync', 'api_db', 'sync')


def sync_cell0(state):
    """Map cell0 and create or upgrade its tables."""
    _manage(state, 'nova-map-cell0', 'cell_v2', 'map_cell0',
            '--database_connection', _CELL_DATABASE % 'nova_cell0')


def sync_cells(state):
    """Create or upgrade the tables of cell0 and cell1."""
    _manage(state, 'nova-db-sync', 'db', 'sync')


def create_cell(state):
    """Map cell1."""
    _manage(state, 'nova-create-cell', 'cell_v2', 'create_cell', '--name',
            'cell1', '--database_connection', _CELL_DATABASE % 'nova',
            '--transport-url', _CELL_TRANSPORT)


def create_cells(state):
    """Make the other cells, and give each a message bus of its own."""
    for cell in cells.separate(state):
        transport = _CELL_TRANSPORT + cells.virtual_host(state, cell)
        if cell == 'cell1':
            mariadb.query(state, 'nova_api', 'UPDATE cell_mappings '
                          'SET transport_url = %s WHERE name = %s',
                          transport, cell)
            continue
        _manage(state, f'nova-create-{cell}', 'cell_v2', 'create_cell',
                '--name', cell, '--database_connection',
                _CELL_DATABASE % cells.database(cell),
                '--transport-url', transport)
        _manage(state, f'nova-db-sync-{cell}', 'db', 'sync', '--local_cell',
                cell=cell)


def sync_leases(state):
    """Create or upgrade the tables of the leases."""
    tool.run(state, 'gpu-lease-db-sync', [
        sys.executable, '-m', 'nova_gpu_lease.devcloud.launch',
        'nova_gpu_lease.cmd.manage', '--config-file',
        nova.config_file(state), 'db', 'sync'])


def api(state):
    """Return the Service that runs nova-api."""
    return wsgi.service(
        state, 'nova', 'nova.wsgi.osapi_compute:application',
        {'OS_NOVA_CONFIG_DIR': os.fspath(state.path('etc', 'nova')),
         'OS_NOVA_CONFIG_FILES': 'api-paste.ini;nova.conf'})


def _serves(state, binary, topic, host, cell):
    """Tell whether a service takes RPCs and Nova counts it as up."""
    if not rabbitmq.consumers(
            state, f'{topic}.{host}',
            cells.virtual_host(state, cell) if cell else ''):
        return False
    database = (cells.database(cell) if cell else cells.api_database(state))
    # A new service has not reported yet, but was created just now.
    rows = mariadb.query(
        state, database, 'SELECT 1 FROM services WHERE `binary` = %s AND '
        'host = %s AND deleted = 0 AND COALESCE(last_seen_up, created_at) > '
        'UTC_TIMESTAMP() - INTERVAL %s SECOND',
        binary, host, nova.SERVICE_DOWN_TIME - _MARGIN)
    return bool(rows)


def _service(state, name, module, files, topic, host, cell=None):
    arguments = []
    for path in files:
        arguments += ['--config-file', path]
    return process.Service(
        name=name, stop_timeout=30,
        env={'XDG_CACHE_HOME': str(state.make('cache')),
             failpoints.VARIABLE: str(state.path('failpoints'))},
        command=[sys.executable, '-m', 'nova_gpu_lease.devcloud.launch',
                 module, *arguments],
        ready=lambda: _serves(state, f'nova-{topic}', topic, host, cell))


def _module(state, name):
    return (f'nova.cmd.{name}' if state.option('stock')
            else f'nova_gpu_lease.cmd.{name}')


def conductors(state):
    """Return the Services that run nova-conductor."""
    count = state.option('conductors')
    module = _module(state, 'conductor')
    return [_service(
        state, 'nova-conductor' if count == 1 else f'nova-conductor-{number}',
        module, nova.service_config_files(state, f'conductor{number}'),
        'conductor', f'conductor{number}')
        for number in range(1, count + 1)] + [_service(
            state, f'nova-conductor-{cell}', module,
            nova.service_config_files(state, f'conductor-{cell}', cell),
            'conductor', f'conductor-{cell}', cell)
            for cell in cells.separate(state)]


def scheduler(state):
    """Return the Service that runs nova-scheduler."""
    return _service(
        state, 'nova-scheduler', _module(state, 'scheduler'),
        nova.service_config_files(state, 'scheduler'),
        'scheduler', 'scheduler')


def computes(state):
    """Return the Services that run nova-compute, one for each host."""
    module = 'nova_gpu_lease.devcloud.compute'
    if state.option('stock'):
        module += ':stock'
    return [_service(
        state, f'nova-compute-{host.name}', module,
        [nova.compute_config_file(state, host.name)],
        'compute', host.name, cells.of_host(state, host.name))
        for host in state.layout.hosts]
