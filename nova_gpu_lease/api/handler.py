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


"""The routes of the API, as data, and what is common to all of them."""

import functools

from nova.api import openstack
import webob

from nova_gpu_lease.api import faults
from nova_gpu_lease.api.handlers import lease
from nova_gpu_lease.api.handlers import queue
from nova_gpu_lease import exception

# Path -> method -> function of (request, context, parts of the path), which
# returns the JSON of the answer, or None for an answer without any. The 405s
# come from this table too. The last path catches what is under ours but
# nothing, so that the 404 is ours as well.
ROUTES = {
    '/os-gpu-leases': {'GET': lease.index},
    '/os-gpu-leases/queue': {'GET': queue.index},
    '/os-gpu-leases/{id}': {'GET': lease.show, 'PATCH': lease.change,
                            'DELETE': lease.cancel},
    '/os-gpu-leases/{rest:.*}': {},
}


def make_mapper(targets):
    """A mapper that finds paths exactly as Nova's own router does.

    Both forms are known: with and without the project's id in front.

    :param targets: a dict of path to callable.
    :returns: a nova.api.openstack.ProjectMapper; its ``match(path)`` returns
        None or a dict of the parts of the path, with the callable as
        ``controller``.
    """
    mapper = openstack.ProjectMapper()
    for path, target in targets.items():
        for prefix in ('/{project_id:[0-9a-f-]+}', ''):
            mapper.connect(prefix + path, controller=target, action='')
    mapper.create_regs([])
    return mapper


def make_resource_mapper():
    """A mapper of ROUTES; its targets are called with (request, parts)."""
    return make_mapper({path: functools.partial(_dispatch, methods)
                        for path, methods in ROUTES.items()})


def _dispatch(methods, req, parts):
    """Answer a request for one of our own resources.

    :param methods: a value of ROUTES.
    :param req: the webob request.
    :param parts: what the mapper found in the path.
    :returns: a webob.Response.
    """
    context = req.environ['nova.context']
    project_id = parts.pop('project_id', None)
    if project_id and project_id != context.project_id:
        # Nova's own words for the same mistake.
        return faults.response(
            400, "Malformed request URL: URL's project_id '%s' doesn't match "
            "Context's project_id '%s'" % (project_id, context.project_id))
    if not methods:
        return faults.response(404, 'The resource could not be found.')
    if req.method not in methods:
        return faults.response(
            405, 'The method %s is not allowed for this resource.' %
            req.method, headers={'Allow': ', '.join(sorted(methods))})
    try:
        body = methods[req.method](req, context, **parts)
    except exception.GPULeaseException as exc:
        return faults.of(exc)
    if body is None:
        return webob.Response(status=204)
    return webob.Response(json_body=body, content_type='application/json')
