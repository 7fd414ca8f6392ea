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

"""Glance with a file store: configuration and API."""

import os

from nova_gpu_lease.devcloud import config
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import tool
from nova_gpu_lease.devcloud import wsgi


def configure(state):
    """Write the configuration and make the directories of the stores."""
    images, staging, tasks = (
        state.make('glance', name) for name in ('images', 'staging', 'tasks'))
    config.write(state, 'glance', {
        'DEFAULT': {'enabled_backends': 'files:file',
                    'use_keystone_limits': 'false',
                    'node_staging_uri': f'file://{staging}',
                    'worker_self_reference_url': state.url('glance')},
        'database': {'connection': state.database('glance'),
                     **config.pool()},
        'glance_store': {'default_backend': 'files'},
        'files': {'filesystem_store_datadir': images},
        'os_glance_staging_store': {'filesystem_store_datadir': staging},
        'os_glance_tasks_store': {'filesystem_store_datadir': tasks},
        'keystone_authtoken': config.authtoken(state, 'glance'),
        'oslo_messaging_notifications': {'driver': 'noop'},
        'paste_deploy': {
            'flavor': 'keystone',
            'config_file': packages.data_file(
                'glance', 'glance-api-paste.ini')},
    }, 'etc', 'glance', 'glance-api.conf')


def sync(state):
    """Create or upgrade the tables."""
    tool.run(state, 'glance-db-sync', [
        packages.script('glance-manage'), '--config-file',
        state.path('etc', 'glance', 'glance-api.conf'), 'db', 'sync'])


def service(state):
    """Return the Service that runs the API."""
    return wsgi.service(
        state, 'glance', 'glance.wsgi.api:application',
        {'OS_GLANCE_CONFIG_DIR': os.fspath(state.path('etc', 'glance'))})
