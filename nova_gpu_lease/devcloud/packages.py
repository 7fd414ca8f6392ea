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

"""The Debian packages a devcloud needs, and their programs.

MariaDB and RabbitMQ come from the distribution. Only their programs are used:
the instances a distribution would start are never started nor touched.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

from nova_gpu_lease.devcloud import exceptions

# Program -> the Debian package that has it.
PROGRAMS = {
    'mariadbd': 'mariadb-server-core',
    'mariadb-install-db': 'mariadb-server-core',
    'my_print_defaults': 'mariadb-client-core',
    'epmd': 'erlang-base',
    'rabbitmq-server': 'rabbitmq-server',
}
_PATH = ':'.join(['/usr/lib/rabbitmq/bin', '/usr/sbin', '/usr/bin', '/sbin',
                  '/bin', '/usr/local/sbin', '/usr/local/bin'])
_POLICY = pathlib.Path('/usr/sbin/policy-rc.d')
_LOCK = '/run/nova-gpu-lease-devcloud.lock'
_POLICY_TEXT = '''#!/bin/sh
# Written by nova-gpu-lease-devcloud for the time of one installation.
exit 101
'''


def program(name):
    """Return the path of a distribution's program, or None."""
    return shutil.which(name, path=_PATH)


def script(name):
    """Return the path of a console script of this Python installation.

    :raises: DevcloudError if it is not installed
    """
    directories = [sysconfig.get_path('scripts'),
                   os.path.dirname(sys.executable)]
    path = shutil.which(name, path=os.pathsep.join(directories))
    if path is None:
        raise exceptions.DevcloudError(
            f'{name} is not installed in {directories[0]}. Install the '
            'services next to this package: pip install '
            '"nova-gpu-lease[devcloud]".')
    return path


def data_file(*parts):
    """Return the path of a data file that a Python service installed.

    :param parts: path below ``etc``, e.g. ``nova``, ``api-paste.ini``
    :raises: DevcloudError if it is nowhere
    """
    roots = [os.path.join(sys.prefix, 'etc'), '/usr/local/etc', '/etc']
    for root in roots:
        path = pathlib.Path(root, *parts)
        if path.is_file():
            return path
    raise exceptions.DevcloudError(
        f'{"/".join(parts)} was found in none of {", ".join(roots)}.')


def missing():
    """Return the Debian packages that are missing, sorted."""
    return sorted({package for name, package in PROGRAMS.items()
                   if program(name) is None})


@contextlib.contextmanager
def _no_service_start():
    """Keep Debian's maintainer scripts from starting what they install.

    A policy that is there already is put back as it was. Only one "up" does
    this at a time.
    """
    with open(_LOCK, 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _policy():
            yield


@contextlib.contextmanager
def _policy():
    kept = _POLICY.with_name('policy-rc.d.devcloud-kept')
    # Ours is there only if an earlier installation was killed.
    if _POLICY.exists() and _POLICY.read_text() != _POLICY_TEXT:
        os.rename(_POLICY, kept)
    try:
        _POLICY.write_text(_POLICY_TEXT)
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
        if kept.exists():
            os.rename(kept, _POLICY)


def install(log):
    """Install the missing Debian packages.

    :param log: path of the file that gets apt's output
    :raises: DevcloudError if that is not possible; it says what to install
    """
    names = missing()
    if not names:
        return
    command = f'apt-get install --no-install-recommends {" ".join(names)}'
    if os.geteuid() != 0 or shutil.which('apt-get') is None:
        raise exceptions.DevcloudError(
            'These packages are missing: ' + ', '.join(names) + '. Only root '
            f'on Debian can install them here: as root, run "{command}", '
            'then this command again. (The services that such an install '
            'starts are not used and may be stopped.)')
    env = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive', 'LC_ALL': 'C'}
    with open(log, 'ab') as output:
        def run(*arguments):
            return subprocess.run(
                arguments, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, env=env, check=False)

        with _no_service_start():
            done = run('apt-get', '-o', 'DPkg::Lock::Timeout=120', 'install',
                       '-y', '--no-install-recommends', *names)
        if 'rabbitmq-server' in names and shutil.which('systemctl'):
            # Nor is it to start with the machine from now on.
            run('systemctl', 'disable', 'rabbitmq-server.service',
                'epmd.socket')
    if done.returncode or missing():
        tail = pathlib.Path(log).read_text(errors='replace')[-2000:]
        raise exceptions.DevcloudError(
            f'"{command}" failed; run "apt-get update" and try again. The '
            f'end of its output:\n{tail}')
