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


"""All that the rest of the project does with the database.

Functions take plain values and return rows that are read only and belong to
no session. Times are aware datetimes in UTC, ``actor`` is the host name of
the service that makes a change. The SQL is in the modules named below.
"""

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import changes
from nova_gpu_lease.db import coordination
from nova_gpu_lease.db import lease_list
from nova_gpu_lease.db import leases
from nova_gpu_lease.db import order
from nova_gpu_lease.db import purge as _purge
from nova_gpu_lease.db import requests
from nova_gpu_lease.db import rotation

dispose = _engine.dispose

request_create = requests.create
request_get = requests.get
requests_in = requests.requests_in
requests_positions = requests.positions
requests_done_with_credentials = requests.done_with_credentials
requests_undecided = requests.undecided
requests_named = requests.named
requests_with_failed_builds = requests.with_failed_builds
requests_wipe_payloads = requests.wipe_payloads
request_transition = requests.transition
request_set = requests.assign

lease_get = leases.get
lease_current = leases.lease_current
leases_current = leases.leases_current
leases_of = leases.leases_of
leases_of_requests = leases.leases_of_requests
leases_on_host = leases.leases_on_host
leases_in = leases.leases_in
leases_cancelled = leases.leases_cancelled
leases_taken_back = leases.leases_taken_back
leases_to_end = leases.leases_to_end
leases_overdue = leases.leases_overdue
lease_transition = leases.transition
lease_set = leases.assign
lease_rename = leases.rename
lease_change = changes.change
waiting_count = leases.waiting_count
scheduling_view = leases.scheduling_view

leases_held = order.leases_held
leases_used = order.leases_used
priorities_used = order.priorities_used
leases_preempting = order.leases_preempting
lease_preempted = order.lease_preempted
lease_original = order.lease_original
requests_note_waits = order.note_waits

LEASE_FILTERS = tuple(lease_list.FILTERS)
LEASE_SORT_KEYS = tuple(lease_list.SORT_KEYS)
leases_list = lease_list.leases_list

wake = coordination.wake
wake_value = coordination.wake_value
deletions_value = coordination.deletions_value
plan_save = coordination.plan_save
plan_get = coordination.plan_get
lock_acquire = coordination.lock_acquire
lock_beat = coordination.lock_beat
lock_release = coordination.lock_release
conductor_beat = coordination.conductor_beat
conductors_list = coordination.conductors_list

purge = _purge.purge
secrets_rotate = rotation.rotate
