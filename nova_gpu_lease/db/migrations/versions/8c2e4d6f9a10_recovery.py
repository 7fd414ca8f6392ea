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


"""Further tries to build, and how we act for a user

Revision ID: 8c2e4d6f9a10
Revises: 5f1c0a7d3e21
Create Date: 2026-11-21 22:30:00
"""

from alembic import op
import sqlalchemy as sa

revision = '8c2e4d6f9a10'
down_revision = '5f1c0a7d3e21'
branch_labels = None
depends_on = None


def upgrade():
    op.add_column('requests', sa.Column('credentials', sa.String(16)))
    op.add_column('leases', sa.Column(
        'build_attempts', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('leases', sa.Column(
        'outages', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('leases', sa.Column('last_error', sa.Text()))
    op.add_column('leases', sa.Column(
        'stand_in', sa.Boolean(), nullable=False, server_default='0'))
