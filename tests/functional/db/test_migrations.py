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


"""The migrations give the schema that the models describe."""

import os
import re

from alembic import autogenerate
from alembic import migration as alembic_migration
from alembic import script as alembic_script
import fixtures
import sqlalchemy as sa

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import api
from nova_gpu_lease.db import migration
from nova_gpu_lease.db import models
from nova_gpu_lease import exception
from tests import base
from tests import fixtures as our_fixtures
from tests import mariadb


class _MigrationTests:
    """For a class with create_database() and definitions()."""

    def setUp(self):
        super().setUp()
        self.use(self.create_database())

    def use(self, url):
        class Database(fixtures.Fixture):
            def _setUp(self):
                our_fixtures.use_database(self, url)
        self.useFixture(Database())

    def test_walk_up(self):
        self.assertIsNone(migration.version())
        scripts = alembic_script.ScriptDirectory.from_config(
            migration._config())
        revisions = [script.revision for script
                     in scripts.walk_revisions('base', 'heads')]
        self.assertEqual(1, len(scripts.get_heads()))
        for revision in reversed(revisions):
            migration.sync(revision)
            self.assertEqual(revision, migration.version())
        self.assertEqual(migration.latest(), migration.version())

    def test_sync_twice(self):
        migration.sync()
        api.wake()
        migration.sync()
        self.assertEqual(migration.latest(), migration.version())
        self.assertEqual(1, api.wake_value())

    def test_sync_unknown(self):
        self.assertRaises(exception.MigrationFailed, migration.sync, 'x')
        migration.sync()
        with _engine.get_engine().begin() as connection:
            connection.exec_driver_sql(
                "UPDATE %s SET version_num = 'newer'" %
                migration.VERSION_TABLE)
        error = self.assertRaises(exception.MigrationFailed, migration.sync)
        self.assertIn('newer', str(error))

    def test_beside_another_project(self):
        """Another's alembic version in the same database is left alone."""
        with _engine.get_engine().begin() as connection:
            connection.exec_driver_sql(
                'CREATE TABLE alembic_version '
                '(version_num VARCHAR(32) NOT NULL)')
            connection.exec_driver_sql(
                "INSERT INTO alembic_version VALUES ('theirs')")
        self.assertIsNone(migration.version())
        migration.sync()
        with _engine.get_engine().connect() as connection:
            self.assertEqual('theirs', connection.exec_driver_sql(
                'SELECT version_num FROM alembic_version').scalar())

    def test_models_sync(self):
        migration.sync()
        with _engine.get_engine().connect() as connection:
            context = alembic_migration.MigrationContext.configure(
                connection, opts={
                    'version_table': migration.VERSION_TABLE,
                    'compare_type': True, 'compare_server_default': True})
            self.assertEqual([], autogenerate.compare_metadata(
                context, models.BASE.metadata))

    def test_models_same_definitions(self):
        """The databases describe their tables in the same words."""
        migration.sync()
        migrated = self.definitions()
        migrated.pop(migration.VERSION_TABLE)
        self.use(self.create_database())
        models.BASE.metadata.create_all(_engine.get_engine())
        modelled = self.definitions()
        self.assertEqual(sorted(modelled), sorted(migrated))
        for name in modelled:
            self.assertEqual(modelled[name], migrated[name])

    def test_names(self):
        """Whatever can be violated or dropped has a name of our making."""
        migration.sync()
        inspector = sa.inspect(_engine.get_engine())
        for table in models.BASE.metadata.tables:
            for unique in inspector.get_unique_constraints(table):
                self.assertEqual(
                    'uniq_%s0%s' % (table, '0'.join(unique['column_names'])),
                    unique['name'])
            for index in inspector.get_indexes(table):
                self.assertRegex(
                    index['name'],
                    '^(%s_.*_(idx|fk)|uniq_%s0.*)$' % (table, table))
            for key in inspector.get_foreign_keys(table):
                self.assertRegex(key['name'], '^%s_.*_fk$' % table)


class SQLiteMigrationTest(_MigrationTests, base.TestCase):

    def create_database(self):
        folder = self.useFixture(fixtures.TempDir()).path
        return 'sqlite:///' + os.path.join(folder, 'test.db')

    def definitions(self):
        with _engine.get_engine().connect() as connection:
            return {name: self.parts(sql) for name, sql
                    in connection.exec_driver_sql(
                        'SELECT name, sql FROM sqlite_master '
                        'WHERE sql IS NOT NULL')}

    @staticmethod
    def parts(sql):
        # A column that was added later comes last, on the line before it.
        return sorted(part.strip(' \n\t)') for part in re.split(
            r',\s|\(\n', sql))


class MariaDBMigrationTest(_MigrationTests, base.TestCase):

    def create_database(self):
        return mariadb.create_database()

    def definitions(self):
        with _engine.get_engine().connect() as connection:
            tables = connection.exec_driver_sql('SHOW TABLES').scalars().all()
            return {name: self.lines(connection.exec_driver_sql(
                'SHOW CREATE TABLE %s' % name).one()[1]) for name in tables}

    @staticmethod
    def lines(sql):
        # Indexes are listed in the order they were made in, which SQLAlchemy
        # does not fix; columns in the order they were added in.
        return '\n'.join(sorted(
            line.rstrip(',') for line in sql.splitlines()))

    def test_every_character(self):
        """Tables carry every character whatever the database's default."""
        migration.sync()
        for name, sql in self.definitions().items():
            if name != migration.VERSION_TABLE:
                self.assertIn('CHARSET=utf8mb4 COLLATE=utf8mb4_bin', sql)
