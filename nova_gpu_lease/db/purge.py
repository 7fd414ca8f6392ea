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


"""Removal of what is over. Use it through :mod:`nova_gpu_lease.db.api`."""

import sqlalchemy as sa

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import models
from nova_gpu_lease import states

#: Requests deleted by one transaction, so that none holds locks for long.
BATCH = 200


def purge(before):
    """Delete ended requests with their leases and history.

    :param before: an aware datetime; a request goes when it and all of its
        leases ended earlier.
    :returns: a dict of table name to the number of rows deleted.
    """
    total = {'history': 0, 'leases': 0, 'requests': 0}
    while True:
        deleted = _purge_batch(before)
        for table, count in deleted.items():
            total[table] += count
        if deleted['requests'] < BATCH:
            return total


@_engine.writer
def _purge_batch(session, before):
    lease, request = models.Lease, models.Request
    alive = sa.exists().where(
        lease.request_id == request.id,
        sa.or_(lease.ended_at.is_(None), lease.ended_at >= before))
    rows = session.execute(
        sa.select(request.id, request.uuid)
        .where(request.state.in_(states.REQUEST_OVER),
               request.updated_at < before,
               # Else nobody would know of the trust.
               request.trust_id.is_(None), ~alive)
        .order_by(request.id).limit(BATCH)).all()
    ids = [row.id for row in rows]
    uuids = [row.uuid for row in rows]
    return {
        table.__tablename__: session.execute(
            sa.delete(table).where(condition),
            execution_options={'synchronize_session': False}).rowcount
        for table, condition in (
            (models.History, models.History.request_uuid.in_(uuids)),
            (lease, lease.request_id.in_(ids)),
            (request, request.id.in_(ids)))}
