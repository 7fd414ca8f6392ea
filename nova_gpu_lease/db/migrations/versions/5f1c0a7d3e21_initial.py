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


"""Initial schema

Revision ID: 5f1c0a7d3e21
Revises:
Create Date: 2026-11-21 19:30:00
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = '5f1c0a7d3e21'
down_revision = None
branch_labels = None
depends_on = None

# As they were in this revision, whatever the models say later.
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), 'mysql')
JSON = sa.Text().with_variant(mysql.MEDIUMTEXT(), 'mysql')
TABLE_ARGS = {'mysql_engine': 'InnoDB', 'mysql_charset': 'utf8mb4',
              'mysql_collate': 'utf8mb4_bin'}


def upgrade():
    _requests()
    _leases()
    _history()
    _services()


def _requests():
    op.create_table(
        'requests',
        sa.Column('id', BIG_ID, primary_key=True, autoincrement=True),
        sa.Column('uuid', sa.String(36), nullable=False),
        sa.Column('kind', sa.String(16), nullable=False),
        sa.Column('state', sa.String(16), nullable=False),
        sa.Column('generation', sa.Integer(), nullable=False),
        sa.Column('project_id', sa.String(255), nullable=False),
        sa.Column('user_id', sa.String(255), nullable=False),
        sa.Column('priority', sa.String(64), nullable=False),
        sa.Column('num_servers', sa.Integer(), nullable=False),
        sa.Column('devices', JSON, nullable=False),
        sa.Column('queued_at', TIME, nullable=False),
        sa.Column('wait_until', TIME),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('next_attempt_at', TIME),
        sa.Column('reason_code', sa.String(64)),
        sa.Column('reason', sa.Text()),
        sa.Column('queue_group', sa.String(255)),
        sa.Column('expected_start', TIME),
        sa.Column('payload', JSON),
        sa.Column('secrets', JSON),
        sa.Column('context', JSON, nullable=False),
        sa.Column('trust_id', sa.String(64)),
        sa.Column('token', JSON),
        sa.Column('destination', JSON),
        sa.Column('created_at', TIME, nullable=False),
        sa.Column('updated_at', TIME, nullable=False),
        sa.UniqueConstraint('uuid', name='uniq_requests0uuid'),
        sa.Index('requests_state_idx', 'state', 'id'),
        sa.Index('requests_project_id_idx', 'project_id', 'state'),
        **TABLE_ARGS)


def _leases():
    op.create_table(
        'leases',
        sa.Column('id', BIG_ID, primary_key=True, autoincrement=True),
        sa.Column('uuid', sa.String(36), nullable=False),
        sa.Column('request_id', BIG_ID, nullable=False),
        sa.Column('server_id', sa.String(36), nullable=False),
        sa.Column('current_server_id', sa.String(36)),
        sa.Column('server_name', sa.String(255), nullable=False),
        sa.Column('project_id', sa.String(255), nullable=False),
        sa.Column('user_id', sa.String(255), nullable=False),
        sa.Column('flavor', sa.String(255), nullable=False),
        sa.Column('devices', JSON, nullable=False),
        sa.Column('state', sa.String(16), nullable=False),
        sa.Column('generation', sa.Integer(), nullable=False),
        sa.Column('duration', sa.Integer(), nullable=False),
        sa.Column('max_duration', sa.Integer()),
        sa.Column('on_expiry', sa.String(16), nullable=False),
        sa.Column('auto_extend', sa.Boolean(), nullable=False),
        sa.Column('host', sa.String(255)),
        sa.Column('node_uuid', sa.String(36)),
        sa.Column('started_at', TIME),
        sa.Column('expires_at', TIME),
        sa.Column('ended_at', TIME),
        sa.Column('end_action', sa.String(16)),
        sa.Column('reason_code', sa.String(64)),
        sa.Column('reason', sa.Text()),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('attempt_started_at', TIME),
        sa.Column('next_attempt_at', TIME),
        sa.Column('created_at', TIME, nullable=False),
        sa.Column('updated_at', TIME, nullable=False),
        sa.UniqueConstraint('uuid', name='uniq_leases0uuid'),
        sa.UniqueConstraint('current_server_id',
                            name='uniq_leases0current_server_id'),
        sa.ForeignKeyConstraint(['request_id'], ['requests.id'],
                                name='leases_request_id_fk'),
        sa.Index('leases_server_id_idx', 'server_id', 'id'),
        sa.Index('leases_project_id_idx', 'project_id', 'id'),
        sa.Index('leases_host_idx', 'host', 'state'),
        sa.Index('leases_state_idx', 'state', 'expires_at'),
        **TABLE_ARGS)


def _history():
    op.create_table(
        'history',
        sa.Column('id', BIG_ID, primary_key=True, autoincrement=True),
        sa.Column('at', TIME, nullable=False),
        sa.Column('request_uuid', sa.String(36), nullable=False),
        sa.Column('lease_uuid', sa.String(36)),
        sa.Column('old_state', sa.String(16)),
        sa.Column('new_state', sa.String(16), nullable=False),
        sa.Column('actor', sa.String(255)),
        sa.Column('reason', sa.Text()),
        sa.Index('history_request_uuid_idx', 'request_uuid'),
        sa.Index('history_lease_uuid_idx', 'lease_uuid'),
        sa.Index('history_at_idx', 'at'),
        **TABLE_ARGS)


def _services():
    op.create_table(
        'counters',
        sa.Column('name', sa.String(64), primary_key=True),
        sa.Column('value', sa.BigInteger(), nullable=False),
        **TABLE_ARGS)
    op.create_table(
        'locks',
        sa.Column('name', sa.String(64), primary_key=True),
        sa.Column('owner', sa.String(255)),
        sa.Column('beat', sa.BigInteger(), nullable=False),
        **TABLE_ARGS)
    op.create_table(
        'plans',
        sa.Column('id', sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column('reservations', JSON, nullable=False),
        sa.Column('updated_at', TIME, nullable=False),
        **TABLE_ARGS)
    op.create_table(
        'conductors',
        sa.Column('host', sa.String(255), primary_key=True),
        sa.Column('version', sa.String(64), nullable=False),
        sa.Column('dispatches', sa.Boolean(), nullable=False),
        sa.Column('seen_at', TIME, nullable=False),
        **TABLE_ARGS)
