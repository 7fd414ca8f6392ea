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


"""The query strings and bodies of /os-gpu-leases and /os-gpu-leases/{id}."""

from nova_gpu_lease.api.schemas import common
from nova_gpu_lease import states

#: What a list can be sorted by: names of the JSON, and of db.api's sort keys.
#: Not the host, which not everybody may know.
SORT_KEYS = (
    'created_at', 'duration', 'ended_at', 'expires_at', 'flavor',
    'max_duration', 'on_expiry', 'project_id', 'queued_at', 'server_id',
    'server_name', 'started_at', 'status', 'updated_at', 'user_id')
_KEY = '(%s)(:(asc|desc))?' % '|'.join(SORT_KEYS)

INDEX = common.collection(
    status={
        'type': 'string', 'enum': list(states.LEASE_STATES),
        'description': 'one of ' + ', '.join(states.LEASE_STATES),
    },
    project_id=common.ID,
    user_id=common.ID,
    server_id=common.ID,
    expires_before={
        'type': 'string', 'format': 'date-time',
        'description': 'a time in ISO 8601 with its zone, for example '
        '2026-11-21T19:08:07Z',
    },
    sort={
        'type': 'string', 'pattern': r'^%s(,%s)*\Z' % (_KEY, _KEY),
        'description': 'KEY or KEY:asc or KEY:desc, several with commas; '
        'KEY is one of ' + ', '.join(SORT_KEYS),
    })

#: What PATCH can set. Whether a lease may have a value is another question.
CHANGE = {
    'type': 'object',
    'properties': {
        'duration': {
            'type': 'string', 'minLength': 1, 'maxLength': 32,
            'description': 'a string such as "4h", or "+30m" for so much '
            'more than now',
        },
        'on_expiry': {
            'type': 'string', 'enum': list(states.ON_EXPIRY),
            'description': ' or '.join(states.ON_EXPIRY),
        },
        'auto_extend': {
            'type': 'boolean', 'description': 'true or false',
        },
        'priority': {
            'type': 'string', 'minLength': 1, 'maxLength': 64,
            'description': 'the name of a priority class',
        },
    },
    'minProperties': 1,
    'additionalProperties': False,
}

ONE = {'type': 'object', 'properties': {}, 'additionalProperties': False}
