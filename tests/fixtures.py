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


"""Fixtures that any test may use; Nova is not needed for them."""

import datetime
import functools
import os
import tempfile

import fixtures
from oslo_config import fixture as config_fixture
import sqlalchemy as sa

from nova_gpu_lease import clock
from nova_gpu_lease import conf
from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import models


class ConfFixture(config_fixture.Config):
    """The global CONF with options parsed from nothing.

    ``config(group='gpu_lease', name=value)`` sets options; all are back at
    the end of the test.
    """

    def __init__(self):
        super().__init__(conf.CONF)

    def setUp(self):
        super().setUp()
        self.conf([], project='nova', default_config_files=[],
                  default_config_dirs=[])


@functools.cache
def _schema():
    """The bytes of an SQLite database with all tables and no row."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'schema.db')
        engine = sa.create_engine('sqlite:///' + path)
        models.BASE.metadata.create_all(engine)
        engine.dispose()
        with open(path, 'rb') as schema:
            return schema.read()


class DatabaseFixture(fixtures.Fixture):
    """An SQLite file with the schema of the models, in use by db.api.

    Several threads and processes may use it; its address is ``url``.
    """

    def _setUp(self):
        folder = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(folder, 'gpu_lease.db')
        with open(path, 'wb') as database:
            database.write(_schema())
        use_database(self, 'sqlite:///' + path)


def use_database(fixture, url):
    """Let db.api use a database until the fixture is cleaned up.

    :param fixture: gets the attribute ``url``.
    :param url: SQLAlchemy's URL of the database.
    """
    fixture.url = url
    for name, value in (('connection', url), ('sqlite_synchronous', False)):
        conf.CONF.set_override(name, value, group='gpu_lease_database')
        # Only these: an outer fixture may have set others.
        fixture.addCleanup(conf.CONF.clear_override, name,
                           group='gpu_lease_database')
    _engine.reset()
    fixture.addCleanup(_engine.reset)


class SQLitePoolFixture(fixtures.Fixture):
    """Keeps the connections to SQLite files that oslo.db opens from now on.

    oslo.db opens one for each transaction, which reads the whole schema: a
    sixth of the time of a test with all of Nova's tables.
    """

    def _setUp(self):
        pools = []

        class Pool(sa.QueuePool):
            # What it logs counts as SQLAlchemy's.
            __module__ = sa.QueuePool.__module__

            def __init__(self, *args, **kwargs):
                # No limit: nobody waits for another one's transaction.
                super().__init__(*args, **dict(kwargs, pool_size=0))
                pools.append(self)

        self.useFixture(fixtures.MonkeyPatch(
            'oslo_db.sqlalchemy.engines.pool.NullPool', Pool))
        self.addCleanup(lambda: [pool.dispose() for pool in pools])


#: What SQLAlchemy has compiled in this process, see below.
_COMPILED = sa.util.LRUCache(5000)


class CompiledStatementsFixture(fixtures.Fixture):
    """Has all engines of SQLite share the statements that are compiled.

    A test makes its engines anew, and each would compile what it executes: a
    seventh of the time of a test with all of Nova's tables.
    """

    def _setUp(self):
        name = '_compiled_cache'
        # Engines that outlive the fixture have their own again.
        self.useFixture(fixtures.MonkeyPatch(
            'sqlalchemy.engine.Engine.' + name, property(
                lambda engine: _COMPILED,
                lambda engine, cache: vars(engine).update({name: cache}))))
        # A dialect is a part of the key.
        dialect = 'sqlalchemy.dialects.sqlite.pysqlite.SQLiteDialect_pysqlite'
        self.useFixture(fixtures.MonkeyPatch(
            dialect + '.__eq__', lambda one, other: type(one) is type(other)))
        self.useFixture(fixtures.MonkeyPatch(
            dialect + '.__hash__', lambda one: hash(type(one))))


class ClockFixture(fixtures.Fixture):
    """Stops nova_gpu_lease.clock; ``advance()`` moves it."""

    def __init__(self, now=None):
        """Stop the clock.

        :param now: an aware datetime; the present time if None.
        """
        super().__init__()
        self.now = now or clock.now()

    def _setUp(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.clock.now', lambda: self.now))

    def advance(self, seconds):
        """Move the clock.

        :param seconds: by how much.
        :returns: the time after that.
        """
        self.now += datetime.timedelta(seconds=seconds)
        return self.now
