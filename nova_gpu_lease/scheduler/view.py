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


"""What the plan says about a server that is being scheduled.

Filter and weigher both need it, and it is read from the database once for
the two of them. Neither may keep anything: one object of each serves all
requests, in several threads. It is kept beside the RequestSpec, which lives
as long as one call of select_destinations.
"""

import dataclasses
import weakref

from nova_gpu_lease import clock
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease.planner import score
from nova_gpu_lease import states
from nova_gpu_lease import terms

_read = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class View:
    """What the database says about one server, and about all nodes.

    :ivar server_id: uuid of the server.
    :ivar planned: {server uuid: node uuid} of the servers of its request
        that are being built; empty where nothing was planned for it.
    :ivar reservations: as in models.Plan.
    :ivar ends: as in models.Plan.
    :ivar era: when its own lease ends, as score.era().
    :ivar late: whether nobody waits for the answer any more: the dispatcher
        gave the question up, and what is claimed now would be held by nobody.
    """

    server_id: str
    planned: dict
    reservations: dict
    ends: dict
    era: int
    late: bool = False


def read(spec):
    """Ask the database, for the filter.

    A gang is asked for once: its nodes were planned together. For any other
    server the answer has to be fresh, since a plan may have been made while
    Nova was busy with the one before it.

    :param spec: a RequestSpec.
    :returns: a View.
    """
    known = _read.get(spec)
    if known is None or spec.instance_uuid not in known.planned:
        known = _read[spec] = _query(spec)
    return known


def planned_host(server_id):
    """The name of the host on which all servers of a request are to be built.

    :returns: None where that is more than one, or nothing was planned.
    """
    lease, gang, _, _ = db.scheduling_view(server_id)
    hosts = {gang_lease.host for gang_lease in _planned(lease, gang)}
    return hosts.pop() if len(hosts) == 1 else None


def of(spec):
    """What the filter was told about a server, for the weigher.

    :param spec: a RequestSpec.
    :returns: a View.
    """
    known = _read.get(spec)
    if known is not None and known.server_id == spec.instance_uuid:
        return known
    return read(spec)


def _query(spec):
    server_id = spec.instance_uuid
    lease, gang, reservations, ends = db.scheduling_view(server_id)
    planned = {other.server_id: other.node_uuid
               for other in _planned(lease, gang)}
    return View(server_id, planned, reservations, ends, _era(lease),
                _is_late(spec, lease))


def _planned(lease, gang):
    """The leases of a request whose servers are being built."""
    if (lease is None or lease.state != states.LEASE_BUILDING or
            lease.request.kind == states.KIND_RESIZE):
        return []
    return [other for other in gang if other.state == states.LEASE_BUILDING]


def _is_late(spec, lease):
    """Whether a server waits again, or was deleted while it waited.

    While the dispatcher waits for an answer its lease is BUILDING.
    """
    hints = spec.scheduler_hints if 'scheduler_hints' in spec else None
    if lease is None and terms.HINT in (hints or {}):
        try:
            lease = db.lease_get(spec.instance_uuid)
        except exception.LeaseNotFound:
            return False
        return (lease.state == states.LEASE_CANCELLED and
                lease.started_at is None)
    return lease is not None and lease.state == states.LEASE_QUEUED


def _era(lease):
    if lease is None:
        return score.NEVER
    if lease.expires_at is None:
        return score.era(clock.now().timestamp() + lease.duration)
    return score.era(lease.expires_at.timestamp())
