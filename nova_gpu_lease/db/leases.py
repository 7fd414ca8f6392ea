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


"""Queries on leases. Use them through :mod:`nova_gpu_lease.db.api`.

A lease comes with its request (``lease.request``), without that one's
payload and secrets. Lists are in :mod:`nova_gpu_lease.db.lease_list`.
"""

import datetime
import functools

import sqlalchemy as sa
from sqlalchemy import orm

from nova_gpu_lease import clock
from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import _rows
from nova_gpu_lease.db import models
from nova_gpu_lease import exception
from nova_gpu_lease import states

Lease = models.Lease
Request = models.Request

#: How long after its end a lease counts as overdue.
OVERDUE = datetime.timedelta(minutes=1)
#: Its end has begun and is not done.
_TO_END = (states.LEASE_EXPIRING, states.LEASE_ERROR)


def select():
    """A query of leases with their requests.

    :returns: a SQLAlchemy Select.
    """
    return sa.select(Lease).options(
        orm.joinedload(Lease.request).options(
            orm.defer(Request.payload),
            orm.defer(Request.secrets),
            orm.defer(Request.token)))


@_engine.reader
def leases_of(session, request_id):
    """The leases of a request, in the order of its servers.

    :param request_id: the number of the request, ``request.id``.
    """
    return session.scalars(select().where(
        Lease.request_id == request_id).order_by(Lease.id)).all()


@_engine.reader
def leases_of_requests(session, request_ids):
    """The leases of several requests.

    :param request_ids: numbers of requests, ``request.id``.
    :returns: a dict of request id to a list of models.Lease in the order of
        its servers.
    """
    result = {request_id: [] for request_id in request_ids}
    for lease in session.scalars(select().where(
            Lease.request_id.in_(list(result))).order_by(Lease.id)):
        result[lease.request_id].append(lease)
    return result


@_engine.reader
def get(session, id):
    """One lease by its uuid, or the lease of a server.

    :param id: uuid of a lease, or of a server: then its current lease, else
        its latest.
    :raises: exception.LeaseNotFound
    """
    lease = session.scalars(
        select().where(Lease.uuid == id)).one_or_none()
    if lease is None:
        lease = session.scalars(
            select().where(Lease.server_id == id)
            .order_by(Lease.current_server_id.is_(None), Lease.id.desc())
            .limit(1)).first()
    if lease is None:
        raise exception.LeaseNotFound(id=id)
    return lease


@_engine.reader
def lease_current(session, server_id):
    """The current lease of a server.

    :returns: a models.Lease or None.
    """
    return session.scalars(select().where(
        Lease.current_server_id == server_id)).one_or_none()


@_engine.reader
def leases_current(session, server_ids):
    """The current leases of servers.

    :param server_ids: uuids of servers.
    :returns: a dict of server id to models.Lease, without those that have
        none.
    """
    return {lease.server_id: lease for lease in session.scalars(
        select().where(Lease.current_server_id.in_(list(server_ids)))
        .order_by(Lease.id))}


@_engine.reader
def leases_on_host(session, host, server_ids=()):
    """The leases whose servers are, or are being built, on a host.

    :param host: name of a compute host.
    :param server_ids: servers known to be there whatever their lease says.
    :returns: a list of models.Lease that are BUILDING, ACTIVE, EXPIRING or
        ERROR.
    """
    return session.scalars(
        select().where(
            Lease.state.in_(states.LEASE_HOLDING),
            sa.or_(Lease.host == host,
                   Lease.server_id.in_(list(server_ids))))
        .order_by(Lease.id)).all()


@_engine.reader
def leases_in(session, states, due_before=None):
    """The leases in these states.

    :param states: states of leases.
    :param due_before: only those whose expires_at is not later than this.
    :returns: a list of models.Lease ordered by id.
    """
    query = select().where(Lease.state.in_(list(states))).order_by(Lease.id)
    if due_before is not None:
        # A lease is an interval without its end: at expires_at it is over.
        query = query.where(Lease.expires_at <= due_before)
    return session.scalars(query).all()


@_engine.reader
def leases_cancelled(session):
    """The leases whose wait was cancelled, and whose servers may not know.

    :returns: a list of models.Lease, ordered by id.
    """
    return session.scalars(
        select().where(Lease.state == states.LEASE_CANCELLED,
                       Lease.next_attempt_at.is_not(None))
        .order_by(Lease.id)).all()


@_engine.reader
def leases_taken_back(session, since):
    """The leases that were to start, and wait again or never will.

    :param since: an aware UTC time: only those that changed after it.
    :returns: a list of models.Lease that are QUEUED or CANCELLED, ordered by
        id.
    """
    return session.scalars(
        select().where(
            Lease.state.in_((states.LEASE_QUEUED, states.LEASE_CANCELLED)),
            Lease.dispatched_at.is_not(None), Lease.updated_at >= since)
        .order_by(Lease.id)).all()


@_engine.reader
def leases_to_end(session, now):
    """The leases whose end has begun and may be tried now.

    :returns: a list of models.Lease that are EXPIRING or ERROR, ordered by
        id.
    """
    return session.scalars(
        select().where(
            Lease.state.in_(_TO_END),
            sa.or_(Lease.next_attempt_at.is_(None),
                   Lease.next_attempt_at <= now))
        .order_by(Lease.id)).all()


@_engine.reader
def leases_overdue(session, now, timeout):
    """The leases that should be over, and whose servers hold their devices.

    :param now: the time, aware UTC.
    :param timeout: seconds that a try to end one may take.
    :returns: a list of models.Lease, the oldest end first: such as nobody
        has begun to end, could not be ended, or takes longer than that.
    """
    late = now - OVERDUE
    return session.scalars(
        select().where(
            Lease.state.in_((states.LEASE_ACTIVE, *_TO_END)),
            Lease.expires_at <= late,
            sa.or_(Lease.state != states.LEASE_EXPIRING, Lease.attempts > 0,
                   Lease.expires_at <= late - datetime.timedelta(
                       seconds=timeout)))
        .order_by(Lease.expires_at, Lease.id)).all()


@_engine.reader
def waiting_count(session, project_id):
    """How many servers of a project wait."""
    return session.execute(
        sa.select(sa.func.count()).select_from(Lease).where(
            Lease.project_id == project_id,
            Lease.state == states.LEASE_QUEUED)).scalar_one()


@functools.cache
def _scheduling_view():
    """The statement; making it takes longer than what it asks."""
    # One row, whether there is a plan or a lease or neither.
    given = sa.select(
        sa.literal(_rows.PLAN_ID).label('plan_id'),
        sa.bindparam('server_id', type_=sa.String).label('server_id')
    ).subquery()
    current = orm.aliased(Lease)
    return (
        select().add_columns(models.Plan.reservations, models.Plan.ends)
        .select_from(given)
        .outerjoin(models.Plan, models.Plan.id == given.c.plan_id)
        .outerjoin(current, current.current_server_id == given.c.server_id)
        .outerjoin(Lease, Lease.request_id == current.request_id)
        .order_by(Lease.id))


@_engine.reader
def scheduling_view(session, server_id):
    """What filter and weigher need to know, in one statement.

    :param server_id: the server that is being scheduled.
    :returns: a tuple of its current models.Lease or None, the list of all
        leases of that one's request (itself too), and the reservations and
        ends as plan_save() left them, see models.Plan.
    """
    rows = session.execute(
        _scheduling_view(), {'server_id': server_id}).all()
    gang = [row[0] for row in rows if row[0] is not None]
    mine = [lease for lease in gang if lease.current_server_id == server_id]
    return (mine[0] if mine else None, gang, rows[0].reservations or {},
            rows[0].ends or {})


def move(session, lease, request_uuid, new_state, actor, values,
         exact=False):
    """Change the state of a lease inside the caller's transaction.

    :param lease: anything with id, uuid, state and generation as read.
    :param values: a dict of the other columns to set.
    :param exact: as in transition().
    :raises: exception.StaleState, InvalidTransition
    """
    if new_state not in states.LEASE_CURRENT:
        values = {'ended_at': clock.now(), **values,
                  'current_server_id': None}
    _rows.swap(session, Lease, lease, new_state, states.LEASE_TRANSITIONS,
               values, exact)
    _rows.write_history(session, request_uuid, lease.uuid, lease.state,
                        new_state, actor, values.get('reason'))


@_engine.writer
def transition(session, lease, new_state, actor, reason=None,
               reason_code=None, wake=True, exact=False, **values):
    """Move a lease to another state.

    A lease that ends gets ``ended_at`` now, unless given, and is its
    server's current lease no more.

    :param lease: the models.Lease as read.
    :param actor: host name of the service that does it.
    :param reason: why, for people. None clears what was there: a reason
        belongs to a state.
    :param reason_code: why, for programs; likewise.
    :param wake: whether the dispatcher should look at the queue.
    :param exact: whether no column at all may have changed since it was
        read, not only its state.
    :param values: other columns of the lease to set.
    :returns: the models.Lease as it is now.
    :raises: exception.StaleState if it was changed since it was read.
        exception.InvalidTransition
    """
    move(session, lease, lease.request.uuid, new_state, actor,
         {**values, 'reason': reason, 'reason_code': reason_code}, exact)
    if wake:
        _rows.bump(session)
    return session.scalars(select().where(Lease.id == lease.id)).one()


@_engine.writer
def assign(session, lease, **values):
    """Set columns of a lease without a change of state.

    Nothing is noted in the history and nobody is woken.

    :param lease: the models.Lease as read.
    :returns: whether it still was in that state and generation, and the
        columns are set.
    """
    return _rows.assign(session, Lease, lease, values)


@_engine.writer
def rename(session, server_id, name):
    """Note the new name of a server on its current lease, if it has one."""
    session.execute(
        sa.update(Lease).where(Lease.current_server_id == server_id)
        .values(server_name=name),
        execution_options={'synchronize_session': False})
