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

"""Encrypts what is kept with the first key of ``encryption_keys``.

Use it through :mod:`nova_gpu_lease.db.api`.
"""

import sqlalchemy as sa

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import models
from nova_gpu_lease import exception
from nova_gpu_lease import secrets

Request = models.Request

#: Rows that are read at a time.
BATCH = 200
COLUMNS = ('secrets', 'token')


def rotate():
    """Encrypt every secret and token anew that has another than the first key.

    Services may run meanwhile: a row that they change between our reading and
    writing is theirs, and they use the first key too.

    :returns: a dict of 'rotated', 'current' (had the first key already),
        'changed' (by a service, in that moment) and 'unreadable' (with none
        of the keys) to a number of values.
    :raises: exception.NoEncryptionKey, InvalidEncryptionKey
    """
    counts = dict.fromkeys(('rotated', 'current', 'changed', 'unreadable'), 0)
    for name in COLUMNS:
        last = 0
        while rows := _read(name, last):
            for last, text in rows:
                counts[_rotate(name, last, text)] += 1
    return counts


def _rotate(name, request_id, text):
    try:
        newer = secrets.rotate(text)
    except exception.UnreadableSecrets:
        return 'unreadable'
    if newer is None:
        return 'current'
    return 'rotated' if _swap(name, request_id, text, newer) else 'changed'


@_engine.reader
def _read(session, name, after):
    column = getattr(Request, name)
    return session.execute(
        sa.select(Request.id, column)
        .where(column.is_not(None), Request.id > after)
        .order_by(Request.id).limit(BATCH)).all()


@_engine.writer
def _swap(session, name, request_id, old, new):
    return session.execute(
        sa.update(Request)
        .where(Request.id == request_id, getattr(Request, name) == old)
        .values({name: new}),
        execution_options={'synchronize_session': False}).rowcount == 1
