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


"""The unit tests of the database, on MariaDB, and tests of MariaDB only."""

import threading

from oslo_utils import eventletutils
import sqlalchemy as sa

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import api
from tests import mariadb
from tests.unit.db import base
from tests.unit.db import test_coordination
from tests.unit.db import test_engine
from tests.unit.db import test_lease_list
from tests.unit.db import test_leases
from tests.unit.db import test_order
from tests.unit.db import test_purge
from tests.unit.db import test_requests


def _on_mariadb(*modules):
    """A subclass on MariaDB of every test class with a database."""
    classes = {}
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, type) and hasattr(
                    value, 'database_fixture'):
                name += 'OnMariaDB'
                classes[name] = type(name, (value,), {
                    'database_fixture': mariadb.DatabaseFixture,
                    '__module__': __name__})
    return classes


globals().update(_on_mariadb(
    test_coordination, test_engine, test_lease_list, test_leases, test_order,
    test_purge, test_requests))


class ForkAmidThreadsTest(base.TestCase):
    """SQLite's library itself does not survive this."""

    database_fixture = mariadb.DatabaseFixture

    def test_fork_while_others_work(self):
        """A fork amid the work of other threads leaves the child able."""
        if eventletutils.is_monkey_patched('thread'):
            self.skipTest('A child gets the parent\'s green threads, and they '
                          'go on with its connections.')
        stop = threading.Event()

        def work():
            while not stop.wait(0.001):
                api.wake_value()

        threads = [threading.Thread(target=work) for _ in range(3)]
        self.addCleanup(lambda: [thread.join(30) for thread in threads])
        self.addCleanup(stop.set)
        for thread in threads:
            thread.start()
        for _ in range(5):
            self.assertEqual(0, self.in_child(
                lambda: api.wake() or api.wake_value()))
        self.assertEqual(5, api.wake_value())


class LostConnectionTest(base.TestCase):

    database_fixture = mariadb.DatabaseFixture

    def test_lost_connection(self):
        """A restart of the server between two calls goes unnoticed."""
        for function in (api.wake, api.wake_value):
            api.wake()
            self.kill_idle()
            function()

    def kill_idle(self):
        with _engine.get_engine().connect() as connection:
            mine = connection.exec_driver_sql(
                'SELECT CONNECTION_ID()').scalar()
        engine = sa.create_engine(self.database.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql('KILL %d' % mine)
