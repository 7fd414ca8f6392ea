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


"""How the database is connected to."""

from oslo_db import exception as db_exc

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import api
from nova_gpu_lease import exception
from tests import base
from tests.unit.db import base as db_base


class EngineConfigTest(base.TestCase):

    def setUp(self):
        super().setUp()
        _engine.reset()
        self.addCleanup(_engine.reset)

    def test_not_configured(self):
        error = self.assertRaises(exception.DatabaseNotConfigured, api.wake)
        self.assertIn('[gpu_lease_database] connection', str(error))

    def test_charset(self):
        for given, expected in (
                ('mysql+pymysql://u:p%40@h/d',
                 'mysql+pymysql://u:p%40@h/d?charset=utf8mb4'),
                ('mysql+pymysql://u@h/d?ssl_ca=x&charset=latin1',
                 'mysql+pymysql://u@h/d?ssl_ca=x&charset=latin1'),
                ('sqlite:////tmp/x', 'sqlite:////tmp/x')):
            self.flags(group='gpu_lease_database', connection=given)
            self.assertEqual(expected, _engine._options()['connection'])

    def test_dispose_before_use(self):
        api.dispose()

    def test_in_memory(self):
        """Enough for a quick look, in one process."""
        self.flags(group='gpu_lease_database', connection='sqlite://')
        db_base.models.BASE.metadata.create_all(_engine.get_engine())
        api.wake()
        self.assertEqual(1, api.wake_value())


class EngineRetryTest(db_base.TestCase):

    def call(self, decorator, errors):
        """Call a function that fails with each of the errors first."""
        errors = list(errors)

        @decorator
        def function(session):
            if errors:
                raise errors.pop(0)
            return 'done'

        return function()

    def test_deadlock(self):
        for decorator in (_engine.reader, _engine.writer):
            self.assertEqual('done', self.call(
                decorator, [db_exc.DBDeadlock(),
                            db_exc.DBConsistencyError(),
                            db_exc.DBError(Exception(
                                'database is locked'))]))

    def test_lost_connection(self):
        lost = db_exc.DBConnectionError()
        self.assertEqual('done', self.call(_engine.reader, [lost]))
        self.assertRaises(db_exc.DBConnectionError, self.call,
                          _engine.writer, [lost])

    def test_other_errors(self):
        self.assertRaises(db_exc.DBDataError, self.call, _engine.writer,
                          [db_exc.DBDataError()])


class EngineForkTest(db_base.TestCase):

    def test_fork_with_an_open_connection(self):
        """Parent and child work on, each with connections of its own."""
        api.wake()
        with _engine.get_engine().connect() as connection:
            connection.exec_driver_sql('SELECT 1')
            self.assertEqual(0, self.in_child(
                lambda: [api.wake() for _ in range(3)]))
            # The child did not end the parent's session on the server.
            connection.exec_driver_sql('SELECT 1')
        self.assertEqual(4, api.wake_value())

    def test_fork_again_and_again(self):
        for _ in range(3):
            api.wake()
            self.assertEqual(0, self.in_child(
                lambda: api.wake() or api.wake_value() > 1))
        self.assertEqual(6, api.wake_value())
