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

"""The states of requests and leases, and the changes allowed between them.

Pure data: who changes a state, and when, is decided by the conductor.
"""

# A request: one call of the API, for one server or for a gang of several.
REQUEST_QUEUED = 'QUEUED'
REQUEST_DISPATCHING = 'DISPATCHING'
REQUEST_PLACED = 'PLACED'
REQUEST_FAILED = 'FAILED'
REQUEST_CANCELLED = 'CANCELLED'

REQUEST_TRANSITIONS = {
    # To PLACED when the rest of a gang is not to be built any more.
    REQUEST_QUEUED: {REQUEST_DISPATCHING, REQUEST_PLACED, REQUEST_FAILED,
                     REQUEST_CANCELLED},
    REQUEST_DISPATCHING: {REQUEST_QUEUED, REQUEST_PLACED, REQUEST_FAILED,
                          REQUEST_CANCELLED},
    # A build that failed on its compute waits again.
    REQUEST_PLACED: {REQUEST_QUEUED},
    REQUEST_FAILED: set(),
    REQUEST_CANCELLED: set(),
}

#: Nothing waits or is being started for it.
REQUEST_OVER = (REQUEST_PLACED, REQUEST_FAILED, REQUEST_CANCELLED)

# A lease: the right of one server to its devices, from the queue to the end.
LEASE_QUEUED = 'QUEUED'
LEASE_BUILDING = 'BUILDING'
LEASE_ACTIVE = 'ACTIVE'
LEASE_EXPIRING = 'EXPIRING'
LEASE_EXPIRED = 'EXPIRED'
LEASE_RELEASED = 'RELEASED'
LEASE_CANCELLED = 'CANCELLED'
LEASE_ERROR = 'ERROR'

LEASE_TRANSITIONS = {
    LEASE_QUEUED: {LEASE_BUILDING, LEASE_CANCELLED},
    LEASE_BUILDING: {LEASE_QUEUED, LEASE_ACTIVE, LEASE_CANCELLED},
    LEASE_ACTIVE: {LEASE_EXPIRING, LEASE_RELEASED},
    # To ACTIVE when it was to make room before its end, and that did not
    # work.
    LEASE_EXPIRING: {LEASE_EXPIRED, LEASE_RELEASED, LEASE_ERROR,
                     LEASE_ACTIVE},
    # The end did not work; the devices are still held and the end is tried
    # again until it does.
    LEASE_ERROR: {LEASE_EXPIRING, LEASE_EXPIRED, LEASE_RELEASED},
    LEASE_EXPIRED: set(),
    LEASE_RELEASED: set(),
    LEASE_CANCELLED: set(),
}

#: A server has at most one lease in one of these states.
LEASE_CURRENT = frozenset(
    state for state, targets in LEASE_TRANSITIONS.items() if targets)

#: Its server has devices, or is being built and to have them.
LEASE_HOLDING = (LEASE_BUILDING, LEASE_ACTIVE, LEASE_EXPIRING, LEASE_ERROR)

LEASE_STATES = tuple(LEASE_TRANSITIONS)
REQUEST_STATES = tuple(REQUEST_TRANSITIONS)

# What happens to the server when its lease ends.
ON_EXPIRY_SHELVE = 'shelve'
ON_EXPIRY_DELETE = 'delete'
ON_EXPIRY = (ON_EXPIRY_SHELVE, ON_EXPIRY_DELETE)

# How a lease ended, on the row of an EXPIRED one.
ENDED_SHELVED = 'shelved'
ENDED_DELETED = 'deleted'

#: The reason_code of a wait that its owner has cancelled.
REASON_CANCELLED = 'cancelled'
#: The reason_codes of a lease that is to make room for a request of another
#: class, of one that did, and of one that could not be shelved for it.
REASON_PREEMPTING = 'preempting'
REASON_PREEMPTED = 'preempted'
REASON_NOT_PREEMPTED = 'preemption_failed'

# What a request asks Nova to do once its devices are free.
KIND_CREATE = 'create'
KIND_UNSHELVE = 'unshelve'
# Nova does it by itself; the lease only follows.
KIND_RESIZE = 'resize'

# How we act for a user once the token of the call is too old.
CREDENTIALS_TRUST = 'trust'
CREDENTIALS_TOKEN = 'token'
CREDENTIALS_NONE = 'none'
CREDENTIALS = (CREDENTIALS_TRUST, CREDENTIALS_TOKEN, CREDENTIALS_NONE)
