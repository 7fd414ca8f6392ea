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


"""Who starts next: promised starts, and leases that make room

Revision ID: a3d7e5b91c42
Revises: 8c2e4d6f9a10
Create Date: 2026-11-26 11:30:00
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = 'a3d7e5b91c42'
down_revision = '8c2e4d6f9a10'
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
JSON = sa.Text().with_variant(mysql.MEDIUMTEXT(), 'mysql')
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), 'mysql')


def upgrade():
    op.add_column('requests', sa.Column('promise', JSON))
    op.add_column('requests', sa.Column(
        'promised', sa.Boolean(), nullable=False, server_default='0'))
    op.add_column('requests', sa.Column('resumes', BIG_ID))
    op.create_index('requests_resumes_idx', 'requests', ['resumes'])
    op.add_column('leases', sa.Column('dispatched_at', TIME))
    op.add_column('leases', sa.Column('preempt_at', TIME))
    op.add_column('plans', sa.Column('ends', JSON))
