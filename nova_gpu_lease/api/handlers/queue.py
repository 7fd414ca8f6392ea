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


"""GET /os-gpu-leases/queue."""

from nova_gpu_lease.api import order
from nova_gpu_lease.api import query
from nova_gpu_lease.api.schemas import queue as schema
from nova_gpu_lease.api import views
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import exception
from nova_gpu_lease.policies import gpu_leases as policies
from nova_gpu_lease import policy
from nova_gpu_lease import states


def index(req, context):
    """List the waiting requests in the order of the queue.

    :returns: {'gpu_queue': [...]} with 'gpu_queue_links' when there are more.
    """
    policy.authorize(context, policies.QUEUE)
    params = query.parse(req, schema.INDEX)
    everybody = query.all_projects(params)
    if everybody:
        policy.authorize(context, policies.QUEUE_ALL_PROJECTS)
    limit = query.limit(params)
    place_of = order.key()
    after = _after(context, params, everybody, place_of)
    places = sorted(
        (place_of(request), request)
        for request in db_api.requests_in([states.REQUEST_QUEUED])
        if everybody or request.project_id == context.project_id)
    waiting = [request for place, request in places
               if after is None or place > after]
    body = {'gpu_queue': views.queue(waiting[:limit])}
    if len(waiting) > limit:
        body['gpu_queue_links'] = query.next_links(
            req, waiting[limit - 1].uuid)
    return body


def _after(context, params, everybody, place_of):
    """The place of the marker in the queue, or None.

    A request may have left the queue since the page that it ended was read;
    its place in the order is still known.
    """
    if 'marker' not in params:
        return None
    try:
        marker = db_api.request_get(params['marker'])
    except exception.RequestNotFound:
        raise exception.MarkerNotFound(marker=params['marker'])
    if not everybody and marker.project_id != context.project_id:
        raise exception.MarkerNotFound(marker=params['marker'])
    return place_of(marker)
