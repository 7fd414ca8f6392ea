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


"""Queries on requests, and on leases as parts of a request.

Use them through :mod:`nova_gpu_lease.db.api`.
"""

from oslo_db import exception as db_exc
from oslo_utils import uuidutils
import sqlalchemy as sa
from sqlalchemy import orm

from nova_gpu_lease import clock
from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import _rows
from nova_gpu_lease.db import leases as db_leases
from nova_gpu_lease.db import models
from nova_gpu_lease import exception
from nova_gpu_lease import states

Lease = models.Lease
Request = models.Request

#: The order of the queue within a class: by age. Not by queued_at, which is
#: by the clocks of several conductors.
_PLACE = (sa.func.coalesce(Request.resumes, Request.id), Request.id)
# What a lease has from its request unless it says otherwise.
_SHARED = ('project_id', 'user_id', 'devices')


def create(values, leases, actor, state=states.REQUEST_QUEUED,
           lease_state=states.LEASE_QUEUED):
    """Queue a request with one lease for each of its servers.

    All rows are written or none. ``uuid``, ``queued_at`` and ``num_servers``
    have defaults.

    :param values: a dict of columns of models.Request.
    :param leases: a list of dicts of columns of models.Lease; project_id,
        user_id and devices default to the request's.
    :param actor: host name of the service that does it.
    :param state: another state for a request that never waits.
    :param lease_state: that of its leases.
    :returns: the models.Request.
    :raises: exception.LeaseExists if one of the servers has a current lease.
    """
    try:
        return _create(values, leases, actor, state, lease_state)
    except db_exc.DBDuplicateEntry:
        held = db_leases.leases_current(
            [lease['server_id'] for lease in leases])
        for server_id in held:
            raise exception.LeaseExists(server_id=server_id)
        raise


@_engine.writer
def _create(session, values, leases, actor, state, lease_state):
    return add(session, values, leases, actor, state, lease_state)


def add(session, values, leases, actor, state=states.REQUEST_QUEUED,
        lease_state=states.LEASE_QUEUED):
    """Queue a request inside the caller's transaction; as create()."""
    now = clock.now()
    defaults = {'uuid': uuidutils.generate_uuid(), 'queued_at': now,
                'num_servers': len(leases)}
    request = Request(**{
        **defaults, **values, 'state': state,
        'generation': 0, 'created_at': now, 'updated_at': now})
    session.add(request)
    session.flush()
    _rows.write_history(session, request.uuid, None, None, request.state,
                        actor, request.reason)
    shared = {key: getattr(request, key) for key in _SHARED}
    for number, lease_values in enumerate(leases):
        lease = Lease(**{
            'uuid': uuidutils.generate_uuid(), **shared, **lease_values,
            'request_id': request.id, 'state': lease_state,
            'current_server_id': lease_values['server_id'],
            'generation': 0, 'created_at': now, 'updated_at': now})
        session.add(lease)
        # In the order of the servers, so that their ids are too.
        session.flush()
        _rows.write_history(session, request.uuid, lease.uuid, None,
                            lease.state, actor, lease.reason)
    _rows.bump(session)
    return _load(session, request.id)


def _load(session, request_id):
    return session.execute(
        sa.select(Request).where(Request.id == request_id)
        .execution_options(populate_existing=True)).scalar_one()


@_engine.reader
def get(session, uuid):
    """One request with all of its columns.

    :raises: exception.RequestNotFound
    """
    request = session.execute(
        sa.select(Request).where(Request.uuid == uuid)).scalar_one_or_none()
    if request is None:
        raise exception.RequestNotFound(id=uuid)
    return request


_WITHOUT_PAYLOAD = tuple(
    orm.defer(column, raiseload=True) for column in (
        Request.payload, Request.secrets, Request.context, Request.token))


@_engine.reader
def requests_in(session, states, with_payload=False):
    """The requests in these states, in the order of the queue.

    :param states: states of requests.
    :param with_payload: whether payload, secrets and context are loaded;
        without, reading them is an error.
    :returns: a list of models.Request.
    """
    query = sa.select(Request).where(
        Request.state.in_(list(states))).order_by(*_PLACE)
    if not with_payload:
        query = query.options(*_WITHOUT_PAYLOAD)
    return session.scalars(query).all()


def _current(*in_states):
    """Whether a request has a current lease, in one of these states if any."""
    query = sa.select(Lease.id).where(
        Lease.request_id == Request.id, Lease.current_server_id.is_not(None))
    if in_states:
        query = query.where(Lease.state.in_(in_states))
    return query.exists()


@_engine.reader
def done_with_credentials(session):
    """The requests with a trust or a token that no lease needs any more.

    A server that made room comes back with the credentials of its first
    request.

    :returns: a list of models.Request without payload, secrets and context.
    """
    return session.scalars(
        sa.select(Request).where(
            sa.or_(Request.trust_id.is_not(None),
                   Request.token.is_not(None)),
            Request.state.in_(states.REQUEST_OVER), ~_current(),
            ~_resumed())
        .options(*_WITHOUT_PAYLOAD).order_by(Request.id)).all()


def _resumed():
    """Whether another request with the same credentials lives."""
    other = orm.aliased(Request)
    first = sa.func.coalesce(Request.resumes, Request.id)
    return sa.select(other.id).where(
        sa.or_(other.resumes == first, other.id == first),
        other.id != Request.id,
        sa.or_(other.state.not_in(states.REQUEST_OVER),
               sa.select(Lease.id).where(
                   Lease.request_id == other.id,
                   Lease.current_server_id.is_not(None)).exists())).exists()


@_engine.reader
def with_failed_builds(session):
    """The requests that are placed, and have a lease that waits again.

    :returns: a list of models.Request without payload, secrets and context.
    """
    return session.scalars(
        sa.select(Request).where(
            Request.state == states.REQUEST_PLACED,
            Request.id.in_(sa.select(Lease.request_id).where(
                Lease.state == states.LEASE_QUEUED)))
        .options(*_WITHOUT_PAYLOAD).order_by(Request.id)).all()


@_engine.reader
def undecided(session, before):
    """The requests of which it is not known how to act for their user.

    :param before: only those that were made before this time.
    :returns: a list of models.Request without payload, secrets, context and
        token.
    """
    return session.scalars(
        sa.select(Request).where(
            Request.credentials.is_(None), Request.created_at < before,
            _current())
        .options(*_WITHOUT_PAYLOAD).order_by(Request.id)).all()


@_engine.reader
def named(session, uuids):
    """Some requests by their uuids.

    :returns: a dict of uuid to models.Request without payload, secrets,
        context and token, of those that there are.
    """
    return {request.uuid: request for request in session.scalars(
        sa.select(Request).where(Request.uuid.in_(list(uuids)))
        .options(*_WITHOUT_PAYLOAD))}


@_engine.writer
def wipe_payloads(session):
    """Forget the casts, and their secrets, that nothing is built from.

    :returns: the number of requests whose cast was forgotten.
    """
    # Found first: an UPDATE would lock every row that it looks at. None of
    # these can have anything to build again.
    ids = session.scalars(
        sa.select(Request.id).where(
            Request.state.in_(states.REQUEST_OVER),
            sa.or_(Request.payload.is_not(None),
                   Request.secrets.is_not(None)),
            ~_current(states.LEASE_QUEUED, states.LEASE_BUILDING))).all()
    if ids:
        session.execute(
            sa.update(Request).where(Request.id.in_(ids))
            .values(payload=None, secrets=None),
            execution_options={'synchronize_session': False})
    return len(ids)


@_engine.reader
def positions(session, key):
    """The place of each queued request among those it competes with.

    :param key: a function that gives what to sort by, of anything with the
        columns that priorities.queue_key() reads.
    :returns: a dict of request uuid to position; 1 is next. Requests that
        are in no queue_group yet are counted together.
    """
    rows = session.execute(
        sa.select(Request.uuid, Request.queue_group, Request.priority,
                  Request.promise, Request.project_id, Request.resumes,
                  Request.id)
        .where(Request.state == states.REQUEST_QUEUED)).all()
    counts, result = {}, {}
    for row in sorted(rows, key=key):
        counts[row.queue_group] = counts.get(row.queue_group, 0) + 1
        result[row.uuid] = counts[row.queue_group]
    return result


@_engine.writer
def transition(session, request, new_state, actor, reason=None,
               reason_code=None, lease_state=None, lease_values=None,
               servers=None, **values):
    """Move a request, and its leases with it, to another state.

    :param request: the models.Request as read.
    :param actor: host name of the service that does it.
    :param reason: why, for people. None clears what was there: a reason
        belongs to a state.
    :param reason_code: why, for programs; likewise.
    :param lease_state: the state that every current lease of the request
        which may go there goes to as well, with the same reason.
    :param servers: ids of the servers whose leases may move; None is all.
    :param lease_values: a dict of server id to the columns to set on its
        lease, if that moves.
    :param values: other columns of the request to set.
    :returns: the models.Request as it is now, with all of its columns.
    :raises: exception.StaleState if it was changed since it was read;
        nothing is written then. exception.InvalidTransition
    """
    because = {'reason': reason, 'reason_code': reason_code}
    _rows.swap(session, Request, request, new_state,
               states.REQUEST_TRANSITIONS, {**values, **because})
    _rows.write_history(session, request.uuid, None, request.state,
                        new_state, actor, reason)
    if lease_state is not None:
        movable = session.execute(
            sa.select(Lease.id, Lease.uuid, Lease.server_id, Lease.state,
                      Lease.generation)
            .where(Lease.request_id == request.id,
                   Lease.current_server_id.is_not(None))
            .order_by(Lease.id).with_for_update()).all()
        for lease in movable:
            if (lease_state in states.LEASE_TRANSITIONS[lease.state] and
                    (servers is None or lease.server_id in servers)):
                more = (lease_values or {}).get(lease.server_id, {})
                db_leases.move(session, lease, request.uuid, lease_state,
                               actor, {**because, **more})
    _rows.bump(session)
    return _load(session, request.id)


@_engine.writer
def assign(session, request, **values):
    """Set columns of a request without a change of state.

    Nothing is noted in the history and nobody is woken.

    :param request: the models.Request as read.
    :returns: whether it still was in that state and generation, and the
        columns are set.
    """
    return _rows.assign(session, Request, request, values)
