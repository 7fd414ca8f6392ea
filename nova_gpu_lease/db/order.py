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


"""Queries for who starts next, and for who makes room.

Use them through :mod:`nova_gpu_lease.db.api`.
"""

import sqlalchemy as sa

from nova_gpu_lease import clock
from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import leases as db_leases
from nova_gpu_lease.db import models
from nova_gpu_lease.db import requests as db_requests
from nova_gpu_lease import states

Lease = models.Lease
Request = models.Request

#: What a plan changes about a waiting request.
_NOTED = ('queue_group', 'reason', 'reason_code', 'expected_start',
          'promised', 'promise')
#: Requests written by one transaction, so that none holds locks for long.
BATCH = 500


@_engine.reader
def leases_held(session):
    """The leases whose servers have devices: only what plans are made of.

    :returns: a list of rows with id, uuid, server_id, state, generation,
        duration, dispatched_at, started_at, expires_at, preempt_at,
        next_attempt_at, updated_at and reason_code of a lease, and priority
        of its request.
    """
    return session.execute(
        sa.select(Lease.id, Lease.uuid, Lease.server_id, Lease.state,
                  Lease.generation, Lease.duration, Lease.dispatched_at,
                  Lease.started_at, Lease.expires_at, Lease.preempt_at,
                  Lease.next_attempt_at, Lease.updated_at, Lease.reason_code,
                  Request.priority)
        .join(Request, Lease.request_id == Request.id)
        .where(Lease.state.in_(states.LEASE_HOLDING)).order_by(Lease.id)).all()


@_engine.reader
def priorities_used(session):
    """The names of the priority classes of leases that are not over.

    :returns: a set of str.
    """
    return set(session.scalars(
        sa.select(Request.priority).distinct().where(
            sa.select(Lease.id).where(
                Lease.request_id == Request.id,
                Lease.current_server_id.is_not(None)).exists())))


@_engine.reader
def leases_used(session, since):
    """What projects used, to share fairly.

    :param since: leases that ended before this time do not count.
    :returns: a list of rows with project_id, devices, started_at and
        ended_at (None while it runs).
    """
    return session.execute(
        sa.select(Lease.project_id, Lease.devices, Lease.started_at,
                  Lease.ended_at)
        .where(Lease.started_at.is_not(None),
               sa.or_(Lease.ended_at.is_(None), Lease.ended_at > since))
        .order_by(Lease.id)).all()


def note_waits(changes):
    """Write what a plan says of waiting requests.

    Those that are not in the queue any more are left alone. Nothing is noted
    in the history and nobody is woken.

    :param changes: a list of (models.Request as read, dict of columns among
        queue_group, reason, reason_code, expected_start, promised and
        promise).
    """
    for first in range(0, len(changes), BATCH):
        _note_waits(changes[first:first + BATCH])


@_engine.writer
def _note_waits(session, changes):
    table = Request.__table__
    statement = sa.update(table).where(
        table.c.id == sa.bindparam('for_id'),
        table.c.state == sa.bindparam('for_state'),
        table.c.generation == sa.bindparam('for_generation')).values(
            updated_at=clock.now(),
            **{name: sa.bindparam('new_' + name) for name in _NOTED})
    session.connection().execute(statement, [
        {'for_id': request.id, 'for_state': request.state,
         'for_generation': request.generation,
         **{'new_' + name: values.get(name, getattr(request, name))
            for name in _NOTED}}
        for request, values in changes])


@_engine.reader
def leases_preempting(session):
    """The leases that are to make room for others at their preempt_at.

    :returns: a list of models.Lease that are ACTIVE, ordered by id.
    """
    return session.scalars(
        db_leases.select().where(
            Lease.state == states.LEASE_ACTIVE,
            Lease.preempt_at.is_not(None))
        .order_by(Lease.id)).all()


@_engine.writer
def lease_preempted(session, lease, actor, values, new_lease, reason):
    """End a lease that made room, and queue its server again: both or none.

    :param lease: the models.Lease as read, whose server is shelved.
    :param actor: host name of the service that does it.
    :param values: a dict of columns of models.Request.
    :param new_lease: a dict of columns of models.Lease.
    :param reason: why, for people.
    :returns: the new models.Request.
    :raises: exception.StaleState if it was changed since it was read.
    """
    db_leases.move(
        session, lease, lease.request.uuid, states.LEASE_EXPIRED, actor,
        {'reason': reason, 'reason_code': states.REASON_PREEMPTED,
         'end_action': states.ENDED_SHELVED})
    return db_requests.add(session, values, [new_lease], actor)


@_engine.reader
def lease_original(session, server_id):
    """The newest lease of a server that does not go on with another one.

    :returns: a models.Lease or None.
    """
    return session.scalars(
        db_leases.select().join(Request, Lease.request_id == Request.id)
        .where(Lease.server_id == server_id, Request.resumes.is_(None))
        .order_by(Lease.id.desc()).limit(1)).first()
