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

"""Neutron without agents: configuration and API."""

import os

from nova_gpu_lease.devcloud import config
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import rest
from nova_gpu_lease.devcloud import tool
from nova_gpu_lease.devcloud import wsgi

_DRIVER = 'gpu_lease_devcloud'
_METADATA = '''\
Metadata-Version: 2.1
Name: nova-gpu-lease-devcloud-neutron
Version: 1.0
'''
_ENTRY_POINTS = f'''\
[neutron.ml2.mechanism_drivers]
{_DRIVER} = nova_gpu_lease.devcloud.neutron_driver:DevcloudMechanismDriver
'''


def configure(state):
    """Write the configuration.

    Neutron finds mechanism drivers by entry point only. Ours is announced in
    a directory on the path of this one service, which also works from a
    source tree that is not installed.
    """
    announced = ('lib', 'neutron',
                 'nova_gpu_lease_devcloud_neutron-1.0.dist-info')
    state.write(_METADATA, *announced, 'METADATA')
    state.write(_ENTRY_POINTS, *announced, 'entry_points.txt')
    sections = config.messaging(state)
    sections['DEFAULT'].update({
        'core_plugin': 'ml2', 'service_plugins': '', 'dns_domain': '',
        'state_path': state.make('neutron'), 'api_paste_config':
            packages.data_file('neutron', 'api-paste.ini'),
        'dhcp_agent_notification': 'false', 'rpc_workers': 0,
        'notify_nova_on_port_status_changes': 'false',
        'notify_nova_on_port_data_changes': 'false'})
    sections.update({
        'database': {'connection': state.database('neutron'),
                     **config.pool()},
        'keystone_authtoken': config.authtoken(state, 'neutron'),
        'nova': config.user(state, 'nova'),
        'oslo_concurrency': {'lock_path': state.make('neutron', 'lock')},
        'ml2': {'type_drivers': 'local', 'tenant_network_types': 'local',
                'mechanism_drivers': _DRIVER, 'extension_drivers': ''},
        'securitygroup': {'enable_security_group': 'true'},
    })
    config.write(state, 'neutron', sections, 'etc', 'neutron', 'neutron.conf')


def _path(state):
    return os.pathsep.join([os.fspath(state.path('lib', 'neutron')),
                            wsgi.process.base_environment()['PYTHONPATH']])


def sync(state):
    """Create or upgrade the tables."""
    tool.run(state, 'neutron-db-sync', [
        packages.script('neutron-db-manage'), '--config-file',
        state.path('etc', 'neutron', 'neutron.conf'), 'upgrade', 'heads'],
        env={'PYTHONPATH': _path(state)})


def service(state):
    """Return the Service that runs the API."""
    return wsgi.service(
        state, 'neutron', 'neutron.wsgi.api:application',
        {'OS_NEUTRON_CONFIG_DIR': os.fspath(state.path('etc', 'neutron')),
         'OS_NEUTRON_CONFIG_FILES': 'neutron.conf',
         'PYTHONPATH': _path(state)})


def warm_up(state):
    """List networks once: a fresh process cannot begin with ports."""
    rest.client(state).get('neutron', '/v2.0/networks')
