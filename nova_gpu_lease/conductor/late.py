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

"""Gives back what a scheduler claimed when nobody waited for its answer.

A question whose scheduler was killed is answered by the next one. The filter
lets no server pass that waits again or was deleted by then; what is claimed
in the moment after it looked would be held by nobody.
"""

import datetime

from nova import exception as nova_exception
from oslo_log import log as logging

from nova_gpu_lease.conductor import records
from nova_gpu_lease.db import api as db
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: How long after a server was taken back a scheduler may still claim for it:
#: far longer than anybody looks between filter and claim.
LATE = datetime.timedelta(minutes=10)


def give_back(context, report_client, lease):
    """Delete the allocation of a server that was to start, and did not.

    :param context: an admin RequestContext.
    :param report_client: Nova's SchedulerReportClient.
    :param lease: a models.Lease, of db.leases_taken_back().
    """
    found = report_client.get_allocs_for_consumer(context, lease.server_id)
    # In this order: whoever claims from here on changes the generation of
    # the consumer, and keeps what he claimed.
    if not found['allocations'] or not _holds_nothing(context, lease):
        return
    LOG.warning('A scheduler claimed %s for a server that does not start.',
                found['allocations'], instance_uuid=lease.server_id)
    try:
        report_client.put_allocations(
            context, lease.server_id, {**found, 'allocations': {}})
    except nova_exception.AllocationUpdateFailed as exc:
        LOG.debug('%s', exc, instance_uuid=lease.server_id)


def _holds_nothing(context, lease):
    """Whether a server waits, is off its host, or is gone."""
    current = db.lease_current(lease.server_id)
    if current is not None:
        return current.state == states.LEASE_QUEUED
    try:
        instance = records.find_instance(context, lease.server_id)
    except nova_exception.InstanceNotFound:
        return True
    if instance is None:
        return records.server_of(context, lease.server_id) is None
    return instance.host is None and instance.task_state is None
