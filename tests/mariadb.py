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


"""A private MariaDB server for tests, and databases in it.

It is started when the first test needs it, listens on a socket file only,
and ends with the process that runs the tests.
"""

import atexit
import ctypes
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import fixtures
import sqlalchemy as sa

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import models
from tests import fixtures as our_fixtures

_START_TIMEOUT = 60
_PR_SET_PDEATHSIG = 1
_numbers = itertools.count()


def _program(name):
    path = shutil.which(
        name, path=os.environ.get('PATH', '') + ':/usr/sbin:/usr/bin')
    if path is None:
        raise unittest.SkipTest(
            '%s is not installed (Debian: apt-get install mariadb-server)' %
            name)
    return path


def _end_with_parent():
    # Even if the tests are killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.cache
def server_url():
    """Start the server at the first call.

    :returns: a SQLAlchemy URL of no database in it.
    :raises: unittest.SkipTest if MariaDB is not installed.
    """
    install, daemon = _program('mariadb-install-db'), _program('mariadbd')
    # The path of a socket must be short.
    folder = tempfile.mkdtemp(prefix='gpu-lease-', dir='/tmp')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Without asynchronous I/O: the kernel has a limit for all processes.
    common = ['--no-defaults', '--datadir=%s/data' % folder,
              '--innodb-use-native-aio=0',
              # A server that starts removes what others left in theirs.
              '--tmpdir=%s' % folder]
    if os.geteuid() == 0:
        common.append('--user=root')
    done = subprocess.run(
        [install, *common, '--skip-test-db',
         '--auth-root-authentication-method=normal'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=_START_TIMEOUT, check=False)
    if done.returncode:
        raise AssertionError('mariadb-install-db failed:\n' + done.stdout)
    log_path = os.path.join(folder, 'log')
    with open(log_path, 'wb') as log:
        process = subprocess.Popen(
            [daemon, *common, '--socket=%s/socket' % folder,
             '--pid-file=%s/pid' % folder, '--skip-networking',
             '--innodb-buffer-pool-size=32M', '--innodb-log-file-size=16M',
             '--innodb-flush-log-at-trx-commit=0', '--innodb-doublewrite=0',
             '--innodb-flush-method=nosync', '--skip-log-bin'],
            stdout=log, stderr=log, preexec_fn=_end_with_parent)
    atexit.register(_stop, process)
    url = sa.make_url('mysql+pymysql://root@localhost/').update_query_dict(
        {'unix_socket': '%s/socket' % folder})
    _wait(process, url, log_path)
    return url


def _stop(process):
    process.kill()
    process.wait(_START_TIMEOUT)


def _wait(process, url, log_path):
    engine = sa.create_engine(url)
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            if (process.poll() is not None or
                    time.monotonic() > deadline):
                with open(log_path, errors='replace') as log:
                    raise AssertionError(
                        'mariadbd did not start:\n' + log.read())
            time.sleep(0.1)
        else:
            engine.dispose()
            return


def create_database():
    """Create an empty database.

    :returns: its SQLAlchemy URL, a str.
    """
    url = server_url()
    name = 'test_%d_%d' % (os.getpid(), next(_numbers))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        # As old servers were installed: tables must not rely on it.
        connection.exec_driver_sql(
            'CREATE DATABASE %s CHARACTER SET utf8mb3' % name)
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


@functools.cache
def _shared_database():
    url = create_database()
    engine = sa.create_engine(url)
    models.BASE.metadata.create_all(engine)
    engine.dispose()
    return url


class DatabaseFixture(fixtures.Fixture):
    """A MariaDB database with the schema of the models, in use by db.api.

    Making one skips the test if MariaDB is not installed.
    """

    def __init__(self):
        super().__init__()
        # Here: a fixture cannot skip once its set-up has begun.
        self._url = _shared_database()

    def _setUp(self):
        our_fixtures.use_database(self, self._url)
        self.addCleanup(self._empty)

    @staticmethod
    def _empty():
        with _engine.get_engine().begin() as connection:
            for table in reversed(models.BASE.metadata.sorted_tables):
                connection.execute(sa.delete(table))
