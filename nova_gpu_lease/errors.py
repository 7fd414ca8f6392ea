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

"""Stable error codes, in the ``code`` field of the API's error bodies.

A code names a reason a program may act on. Never change or reuse one; add
one only when a client can do something different because of it.
"""

UNDEFINED = 'gpu_lease.undefined'
INVALID_VALUE = 'gpu_lease.invalid_value'
INVALID_HINT = 'gpu_lease.hint.invalid'
INVALID_EXTRA_SPEC = 'gpu_lease.extra_spec.invalid'
LEASE_REQUIRED = 'gpu_lease.hint.required'
RESIZE_REFUSED = 'gpu_lease.resize.refused'
FORBIDDEN = 'gpu_lease.forbidden'
PRIORITY_FORBIDDEN = 'gpu_lease.priority.forbidden'
NOT_FOUND = 'gpu_lease.not_found'
NOT_WAITING = 'gpu_lease.not_waiting'
NOT_CHANGEABLE = 'gpu_lease.not_changeable'
LENGTH_REFUSED = 'gpu_lease.length.refused'
NEW_SERVER = 'gpu_lease.new_server'
MARKER_NOT_FOUND = 'gpu_lease.marker_not_found'
TOO_MANY_WAITING = 'gpu_lease.too_many_waiting'
SERVER_WAITS = 'gpu_lease.server_waits'
NO_ENCRYPTION_KEY = 'gpu_lease.no_encryption_key'
