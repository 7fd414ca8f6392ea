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


"""How alembic runs a migration; :mod:`nova_gpu_lease.db.migration` asks."""

from alembic import context

from nova_gpu_lease.db import models


def run():
    """Run migrations on the connection that the caller has opened."""
    attributes = context.config.attributes
    context.configure(
        connection=attributes['connection'],
        version_table=attributes['version_table'],
        target_metadata=models.BASE.metadata,
        # SQLite cannot alter a table: alembic makes a new one.
        render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


run()
