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

"""Placement: configuration and API."""

import os

from nova_gpu_lease.devcloud import config
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import tool
from nova_gpu_lease.devcloud import wsgi


def configure(state):
    """Write the configuration."""
    config.write(state, 'placement', {
        'placement_database': {'connection': state.database('placement'),
                               **config.pool()},
        'api': {'auth_strategy': 'keystone'},
        'keystone_authtoken': config.authtoken(state, 'placement'),
    }, 'etc', 'placement', 'placement.conf')


def sync(state):
    """Create or upgrade the tables."""
    tool.run(state, 'placement-db-sync', [
        packages.script('placement-manage'), '--config-file',
        state.path('etc', 'placement', 'placement.conf'), 'db', 'sync'])


def service(state):
    """Return the Service that runs the API."""
    return wsgi.service(
        state, 'placement', 'placement.wsgi.api:application',
        {'OS_PLACEMENT_CONFIG_DIR': os.fspath(state.path('etc', 'placement'))})
