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


"""What becomes of a server whose build failed: one more try, or the end.

Works in every conductor, those without the API database as well: it only
changes the lease. The dispatcher sees to the request and to what Placement
holds.
"""

from oslo_log import log as logging

from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)


def requeue(lease, reason, actor):
    """Put the lease of a build that failed back into the queue, if it may.

    :param lease: a models.Lease in state BUILDING.
    :param reason: why the build failed, for the owner.
    :param actor: the host of this service.
    :returns: whether the server waits again; else this was its last try, and
        nothing was changed.
    :raises: exception.StaleState when anything about the lease changed since
        it was read: a compute may just have begun to build the server.
    """
    attempts = lease.build_attempts + 1
    if attempts >= CONF.gpu_lease.max_build_attempts:
        return False
    db.lease_transition(
        lease, states.LEASE_QUEUED, actor, exact=True,
        reason='Try %d of %d to build it failed on %s: %s' % (
            attempts, CONF.gpu_lease.max_build_attempts, lease.host, reason),
        reason_code='build_failed', build_attempts=attempts,
        attempt_started_at=None)
    LOG.warning('A server could not be built on %(host)s and waits again: '
                '%(reason)s', {'host': lease.host, 'reason': reason},
                instance_uuid=lease.server_id)
    return True


def last_words(lease, reason):
    """What the owner of a server reads after the last try to build it.

    :param lease: as it was at that try.
    :param reason: why that one failed.
    """
    tries = lease.build_attempts + 1
    if tries == 1:
        return 'The server could not be built: %s' % reason
    return 'The server could not be built in %d tries; the last one: %s' % (
        tries, reason)
