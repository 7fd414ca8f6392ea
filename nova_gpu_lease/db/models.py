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

"""The tables. All SQL that uses them is in :mod:`nova_gpu_lease.db.api`."""

import datetime
import json

from oslo_db.sqlalchemy import models
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy import orm

BASE = orm.declarative_base(cls=models.ModelBase)

TABLE_ARGS = {'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8mb4',
              'mysql_collate': 'utf8mb4_bin'}


class UTCDateTime(sa.TypeDecorator):
    """A time in UTC with microseconds; aware in Python, naive in SQL."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect):
        if dialect.name == 'mysql':
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value, dialect):
        if value is None:
            return None
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value, dialect):
        if value is None:
            return None
        return value.replace(tzinfo=datetime.timezone.utc)


class JSONText(sa.TypeDecorator):
    """A JSON document of up to 16 MiB."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect):
        if dialect.name == 'mysql':
            return dialect.type_descriptor(mysql.MEDIUMTEXT())
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value, dialect):
        return None if value is None else json.dumps(value, sort_keys=True)

    def process_result_value(self, value, dialect):
        return None if value is None else json.loads(value)


def _big_id():
    # SQLite only numbers rows by itself in an INTEGER column.
    return sa.Column(sa.BigInteger().with_variant(sa.Integer, 'sqlite'),
                     primary_key=True, autoincrement=True)


class Request(BASE):
    """One call of the API, for one server or a gang that starts together.

    Rows of a class are queued in the order of their ``id``, or of that of the
    request whose place they have.
    """

    __tablename__ = 'requests'
    __table_args__ = (
        sa.UniqueConstraint('uuid', name='uniq_requests0uuid'),
        sa.Index('requests_state_idx', 'state', 'id'),
        sa.Index('requests_project_id_idx', 'project_id', 'state'),
        sa.Index('requests_resumes_idx', 'resumes'),
        TABLE_ARGS)

    id = _big_id()
    uuid = sa.Column(sa.String(36), nullable=False)
    kind = sa.Column(sa.String(16), nullable=False)
    state = sa.Column(sa.String(16), nullable=False)
    #: Grows with every change of state; compared and swapped.
    generation = sa.Column(sa.Integer, nullable=False, default=0)
    project_id = sa.Column(sa.String(255), nullable=False)
    user_id = sa.Column(sa.String(255), nullable=False)
    priority = sa.Column(sa.String(64), nullable=False)
    num_servers = sa.Column(sa.Integer, nullable=False)
    #: {alias: number of devices} of one server.
    devices = sa.Column(JSONText, nullable=False)
    queued_at = sa.Column(UTCDateTime, nullable=False)
    wait_until = sa.Column(UTCDateTime)
    #: Failed tries to start, and when the next one may be.
    attempts = sa.Column(sa.Integer, nullable=False, default=0)
    next_attempt_at = sa.Column(UTCDateTime)
    reason_code = sa.Column(sa.String(64))
    reason = sa.Column(sa.Text)
    #: Requests that compete with each other share this name; a position is
    #: counted within it.
    queue_group = sa.Column(sa.String(255))
    #: When it starts at the latest, if that is promised, or about when.
    expected_start = sa.Column(UTCDateTime)
    promised = sa.Column(sa.Boolean, nullable=False, default=False,
                         server_default='0')
    #: The reservation that it has as a blocked head of the queue, for the
    #: next plan: {'start': seconds since the epoch or null, 'nodes': {node
    #: uuid: number of servers}}.
    promise = sa.Column(JSONText)
    #: The id of the request whose server it starts again after that made
    #: room for others: it has the place of that one in the queue.
    resumes = sa.Column(sa.BigInteger().with_variant(sa.Integer, 'sqlite'))
    #: What Nova's cast held and stores nowhere, without the secrets.
    payload = sa.Column(JSONText)
    #: The secrets of that cast, encrypted; None when there are none or they
    #: are not needed any more.
    secrets = sa.Column(JSONText)
    #: The user's RequestContext without its token.
    context = sa.Column(JSONText, nullable=False)
    trust_id = sa.Column(sa.String(64))
    #: How we act for the user later: one of states.CREDENTIALS; None until
    #: that is decided.
    credentials = sa.Column(sa.String(16))
    #: The user's token, encrypted, until Keystone made a trust.
    token = sa.Column(JSONText)
    #: Where the owner wants it: {'host', 'node', 'ignore_hosts'}, or None.
    destination = sa.Column(JSONText)
    created_at = sa.Column(UTCDateTime, nullable=False)
    updated_at = sa.Column(UTCDateTime, nullable=False)


class Lease(BASE):
    """The right of one server to its devices for a time."""

    __tablename__ = 'leases'
    __table_args__ = (
        sa.UniqueConstraint('uuid', name='uniq_leases0uuid'),
        sa.UniqueConstraint('current_server_id',
                            name='uniq_leases0current_server_id'),
        sa.ForeignKeyConstraint(['request_id'], ['requests.id'],
                                name='leases_request_id_fk'),
        sa.Index('leases_server_id_idx', 'server_id', 'id'),
        sa.Index('leases_project_id_idx', 'project_id', 'id'),
        sa.Index('leases_host_idx', 'host', 'state'),
        sa.Index('leases_state_idx', 'state', 'expires_at'),
        TABLE_ARGS)

    id = _big_id()
    uuid = sa.Column(sa.String(36), nullable=False)
    request_id = sa.Column(sa.BigInteger().with_variant(sa.Integer, 'sqlite'),
                           nullable=False)
    server_id = sa.Column(sa.String(36), nullable=False)
    #: The server_id while the lease is in one of states.LEASE_CURRENT, else
    #: None: the database itself keeps a second current lease out.
    current_server_id = sa.Column(sa.String(36))
    server_name = sa.Column(sa.String(255), nullable=False)
    project_id = sa.Column(sa.String(255), nullable=False)
    user_id = sa.Column(sa.String(255), nullable=False)
    flavor = sa.Column(sa.String(255), nullable=False)
    #: {alias: number of devices}.
    devices = sa.Column(JSONText, nullable=False)
    state = sa.Column(sa.String(16), nullable=False)
    generation = sa.Column(sa.Integer, nullable=False, default=0)
    #: Seconds.
    duration = sa.Column(sa.Integer, nullable=False)
    max_duration = sa.Column(sa.Integer)
    on_expiry = sa.Column(sa.String(16), nullable=False)
    auto_extend = sa.Column(sa.Boolean, nullable=False, default=False)
    #: Where the server is, or is planned to be.
    host = sa.Column(sa.String(255))
    node_uuid = sa.Column(sa.String(36))
    #: When it was last planned to start, and is BUILDING since.
    dispatched_at = sa.Column(UTCDateTime)
    started_at = sa.Column(UTCDateTime)
    expires_at = sa.Column(UTCDateTime)
    #: When it makes room for a request of another class, if it does.
    preempt_at = sa.Column(UTCDateTime)
    ended_at = sa.Column(UTCDateTime)
    end_action = sa.Column(sa.String(16))
    reason_code = sa.Column(sa.String(64))
    reason = sa.Column(sa.Text)
    #: Builds that failed.
    build_attempts = sa.Column(sa.Integer, nullable=False, default=0,
                               server_default='0')
    #: Failed tries to end it, and how many of them failed because a service
    #: was away; when the running one was begun, and when the next one may be.
    #: A CANCELLED lease has the last one until its shelved server is free
    #: again.
    attempts = sa.Column(sa.Integer, nullable=False, default=0)
    outages = sa.Column(sa.Integer, nullable=False, default=0,
                        server_default='0')
    attempt_started_at = sa.Column(UTCDateTime)
    next_attempt_at = sa.Column(UTCDateTime)
    #: Why the last try to end it failed; stays when a later one works.
    last_error = sa.Column(sa.Text)
    #: Whether the last try to shelve its server was made by Nova's own user,
    #: who then owns the image.
    stand_in = sa.Column(sa.Boolean, nullable=False, default=False,
                         server_default='0')
    created_at = sa.Column(UTCDateTime, nullable=False)
    updated_at = sa.Column(UTCDateTime, nullable=False)

    request = orm.relationship(Request, lazy='joined')


class History(BASE):
    """Every change of state, for operators; never read by the product."""

    __tablename__ = 'history'
    __table_args__ = (
        sa.Index('history_request_uuid_idx', 'request_uuid'),
        sa.Index('history_lease_uuid_idx', 'lease_uuid'),
        sa.Index('history_at_idx', 'at'),
        TABLE_ARGS)

    id = _big_id()
    at = sa.Column(UTCDateTime, nullable=False)
    request_uuid = sa.Column(sa.String(36), nullable=False)
    #: None for a change of the request itself.
    lease_uuid = sa.Column(sa.String(36))
    old_state = sa.Column(sa.String(16))
    new_state = sa.Column(sa.String(16), nullable=False)
    #: The host of the service that made the change.
    actor = sa.Column(sa.String(255))
    reason = sa.Column(sa.Text)


class Counter(BASE):
    """A number that only grows; ``wakeup`` is bumped by every event."""

    __tablename__ = 'counters'
    __table_args__ = (TABLE_ARGS,)

    name = sa.Column(sa.String(64), primary_key=True)
    value = sa.Column(sa.BigInteger, nullable=False)


class Lock(BASE):
    """Who dispatches. The owner raises ``beat``; nobody compares clocks."""

    __tablename__ = 'locks'
    __table_args__ = (TABLE_ARGS,)

    name = sa.Column(sa.String(64), primary_key=True)
    owner = sa.Column(sa.String(255))
    beat = sa.Column(sa.BigInteger, nullable=False)


class Plan(BASE):
    """The one row that the scheduler filter obeys.

    ``reservations`` is {compute node uuid: [[request uuid, alias, count]]}:
    the devices that are next for a waiting request; a count of None means
    all that match the alias. ``ends`` is {compute node uuid: when the last
    lease there ends, as score.era()}; the scheduler reads it here instead of
    looking at all leases for each server.
    """

    __tablename__ = 'plans'
    __table_args__ = (TABLE_ARGS,)

    id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    reservations = sa.Column(JSONText, nullable=False)
    ends = sa.Column(JSONText)
    updated_at = sa.Column(UTCDateTime, nullable=False)


class Conductor(BASE):
    """A nova-gpu-lease-conductor that lives, for the upgrade check."""

    __tablename__ = 'conductors'
    __table_args__ = (TABLE_ARGS,)

    host = sa.Column(sa.String(255), primary_key=True)
    version = sa.Column(sa.String(64), nullable=False)
    #: Whether it can dispatch: it has [api_database].
    dispatches = sa.Column(sa.Boolean, nullable=False)
    seen_at = sa.Column(UTCDateTime, nullable=False)
