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


"""Rows as the JSON of the API."""

from nova_gpu_lease.api import order
from nova_gpu_lease import clock
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease.policies import gpu_leases as policies
from nova_gpu_lease import policy
from nova_gpu_lease import states


def time(value):
    """ISO 8601 in UTC without fractions; None stays None."""
    return value and value.strftime('%Y-%m-%dT%H:%M:%SZ')


def leases(context, rows):
    """The JSON of leases.

    :param context: the user's context; the host is only for some.
    :param rows: a list of db.models.Lease with their requests.
    :returns: a list of dicts.
    """
    positions = {}
    if any(row.state == states.LEASE_QUEUED for row in rows):
        positions = order.positions()
    shows_host = {
        project_id: policy.authorize(
            context, policies.SHOW_HOST, {'project_id': project_id},
            do_raise=False)
        for project_id in {row.project_id for row in rows}}
    now = clock.now()
    return [_lease(row, positions.get(row.request.uuid), now,
                   shows_host[row.project_id]) for row in rows]


def _lease(row, position, now, show_host):
    request = row.request
    waits = row.state == states.LEASE_QUEUED
    remaining = None
    if row.state == states.LEASE_ACTIVE and row.expires_at:
        remaining = max(0, int((row.expires_at - now).total_seconds()))
    lease = {
        'id': row.uuid,
        'server_id': row.server_id,
        'server_name': row.server_name,
        'project_id': row.project_id,
        'user_id': row.user_id,
        'request_id': request.uuid,
        'flavor': row.flavor,
        'devices': row.devices,
        'status': row.state,
        'position': position if waits else None,
        'queued_at': time(request.queued_at),
        'wait_until': time(request.wait_until) if waits else None,
        'expected_start': time(request.expected_start) if waits else None,
        'expected_start_promised': request.promised if waits else None,
        'duration': row.duration,
        'max_duration': row.max_duration,
        'on_expiry': row.on_expiry,
        'auto_extend': row.auto_extend,
        'priority': request.priority,
        'started_at': time(row.started_at),
        'expires_at': time(row.expires_at),
        'remaining': remaining,
        'preempt_at': time(row.preempt_at),
        'ended_at': time(row.ended_at),
        'end_action': row.end_action,
        'attempts': request.attempts if waits else row.attempts,
        'last_error': row.last_error,
        'credentials': request.credentials,
        'reason': row.reason or (request.reason if waits else None),
        'reason_code': row.reason_code or (
            request.reason_code if waits else None),
        'created_at': time(row.created_at),
        'updated_at': time(row.updated_at),
    }
    if show_host:
        lease['host'] = row.host
    return lease


def queue(rows):
    """The JSON of waiting requests.

    :param rows: a list of db.models.Request.
    :returns: a list of dicts.
    """
    if not rows:
        return []
    positions = order.positions()
    servers = db_api.leases_of_requests([row.id for row in rows])
    return [_request(row, positions.get(row.uuid), servers[row.id])
            for row in rows]


def _request(row, position, servers):
    return {
        'id': row.uuid,
        'position': position,
        'kind': row.kind,
        'server_ids': [lease.server_id for lease in servers],
        'server_names': [lease.server_name for lease in servers],
        'num_servers': row.num_servers,
        'project_id': row.project_id,
        'user_id': row.user_id,
        'devices': row.devices,
        'priority': row.priority,
        'queued_at': time(row.queued_at),
        'wait_until': time(row.wait_until),
        'expected_start': time(row.expected_start),
        'expected_start_promised': row.promised,
        'attempts': row.attempts,
        'reason': row.reason,
        'reason_code': row.reason_code,
    }
