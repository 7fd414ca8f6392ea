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

"""Keystone: configuration, keys, the first administrator, and the API."""

import os

from nova_gpu_lease.devcloud import config
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import state as state_mod
from nova_gpu_lease.devcloud import tool
from nova_gpu_lease.devcloud import wsgi


def configure(state):
    """Write configuration and, once, the keys of tokens and credentials."""
    keys = {name: state.make('etc', 'keystone', name)
            for name in ('fernet-keys', 'credential-keys')}
    for name, directory in keys.items():
        # 0 is the staged key and 1 the primary one.
        for number in ('0', '1'):
            if not (directory / number).exists():
                state.write(state_mod.fernet_key(), 'etc', 'keystone', name,
                            number)
    config.write(state, 'keystone', {
        'DEFAULT': {'use_stderr': 'true',
                    'public_endpoint': state.url('keystone', '/')},
        'database': {'connection': state.database('keystone'),
                     **config.pool()},
        'token': {'provider': 'fernet'},
        'fernet_tokens': {'key_repository': keys['fernet-keys']},
        'fernet_receipts': {'key_repository': keys['fernet-keys']},
        'credential': {'key_repository': keys['credential-keys']},
        'oslo_messaging_notifications': {'driver': 'noop'},
        # One process: a cache in its memory is always right.
        'cache': {'enabled': 'true', 'backend': 'oslo_cache.dict'},
        # Hashing is slow on purpose; not here.
        'identity': {'password_hash_rounds': 4},
    }, 'etc', 'keystone', 'keystone.conf')


def _manage(state, *arguments, env=None):
    tool.run(state, f'keystone-{arguments[0]}', [
        packages.script('keystone-manage'), '--config-file',
        state.path('etc', 'keystone', 'keystone.conf'), *arguments], env=env)


def sync(state):
    """Create or upgrade the tables."""
    _manage(state, 'db_sync')


def bootstrap(state):
    """Create the administrator, the roles and Keystone's own endpoint."""
    _manage(state, 'bootstrap',
            '--bootstrap-username', 'admin',
            '--bootstrap-project-name', 'admin',
            '--bootstrap-region-id', state_mod.REGION,
            '--bootstrap-public-url', state.url('keystone', '/v3/'),
            '--bootstrap-internal-url', state.url('keystone', '/v3/'),
            env={'OS_BOOTSTRAP_PASSWORD': state.password('admin')})


def service(state):
    """Return the Service that runs the API."""
    return wsgi.service(
        state, 'keystone', 'keystone.wsgi.api:application',
        {'OS_KEYSTONE_CONFIG_DIR': os.fspath(state.path('etc', 'keystone')),
         'OS_KEYSTONE_CONFIG_FILES': 'keystone.conf'})
