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


"""What every change of a row needs: compare and swap, history, wake-up."""

from oslo_db import exception as db_exc
import sqlalchemy as sa

from nova_gpu_lease import clock
from nova_gpu_lease.db import models
from nova_gpu_lease import exception

WAKEUP = 'wakeup'
DELETIONS = 'deletions'
PLAN_ID = 1
_FIXED = frozenset(('id', 'uuid', 'state', 'generation'))


def swap(session, model, row, new_state, transitions, values, exact=False):
    """Change a row's state if nobody changed it since it was read.

    :param model: models.Request or models.Lease.
    :param row: anything with id, uuid, state and generation as read.
    :param new_state: the state it goes to.
    :param transitions: the states.*_TRANSITIONS of the model.
    :param values: a dict of the other columns to set.
    :param exact: whether no other column may have changed either.
    :raises: exception.InvalidTransition, StaleState
    """
    if new_state not in transitions[row.state]:
        raise exception.InvalidTransition(
            table=model.__name__, old=row.state, new=new_state)
    if not _update(session, model, row, dict(
            values, state=new_state, generation=row.generation + 1), exact):
        raise exception.StaleState(
            table=model.__name__, id=row.uuid, state=row.state,
            generation=row.generation)


def assign(session, model, row, values):
    """Set columns of a row that is still in the state it was read in.

    :param row: anything with id, state and generation as read.
    :param values: a dict of columns; not one that a change of state sets.
    :returns: whether it was still so, and the columns are set.
    """
    fixed = _FIXED.intersection(values)
    if fixed:
        raise ValueError('%s cannot be set without a change of state' %
                         ', '.join(sorted(fixed)))
    return _update(session, model, row, values)


def amend(session, model, row, values, exact=False):
    """Set columns of a row whose state stays, with a new generation.

    Whoever read it before finds that it was changed.

    :param row: anything with id, uuid, state and generation as read.
    :param values: a dict of columns; not one that a change of state sets.
    :param exact: whether no other column may have changed either.
    :raises: exception.StaleState
    """
    if not _update(session, model, row, dict(
            values, generation=row.generation + 1), exact):
        raise exception.StaleState(
            table=model.__name__, id=row.uuid, state=row.state,
            generation=row.generation)


def _update(session, model, row, values, exact=False):
    statement = sa.update(model).where(
        model.id == row.id, model.state == row.state,
        model.generation == row.generation)
    if exact:
        statement = statement.where(model.updated_at == row.updated_at)
    values = dict(values, updated_at=clock.now())
    return session.execute(
        statement.values(values),
        execution_options={'synchronize_session': False}).rowcount == 1


def insert(session, row):
    """Insert a row that another process may insert at the same time.

    The caller's transaction is begun again, and finds it, if that happens.
    """
    session.add(row)
    try:
        session.flush()
    except db_exc.DBDuplicateEntry as exc:
        raise db_exc.RetryRequest(exc)


def put(session, model, key, values):
    """Update the row with this primary key, or insert it.

    :param key: a dict of the primary key's column.
    :param values: a dict of the other columns.
    """
    statement = sa.update(model).filter_by(**key).values(values)
    if not session.execute(
            statement,
            execution_options={'synchronize_session': False}).rowcount:
        insert(session, model(**key, **values))


def write_history(session, request_uuid, lease_uuid, old_state, new_state,
                  actor, reason):
    """Note one change of state."""
    session.execute(sa.insert(models.History).values(
        at=clock.now(), request_uuid=request_uuid, lease_uuid=lease_uuid,
        old_state=old_state, new_state=new_state, actor=actor,
        reason=reason))


def bump(session, name=WAKEUP):
    """Raise a counter. Do it last: its row is everybody's."""
    statement = sa.update(models.Counter).where(
        models.Counter.name == name).values(
            value=models.Counter.value + 1)
    if not session.execute(
            statement,
            execution_options={'synchronize_session': False}).rowcount:
        insert(session, models.Counter(name=name, value=1))
