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


"""The list of leases that users see: filters, sort keys, pages.

Use it through :mod:`nova_gpu_lease.db.api`. oslo.db's paginate_query is not
used: it skips rows after a marker with NULL in a sort key.
"""

import sqlalchemy as sa

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import leases as db_leases
from nova_gpu_lease.db import models
from nova_gpu_lease import exception

Lease = models.Lease

#: What a list can be sorted by, and the column of each.
SORT_KEYS = {
    'status': Lease.state,
    **{key: getattr(Lease, key) for key in (
        'server_id', 'server_name', 'project_id', 'user_id', 'flavor',
        'duration', 'max_duration', 'on_expiry', 'started_at', 'expires_at',
        'ended_at', 'attempts', 'host', 'created_at', 'updated_at')},
    # Leases are numbered in the order they were asked for.
    'queued_at': Lease.id,
}

#: What a list can be filtered by, and the condition of each.
FILTERS = {
    'status': lambda value: Lease.state.in_(
        [value] if isinstance(value, str) else list(value)),
    'project_id': lambda value: Lease.project_id == value,
    'user_id': lambda value: Lease.user_id == value,
    'server_id': lambda value: Lease.server_id == value,
    'expires_before': lambda value: Lease.expires_at < value,
}


def _order(sort):
    """Pairs of a column and whether it descends, ending with the id."""
    order = []
    for key, direction in sort:
        if key not in SORT_KEYS:
            raise exception.InvalidInput(
                "'%s' is not a sort key; use %s." %
                (key, ', '.join(sorted(SORT_KEYS))))
        if direction not in ('asc', 'desc'):
            raise exception.InvalidInput(
                "'%s' is not a sort direction; use asc or desc." % direction)
        order.append((SORT_KEYS[key], direction == 'desc'))
    order.append((Lease.id, order[-1][1] if order else True))
    return order


def _after(order, marker):
    """The condition that a row comes after the marker; NULL comes last."""
    alternatives, equal = [], []
    for column, descending in order:
        value = getattr(marker, column.key)
        if value is None:
            equal.append(column.is_(None))
            continue
        later = column < value if descending else column > value
        if column.nullable:
            later = sa.or_(later, column.is_(None))
        alternatives.append(sa.and_(*equal, later))
        equal.append(column == value)
    return sa.or_(*alternatives)


@_engine.reader
def leases_list(session, filters=None, sort=(), limit=None, marker=None):
    """One page of leases.

    :param filters: a dict of keys of FILTERS; times are aware datetimes, a
        status may be a list of them.
    :param sort: pairs of a key of SORT_KEYS and ``asc`` or ``desc``. Rows
        without a value come last either way; equal rows are ordered by age.
        Empty: the newest first.
    :param limit: the most rows to return; None for all.
    :param marker: uuid of the last lease of the page before.
    :returns: a list of models.Lease.
    :raises: exception.MarkerNotFound, also for a lease of another project
        than is filtered by. exception.InvalidInput for an unknown key.
    """
    filters = filters or {}
    for key in filters:
        if key not in FILTERS:
            raise exception.InvalidInput(
                "'%s' is not a filter; use %s." %
                (key, ', '.join(sorted(FILTERS))))
    order = _order(sort)
    query = db_leases.select().where(
        *(FILTERS[key](value) for key, value in filters.items()))
    if marker is not None:
        query = query.where(_after(order, _marker(session, marker, filters)))
    for column, descending in order:
        if column.nullable:
            query = query.order_by(column.is_(None))
        query = query.order_by(column.desc() if descending else column)
    return session.scalars(query.limit(limit)).all()


def _marker(session, uuid, filters):
    query = db_leases.select().where(Lease.uuid == uuid)
    if 'project_id' in filters:
        query = query.where(Lease.project_id == filters['project_id'])
    lease = session.scalars(query).one_or_none()
    if lease is None:
        raise exception.MarkerNotFound(marker=uuid)
    return lease
