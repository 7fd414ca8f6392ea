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


"""GET /os-gpu-leases and /os-gpu-leases/{id}."""

from nova_gpu_lease.api import query
from nova_gpu_lease.api.schemas import lease as schema
from nova_gpu_lease.api import views
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import exception
from nova_gpu_lease.policies import gpu_leases as policies
from nova_gpu_lease import policy

_FILTERS = ('status', 'project_id', 'user_id', 'server_id')


def index(req, context):
    """List leases.

    :returns: {'gpu_leases': [...]} with 'gpu_leases_links' when there are
        more.
    """
    policy.authorize(context, policies.INDEX)
    params = query.parse(req, schema.INDEX)
    limit = query.limit(params)
    leases = db_api.leases_list(
        _filters(context, params), _sort(params), limit + 1,
        params.get('marker'))
    body = {'gpu_leases': views.leases(context, leases[:limit])}
    if len(leases) > limit:
        body['gpu_leases_links'] = query.next_links(
            req, leases[limit - 1].uuid)
    return body


def show(req, context, id):
    """Show one lease.

    :param id: a lease, or a server: its current lease, else its latest.
    :returns: {'gpu_lease': {...}}
    :raises: exception.LeaseNotFound also for what the user may not see.
    """
    query.parse(req, schema.SHOW)
    lease = db_api.lease_get(id)
    target = {'project_id': lease.project_id, 'user_id': lease.user_id}
    foreign = lease.project_id != context.project_id
    if not policy.authorize(context, policies.SHOW, target,
                            do_raise=not foreign):
        raise exception.LeaseNotFound(id=id)
    return {'gpu_lease': views.leases(context, [lease])[0]}


def _filters(context, params):
    filters = {name: params[name] for name in _FILTERS if name in params}
    if 'expires_before' in params:
        filters['expires_before'] = query.time(params['expires_before'])
    if query.all_projects(params) or \
            params.get('project_id', context.project_id) != \
            context.project_id:
        policy.authorize(context, policies.INDEX_ALL_PROJECTS)
    else:
        filters['project_id'] = context.project_id
    return filters


def _sort(params):
    pairs = []
    for item in filter(None, params.get('sort', '').split(',')):
        key, _, direction = item.partition(':')
        pairs.append((key, direction or 'asc'))
    return pairs
