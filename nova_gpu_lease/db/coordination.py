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


"""How the services find and wake each other: counter, lock, plan, beats.

Use them through :mod:`nova_gpu_lease.db.api`.
"""

import datetime

import sqlalchemy as sa

from nova_gpu_lease import clock
from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import _rows
from nova_gpu_lease.db import models
from nova_gpu_lease.planner import score
from nova_gpu_lease import states

Lock = models.Lock
_CORE = {'synchronize_session': False}


@_engine.writer
def wake(session, deleted=False):
    """Tell the dispatcher that something changed.

    :param deleted: whether a server was deleted, which may have waited.
    """
    if deleted:
        _rows.bump(session, _rows.DELETIONS)
    _rows.bump(session)


@_engine.reader
def wake_value(session):
    """The wake-up counter; it grows with every event.

    :returns: an int; 0 before the first event.
    """
    return _counter(session, _rows.WAKEUP)


@_engine.reader
def deletions_value(session):
    """A counter that grows with every deleted server.

    :returns: an int; 0 before the first one.
    """
    return _counter(session, _rows.DELETIONS)


def _counter(session, name):
    return session.execute(
        sa.select(models.Counter.value).where(
            models.Counter.name == name)).scalar_one_or_none() or 0


def plan_save(reservations):
    """Replace the plan that filter and weigher obey, if it changed.

    Which leases end when is read here and saved with it.

    :param reservations: as in models.Plan.
    """
    old, ends = _plan_read()
    if old != (reservations, ends):
        _plan_write(reservations, ends)


@_engine.reader
def _plan_read(session):
    """The reservations and ends of the plan, and the ends as they are now."""
    old = session.execute(
        sa.select(models.Plan.reservations, models.Plan.ends).where(
            models.Plan.id == _rows.PLAN_ID)).one_or_none()
    return old and tuple(old), _ends(session)


@_engine.writer
def _plan_write(session, reservations, ends):
    _rows.put(session, models.Plan, {'id': _rows.PLAN_ID}, {
        'reservations': reservations, 'ends': ends,
        'updated_at': clock.now()})


def _ends(session):
    """When the last lease on each node ends.

    :returns: {node uuid: score.era()}; one that is being built is taken as
        starting now.
    """
    now = clock.now()
    lengths = sa.func.max(sa.case(
        (models.Lease.state == states.LEASE_BUILDING, models.Lease.duration)))
    rows = session.execute(
        sa.select(models.Lease.node_uuid,
                  sa.func.max(models.Lease.expires_at), lengths)
        .where(models.Lease.state.in_(states.LEASE_HOLDING),
               models.Lease.node_uuid.is_not(None))
        .group_by(models.Lease.node_uuid))
    return {node: score.drained(
                end.timestamp() for end in (
                    expires_at, duration is not None and
                    now + datetime.timedelta(seconds=duration)) if end)
            for node, expires_at, duration in rows}


@_engine.reader
def plan_get(session):
    """The reservations as plan_save() got them; ``{}`` before."""
    return session.execute(
        sa.select(models.Plan.reservations).where(
            models.Plan.id == _rows.PLAN_ID)).scalar_one_or_none() or {}


def lock_acquire(name, owner, observed=None, takeover=False):
    """Take a lock that is free, ours, or left by an owner that died.

    :param name: name of the lock.
    :param owner: who wants it: a name of one process.
    :param observed: the (owner, beat) that the caller saw last, long enough
        ago that a living owner would have raised the beat; or None.
    :param takeover: whether to take it from that owner if both are still the
        same.
    :returns: a tuple of whether the lock is ours now, and its (owner, beat)
        now.
    """
    seen = _lock_read(name)
    # Who only waits does not write.
    if (seen is None or seen[0] in (None, owner) or
            (takeover and observed is not None and
             seen == tuple(observed))):
        return _lock_take(name, owner, observed if takeover else None)
    return False, seen


@_engine.reader
def _lock_read(session, name):
    row = session.execute(sa.select(Lock.owner, Lock.beat).where(
        Lock.name == name)).one_or_none()
    return row and tuple(row)


@_engine.writer
def _lock_take(session, name, owner, observed):
    mine = sa.or_(Lock.owner.is_(None), Lock.owner == owner)
    if observed is not None:
        mine = sa.or_(mine, sa.and_(Lock.owner == observed[0],
                                    Lock.beat == observed[1]))
    taken = session.execute(
        sa.update(Lock).where(Lock.name == name, mine)
        .values(owner=owner, beat=Lock.beat + 1),
        execution_options=_CORE).rowcount == 1
    row = session.execute(sa.select(Lock.owner, Lock.beat).where(
        Lock.name == name)).one_or_none()
    if row is None:
        _rows.insert(session, Lock(name=name, owner=owner, beat=1))
        return True, (owner, 1)
    return taken, tuple(row)


@_engine.writer
def lock_beat(session, name, owner):
    """Show that the owner of a lock lives.

    :returns: whether it still is ours.
    """
    return session.execute(
        sa.update(Lock).where(Lock.name == name, Lock.owner == owner)
        .values(beat=Lock.beat + 1), execution_options=_CORE).rowcount == 1


@_engine.writer
def lock_release(session, name, owner):
    """Free a lock if it is ours.

    :returns: whether it was.
    """
    return session.execute(
        sa.update(Lock).where(Lock.name == name, Lock.owner == owner)
        .values(owner=None, beat=Lock.beat + 1),
        execution_options=_CORE).rowcount == 1


@_engine.writer
def conductor_beat(session, host, version, dispatches):
    """Note that a nova-gpu-lease-conductor lives.

    :param host: its host name.
    :param version: its version of this package.
    :param dispatches: whether it has [api_database].
    """
    _rows.put(session, models.Conductor, {'host': host}, {
        'version': version, 'dispatches': dispatches,
        'seen_at': clock.now()})


@_engine.reader
def conductors_list(session):
    """Every conductor that ever gave a beat.

    :returns: a list of models.Conductor ordered by host.
    """
    return session.scalars(sa.select(models.Conductor).order_by(
        models.Conductor.host)).all()
