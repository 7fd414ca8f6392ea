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

"""A private MariaDB, tuned for speed.

It survives ``kill -9`` of anything, itself included, but not a power cut: it
leaves writing to the disk to the kernel.
"""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess

import pymysql

from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import process
from nova_gpu_lease.devcloud import state as state_mod

# Database -> the user it belongs to.
DATABASES = {
    'keystone': 'keystone', 'placement': 'placement', 'glance': 'glance',
    'neutron': 'neutron', 'nova_api': 'nova', 'nova': 'nova',
    'nova_cell0': 'nova', 'gpu_lease': 'gpu_lease',
}
# Raise it when what is in a fresh database changes for another reason than
# the versions of the services.
_TEMPLATE_VERSION = 1
_SERVICES = ('keystone', 'openstack-placement', 'glance', 'neutron', 'nova')


def _user_arguments():
    return ['--user=root'] if os.geteuid() == 0 else []


def _init_sql(state):
    """Return the SQL that runs before the first connection is accepted."""
    password = state.password('mariadb')
    lines = [f"ALTER USER root@localhost IDENTIFIED BY '{password}';"]
    for user in sorted(set(DATABASES.values())):
        lines += [f"CREATE USER IF NOT EXISTS {user}@'127.0.0.1';",
                  f"ALTER USER {user}@'127.0.0.1' IDENTIFIED BY "
                  f"'{password}';"]
    extra = set(cells.databases(state)) - set(DATABASES)
    for name, user in [*DATABASES.items(),
                       *((name, 'nova') for name in sorted(extra))]:
        lines += [f'CREATE DATABASE IF NOT EXISTS {name};',
                  f"GRANT ALL ON {name}.* TO {user}@'127.0.0.1';"]
    return '\n'.join(lines) + '\n'


def configure(state):
    """Write what gives the databases their users, at each start."""
    state.write(_init_sql(state), 'mariadb', 'init.sql')


def service(state):
    """Return the Service that runs MariaDB."""
    data = state.path('mariadb')
    return process.Service(
        name='mariadb', port=state.port('mariadb'), stop_timeout=60,
        command=[
            packages.program('mariadbd'), '--no-defaults', *_user_arguments(),
            f'--datadir={data}/data', f'--pid-file={data}/mariadbd.pid',
            # Not the machine's: a server that starts clears its own.
            f'--tmpdir={data}',
            # Relative to the data directory: a Unix socket's path is short.
            '--socket=mariadbd.sock', f'--init-file={data}/init.sql',
            f'--bind-address={state_mod.HOST}',
            f'--port={state.port("mariadb")}', '--skip-name-resolve',
            '--character-set-server=utf8mb3',
            '--collation-server=utf8mb3_general_ci', '--max-connections=2000',
            '--skip-log-bin', '--performance-schema=OFF',
            '--innodb-buffer-pool-size=192M', '--innodb-log-file-size=64M',
            '--innodb-flush-log-at-trx-commit=2',
            '--innodb-flush-method=nosync', '--innodb-doublewrite=0',
            # The kernel has a limit for all processes together.
            '--innodb-use-native-aio=0',
            '--innodb-buffer-pool-dump-at-shutdown=OFF',
            '--innodb-buffer-pool-load-at-startup=OFF',
        ],
        ready=lambda: _answers(state))


def connect(state, database=None):
    """Return a connection of the owner of a database, or of nobody's."""
    return pymysql.connect(
        host=state_mod.HOST, port=state.port('mariadb'),
        user=DATABASES.get(database, 'nova'), autocommit=True,
        password=state.password('mariadb'), database=database,
        connect_timeout=5)


def query(state, database, sql, *parameters):
    """Run one statement and return its rows as a list of tuples.

    :raises: OSError if MariaDB does not answer
    """
    try:
        with connect(state, database) as connection:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall())
    except pymysql.err.OperationalError as exc:
        raise ConnectionError(str(exc)) from exc


def _answers(state):
    try:
        with connect(state):
            return True
    except pymysql.err.OperationalError:
        return False


def template_dir():
    """Return where data with fresh databases of these versions is kept."""
    versions = [f'{name}={importlib.metadata.version(name)}'
                for name in _SERVICES]
    server = subprocess.run(
        [packages.program('mariadbd'), '--no-defaults', '--version'],
        capture_output=True, text=True, check=False).stdout
    key = '\n'.join([str(_TEMPLATE_VERSION), server, *versions])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return state_mod.cache_dir() / f'databases-{digest}'


def prepare(state):
    """Make the data directory, from a template if there is one.

    :returns: True if the databases in it have their tables already
    """
    data = state.path('mariadb', 'data')
    if state.is_done('databases'):
        return True
    shutil.rmtree(data, ignore_errors=True)
    state.make('mariadb')
    template = template_dir()
    if template.is_dir():
        shutil.copytree(template, data)
        return True
    done = subprocess.run(
        [packages.program('mariadb-install-db'), '--no-defaults',
         *_user_arguments(), f'--datadir={data}', '--skip-test-db',
         f'--tmpdir={data.parent}', '--innodb-use-native-aio=0',
         '--auth-root-authentication-method=normal'],
        capture_output=True, text=True, check=False,
        env=process.base_environment())
    if done.returncode:
        raise exceptions.CommandFailed(
            'mariadb-install-db failed:\n' + done.stdout + done.stderr)
    return False


def save_template(state):
    """Keep a copy of the data for the next cloud; the server is stopped."""
    template = template_dir()
    temporary = template.with_name(f'{template.name}.{state.data["id"]}')
    template.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        shutil.copytree(state.path('mariadb', 'data'), temporary,
                        ignore=shutil.ignore_patterns('*.sock', '*.pid'))
        temporary.chmod(0o700)
        if not template.exists():
            temporary.rename(template)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
