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

"""The state directory of one devcloud, and what is remembered in it.

Everything a cloud owns lies here: ports and passwords that were chosen once,
the options it was started with, configuration, data, logs and pid files.
"""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import shlex
import shutil

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import layout
from nova_gpu_lease.devcloud import ports

HOST = '127.0.0.1'
REGION = 'RegionOne'
FILE = 'devcloud.json'
# oslo.config and MariaDB accept longer paths, Erlang and uWSGI too, but not
# the Unix sockets and the quoting in their configuration.
_FORBIDDEN = set(' \t\n"\'$\\%;,=')

PROJECTS = {'admin': 'admin', 'alice-lab': 'alice', 'bob-lab': 'bob'}

_PORTS = ('mariadb', 'epmd', 'rabbitmq', 'rabbitmq_dist', 'keystone',
          'placement', 'glance', 'neutron', 'nova')
_PASSWORDS = ('mariadb', 'rabbitmq', 'erlang_cookie', 'metadata',
              'nova', 'placement', 'glance', 'neutron',
              *PROJECTS.values())


def default_dir():
    """Return the state directory used without ``--state-dir``."""
    base = os.environ.get('XDG_STATE_HOME') or os.path.expanduser(
        '~/.local/state')
    return pathlib.Path(base) / 'nova-gpu-lease' / 'devcloud'


def cache_dir():
    """Return the directory of what clouds of one user share."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return pathlib.Path(base) / 'nova-gpu-lease'


def fernet_key():
    """Return a new key as ``cryptography.fernet`` would generate it."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


class State:
    """One state directory; ``data`` is what its JSON file holds."""

    def __init__(self, directory=None):
        self.dir = pathlib.Path(
            os.path.abspath(directory or default_dir()))
        self.data = {}
        if self.exists():
            self.data = json.loads(self.file.read_text())

    @property
    def file(self):
        """Path of the JSON file that makes a directory a devcloud."""
        return self.dir / FILE

    def exists(self):
        """Tell whether there is a cloud in this directory."""
        return self.file.is_file()

    def require(self):
        """Raise unless there is a cloud here."""
        if not self.exists():
            raise exceptions.DevcloudError(
                f'There is no devcloud in {self.dir}. Start one with '
                '"nova-gpu-lease-devcloud up".')

    def create(self, options, the_layout):
        """Make the directory and choose ports and passwords.

        :param options: dict of what ``up`` was asked for
        :param the_layout: the Layout of the fake hypervisors
        :raises: DevcloudError if the directory cannot be used
        """
        if _FORBIDDEN & set(str(self.dir)):
            raise exceptions.DevcloudError(
                f'The state directory {self.dir} has a character in its '
                'path that configuration files cannot carry; choose another '
                'with --state-dir.')
        strangers = {entry.name for entry in self.dir.iterdir()} - {'lock'}
        if strangers:
            raise exceptions.DevcloudError(
                f'{self.dir} is not empty and is not a devcloud; choose '
                'another directory with --state-dir.')
        self.data = {
            'id': secrets.token_hex(6),
            'options': options,
            'layout': the_layout.to_dict(),
            'ports': ports.choose(self.dir, _PORTS, cache_dir()),
            'passwords': {
                name: secrets.token_hex(16) for name in _PASSWORDS},
            'fernet_key': fernet_key(),
            'done': {},
        }
        self.save()

    def save(self):
        """Write the JSON file so that a crash leaves the old or the new."""
        self.write(json.dumps(self.data, indent=1), FILE)

    def done(self, step, value=True):
        """Remember that a step of the set-up need not be done again."""
        self.data['done'][step] = value
        self.save()

    def is_done(self, step):
        """Return what ``done`` remembered, or None."""
        return self.data['done'].get(step)

    @contextlib.contextmanager
    def lock(self):
        """Keep other commands from changing this cloud at the same time."""
        while True:
            self.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.dir / 'lock'
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise exceptions.DevcloudError(
                    f'Another command is changing the devcloud in {self.dir}; '
                    'wait until it is done.') from None
            # A "down" may have removed the file while we opened it.
            try:
                same = os.stat(path).st_ino == os.fstat(descriptor).st_ino
            except FileNotFoundError:
                same = False
            if same:
                break
            os.close(descriptor)
        try:
            self.data = (json.loads(self.file.read_text())
                         if self.exists() else {})
            yield
        finally:
            os.close(descriptor)
            if not self.exists():
                with contextlib.suppress(OSError):
                    path.unlink()
                    self.dir.rmdir()

    def remove(self):
        """Remove the directory and give its ports back."""
        ports.release(self.dir, cache_dir())
        self.file.unlink(missing_ok=True)
        shutil.rmtree(self.dir, ignore_errors=True)
        self.data = {}

    def path(self, *parts):
        """Return a path in the state directory."""
        return self.dir.joinpath(*parts)

    def make(self, *parts):
        """Return a directory in the state directory, made if needed."""
        path = self.path(*parts)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def write(self, text, *parts, mode=0o600):
        """Write a file in the state directory and return its path."""
        self.make(*parts[:-1])
        path = self.path(*parts)
        # Somebody may read it just now: the old file or the new one.
        temporary = path.with_name(path.name + '.tmp')
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                          0o600), 'w', encoding='utf-8') as stream:
            stream.write(text)
        temporary.chmod(mode)
        os.replace(temporary, path)
        return path

    def port(self, name):
        """Return the port of a service."""
        return self.data['ports'][name]

    def password(self, name):
        """Return the password of a user or a service."""
        return self.data['passwords'][name]

    def option(self, name):
        """Return what ``up`` was asked for."""
        return self.data['options'][name]

    @property
    def layout(self):
        """The Layout this cloud was made with."""
        return layout.Layout.from_dict(self.data['layout'])

    def url(self, service, path=''):
        """Return the URL of an API."""
        return f'http://{HOST}:{self.port(service)}{path}'

    def database(self, name, user=None):
        """Return the SQLAlchemy URL of a database."""
        user = user or name
        return (f'mysql+pymysql://{user}:{self.password("mariadb")}@{HOST}:'
                f'{self.port("mariadb")}/{name}?charset=utf8')

    def transport_url(self, virtual_host=''):
        """Return the URL of the message bus, or of a virtual host of it."""
        return (f'rabbit://openstack:{self.password("rabbitmq")}@{HOST}:'
                f'{self.port("rabbitmq")}/{virtual_host}')

    def credentials(self, project='admin'):
        """Return the keystoneauth arguments of a project's member.

        :raises: DevcloudError if the cloud has no such project
        """
        if project not in PROJECTS:
            raise exceptions.DevcloudError(
                f'There is no project "{project}"; there are '
                + ', '.join(PROJECTS) + '.')
        user = PROJECTS[project]
        return {
            'auth_url': self.url('keystone', '/v3'),
            'username': user, 'password': self.password(user),
            'project_name': project, 'user_domain_name': 'Default',
            'project_domain_name': 'Default'}

    def openrc(self, project='admin'):
        """Return shell exports for a project's member.

        :raises: DevcloudError if the cloud has no such project
        """
        exports = {f'OS_{name.upper()}': value for name, value in
                   self.credentials(project).items()}
        exports.update({
            'OS_IDENTITY_API_VERSION': '3', 'OS_REGION_NAME': REGION,
            'OS_AUTH_TYPE': 'password',
            'OS_COMPUTE_API_VERSION':
                self.is_done('compute_api_version') or '2.90'})
        lines = ['unset OS_CLOUD OS_TOKEN OS_SYSTEM_SCOPE OS_DOMAIN_NAME '
                 'OS_PROJECT_ID OS_USER_ID OS_TRUST_ID']
        lines += [f'export {name}={shlex.quote(value)}'
                  for name, value in exports.items()]
        lines += [f'export {name}={HOST}${{{name}:+,${name}}}'
                  for name in ('no_proxy', 'NO_PROXY')]
        return '\n'.join(lines) + '\n'
