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


"""Bringing the schema of the database up to date."""

import os

from alembic import command
from alembic import config as alembic_config
from alembic import migration as alembic_migration
from alembic import script as alembic_script
from alembic.util import exc as alembic_exc

from nova_gpu_lease.db import _engine
from nova_gpu_lease import exception

#: Our own, so that another project's tables may be in the same database.
VERSION_TABLE = 'gpu_lease_alembic_version'


def _config():
    config = alembic_config.Config(
        os.path.join(os.path.dirname(__file__), 'alembic.ini'))
    config.attributes['version_table'] = VERSION_TABLE
    return config


def version():
    """The revision of the schema that the database has.

    :returns: a str, or None for a database that was never synced.
    """
    with _engine.get_engine().connect() as connection:
        return alembic_migration.MigrationContext.configure(
            connection,
            opts={'version_table': VERSION_TABLE}).get_current_revision()


def latest():
    """The revision of the schema that this version of the package needs."""
    return alembic_script.ScriptDirectory.from_config(
        _config()).get_current_head()


def sync(version=None):
    """Run the migrations that are missing.

    :param version: the revision to stop at; the latest if None.
    :raises: exception.MigrationFailed for a revision that is not known, in
        the database or as version.
    """
    config = _config()
    with _engine.get_engine().begin() as connection:
        config.attributes['connection'] = connection
        try:
            command.upgrade(config, version or 'head')
        except alembic_exc.CommandError as exc:
            raise exception.MigrationFailed(reason=exc)
