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

"""What the API returns, as openstacksdk resources.

Times are ISO 8601 strings in UTC, durations whole seconds.
"""

from openstack import resource
from openstack import utils


class GPULease(resource.Resource):
    """The right of one server to its GPUs, from the queue to the end."""

    resource_key = 'gpu_lease'
    resources_key = 'gpu_leases'
    base_path = '/os-gpu-leases'

    allow_fetch = True
    allow_list = True
    #: Ends the wait of a server that is to be unshelved.
    allow_delete = True

    _query_mapping = resource.QueryParameters(
        'all_projects', 'expires_before', 'project_id', 'server_id', 'sort',
        'status', 'user_id')

    #: The server that holds the lease, or waits for it.
    server_id = resource.Body('server_id')
    #: The name of that server.
    server_name = resource.Body('server_name')
    #: The project that owns the server.
    project_id = resource.Body('project_id')
    #: The user who asked for the lease.
    user_id = resource.Body('user_id')
    #: The request that the lease belongs to; the servers of one request
    #: start together.
    request_id = resource.Body('request_id')
    #: The name of the flavor.
    flavor = resource.Body('flavor')
    #: How many devices of which PCI alias, such as ``{'gpu': 1}``.
    devices = resource.Body('devices', type=dict)
    #: QUEUED, BUILDING, ACTIVE, EXPIRING, EXPIRED, RELEASED, CANCELLED or
    #: ERROR.
    status = resource.Body('status')
    #: The place in the queue, from 1; None unless QUEUED.
    position = resource.Body('position', type=int)
    #: When the server was put in the queue.
    queued_at = resource.Body('queued_at')
    #: When a waiting server gives up; None for never.
    wait_until = resource.Body('wait_until')
    #: When a waiting server starts; None if unknown.
    expected_start = resource.Body('expected_start')
    #: Whether it starts then at the latest, or this is an estimate; None
    #: unless QUEUED.
    expected_start_promised = resource.Body('expected_start_promised',
                                            type=bool)
    #: How long the lease is, in seconds.
    duration = resource.Body('duration', type=int)
    #: How long it may become by extensions, in seconds; None for no limit.
    max_duration = resource.Body('max_duration', type=int)
    #: What happens to the server at the end: shelve or delete.
    on_expiry = resource.Body('on_expiry')
    #: Whether the lease is extended while nobody waits for its devices.
    auto_extend = resource.Body('auto_extend', type=bool)
    #: The priority class.
    priority = resource.Body('priority')
    #: When the lease began; None before that.
    started_at = resource.Body('started_at')
    #: When the lease ends; None before it began.
    expires_at = resource.Body('expires_at')
    #: The seconds left; None unless ACTIVE.
    remaining = resource.Body('remaining', type=int)
    #: When its server is shelved to make room for another one; None if not.
    preempt_at = resource.Body('preempt_at')
    #: When the lease ended; None before that.
    ended_at = resource.Body('ended_at')
    #: How the lease ended: shelved or deleted; None unless EXPIRED.
    end_action = resource.Body('end_action')
    #: How often the present step was tried.
    attempts = resource.Body('attempts', type=int)
    #: Why the last try to end the lease failed; None if none did.
    last_error = resource.Body('last_error')
    #: How Nova acts for the user later: trust, token or none.
    credentials = resource.Body('credentials')
    #: Why the lease is in this status, for people.
    reason = resource.Body('reason')
    #: The same for programs.
    reason_code = resource.Body('reason_code')
    #: When the row was made.
    created_at = resource.Body('created_at')
    #: When the row was last changed.
    updated_at = resource.Body('updated_at')
    #: The compute host; None for those who may not see it.
    host = resource.Body('host')

    def change(self, session, values):
        """Change the lease; it is then as the service says that it is.

        :param session: the compute proxy of a connection.
        :param values: a dict of what is to be changed, as the API wants it.
        :returns: the lease itself.
        """
        response = session.patch(utils.urljoin(self.base_path, self.id),
                                 json={self.resource_key: values})
        self._translate_response(response)
        return self


class GPUQueueEntry(resource.Resource):
    """A request that waits: one server, or several that start together.

    Its ``id`` is the request's.
    """

    resources_key = 'gpu_queue'
    base_path = '/os-gpu-leases/queue'

    allow_list = True

    _query_mapping = resource.QueryParameters('all_projects')

    #: The place in the queue, from 1, other projects' requests counted.
    position = resource.Body('position', type=int)
    #: What waits: create or unshelve.
    kind = resource.Body('kind')
    #: The servers of the request.
    server_ids = resource.Body('server_ids', type=list)
    #: Their names, in the same order.
    server_names = resource.Body('server_names', type=list)
    #: How many servers start together.
    num_servers = resource.Body('num_servers', type=int)
    #: The project that owns the servers.
    project_id = resource.Body('project_id')
    #: The user who made the request.
    user_id = resource.Body('user_id')
    #: How many devices of which PCI alias each server needs.
    devices = resource.Body('devices', type=dict)
    #: The priority class.
    priority = resource.Body('priority')
    #: When the request was put in the queue.
    queued_at = resource.Body('queued_at')
    #: When it gives up; None for never.
    wait_until = resource.Body('wait_until')
    #: When it starts; None if unknown.
    expected_start = resource.Body('expected_start')
    #: Whether it starts then at the latest, or this is an estimate.
    expected_start_promised = resource.Body('expected_start_promised',
                                            type=bool)
    #: How often a start was tried.
    attempts = resource.Body('attempts', type=int)
    #: Why it waits, for people.
    reason = resource.Body('reason')
    #: The same for programs.
    reason_code = resource.Body('reason_code')
