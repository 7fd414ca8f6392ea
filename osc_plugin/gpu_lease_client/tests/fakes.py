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

"""Leases and queue entries exactly as the API shows them."""

import uuid

ALICE = 'a11ce000000000000000000000000001'
ADMIN = 'ad000000000000000000000000000002'
RED = '4ed00000000000000000000000000011'
BLUE = 'b10e0000000000000000000000000012'
OPS = '0b500000000000000000000000000013'


def make_uuid(number):
    """Give the same id for the same number in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def lease(number, **values):
    """Make an ACTIVE lease, two hours long, of which ten seconds are gone.

    :param number: anything; tells it from others.
    :param values: what is different.
    """
    made = {
        'id': make_uuid('lease-%s' % number),
        'server_id': make_uuid('server-%s' % number),
        'server_name': 'vm-%s' % number,
        'project_id': RED,
        'user_id': ALICE,
        'request_id': make_uuid('request-%s' % number),
        'flavor': 'gpu',
        'devices': {'gpu': 1},
        'status': 'ACTIVE',
        'position': None,
        'queued_at': '2026-11-21T19:07:57Z',
        'wait_until': None,
        'expected_start': None,
        'expected_start_promised': None,
        'duration': 7200,
        'max_duration': None,
        'on_expiry': 'shelve',
        'auto_extend': False,
        'priority': 'normal',
        'started_at': '2026-11-21T19:08:07Z',
        'expires_at': '2026-11-21T21:08:07Z',
        'remaining': 7190,
        'preempt_at': None,
        'ended_at': None,
        'end_action': None,
        'attempts': 0,
        'last_error': None,
        'credentials': 'trust',
        'reason': None,
        'reason_code': None,
        'created_at': '2026-11-21T19:07:57Z',
        'updated_at': '2026-11-21T19:08:07Z',
    }
    made.update(values)
    return made


def queued_lease(number, position, **values):
    """Make a lease that waits.

    :param number: anything; tells it from others.
    :param position: its place in the queue.
    :param values: what is different.
    """
    values = dict({'status': 'QUEUED', 'position': position,
                   'started_at': None, 'expires_at': None,
                   'remaining': None, 'updated_at': None,
                   'expected_start_promised': False,
                   'reason': 'no free gpu'}, **values)
    return lease(number, **values)


def queue_entry(number, position, servers=1, **values):
    """Make an entry of the queue.

    :param number: anything; tells it from others.
    :param position: its place.
    :param servers: how many servers it is for.
    :param values: what is different.
    """
    names = ['vm-%s' % number]
    if servers > 1:
        names = ['vm-%s-%d' % (number, each + 1) for each in range(servers)]
    made = {
        'id': make_uuid('request-%s' % number),
        'position': position,
        'kind': 'create',
        'server_ids': [make_uuid(name) for name in names],
        'server_names': names,
        'num_servers': servers,
        'project_id': RED,
        'user_id': ALICE,
        'devices': {'gpu': 1},
        'priority': 'normal',
        'queued_at': '2026-11-21T19:07:57Z',
        'wait_until': None,
        'expected_start': None,
        'expected_start_promised': False,
        'attempts': 0,
        'reason': 'no free gpu',
        'reason_code': 'devices',
    }
    made.update(values)
    return made
