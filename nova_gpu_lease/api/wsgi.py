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


"""The filter in nova-api's pipeline.

It stands directly before Nova's own application, behind the filter that
makes the context and whatever an operator has put in between (audit, rate
limits), so these see our answers like Nova's. It

* answers what is under /os-gpu-leases,
* checks the hints of servers that are created or resized, before Nova
  writes anything,
* refuses actions that Nova cannot do on a server that waits,
* wakes the queue after calls that can free a device, and
* keeps the names of servers on their leases.

Everything else passes untouched.
"""

import re

from nova.api.openstack import wsgi
from nova import exception as nova_exception
from oslo_log import log as logging
from oslo_serialization import jsonutils
import webob.dec
import webob.exc

from nova_gpu_lease.api import actions
from nova_gpu_lease.api import faults
from nova_gpu_lease.api import handler
from nova_gpu_lease.api import hints
# Registers the options; nova.conf has been read by now.
from nova_gpu_lease import conf
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import exception
from nova_gpu_lease import priorities

LOG = logging.getLogger(__name__)

#: Where Nova takes a new server: both make the same one of the same body.
CREATE_PATHS = ('/servers', '/os-volumes_boot')

#: Where it takes what is to be done with a server.
ACTION_PATH = '/servers/{server_id}/action'

#: What can free a device, or let a waiting request run without one: an ended
#: server, a host that is enabled, moved between aggregates or removed, a
#: flavor, a quota.
WAKE_COLLECTIONS = ('servers', 'os-volumes_boot', 'os-services',
                    'os-aggregates', 'flavors', 'os-quota-sets',
                    'os-quota-class-sets')
WAKE_METHODS = ('POST', 'PUT', 'DELETE')
#: What renames a server.
_SERVER = re.compile(r'(/[0-9a-f-]+)?/servers/(?P<id>[^/]+)')
_WAKES = re.compile(r'(/[0-9a-f-]+)?/(%s)(/|$)' % '|'.join(WAKE_COLLECTIONS))


def filter_factory(global_conf, **local_conf):
    """The factory that api-paste.ini names.

    :raises: exception.InvalidPriorities
    """
    # oslo.db's 10 tries of 10 seconds would hold up calls that need no lease,
    # such as the deletion of a server, while our database is away.
    conf.CONF.set_default('max_retries', 0, group='gpu_lease_database')
    # Wrong ones are told at the start, not to every user.
    priorities.parse(conf.CONF.gpu_lease.priorities)
    return GPULeaseMiddleware


class GPULeaseMiddleware:
    """See the module."""

    def __init__(self, application):
        self.application = application
        self._resources = handler.make_resource_mapper()
        self._checks = handler.make_mapper({
            **{path: hints.check_create for path in CREATE_PATHS},
            ACTION_PATH: actions.check})

    @webob.dec.wsgify(RequestClass=wsgi.Request)
    def __call__(self, req):
        path = req.environ['PATH_INFO']
        found = self._resources.match(path)
        if found:
            return self._resource(req, found)
        if req.method not in WAKE_METHODS:
            return self.application
        check = self._checks.match(path) if req.method == 'POST' else None
        if check:
            answer = self._check(req, check)
            if answer is not None:
                return answer
        response = req.get_response(self.application)
        if response.status_int < 400 and _WAKES.match(path):
            _tell(req.method, path, response)
        return response

    def _resource(self, req, found):
        try:
            req.set_api_version_request()
        except nova_exception.InvalidAPIVersionString as exc:
            return wsgi.Fault(webob.exc.HTTPBadRequest(
                explanation=exc.format_message()))
        except nova_exception.InvalidGlobalAPIVersion as exc:
            return wsgi.Fault(webob.exc.HTTPNotAcceptable(
                explanation=exc.format_message()))
        target = found.pop('controller')
        found.pop('action')
        return _versioned(req, target(req, found))

    def _check(self, req, found):
        """Check a request for new servers, or for an action on one.

        :param found: what the mapper found.
        :returns: a webob.Response, or None to let Nova answer.
        """
        parts = {name: value for name, value in found.items()
                 if name == 'server_id'}
        check = found['controller']
        try:
            req.set_api_version_request()
            req.get_content_type()
            # Reading it makes it readable again, for Nova.
            body = jsonutils.loads(req.body)
        except (nova_exception.InvalidAPIVersionString,
                nova_exception.InvalidGlobalAPIVersion,
                nova_exception.InvalidContentType,
                ValueError, RecursionError):
            return None
        try:
            check(req.environ['nova.context'], body=body, **parts)
        except exception.GPULeaseException as exc:
            LOG.debug('Server refused: %s', exc)
            return _versioned(req, faults.of(exc))
        return None


def _versioned(req, response):
    """Add the headers that tell the microversion, as Nova does."""
    version = req.api_version_request.get_string()
    response.headers[wsgi.API_VERSION_REQUEST_HEADER] = 'compute ' + version
    response.headers[wsgi.LEGACY_API_VERSION_REQUEST_HEADER] = version
    response.headers.add('Vary', wsgi.API_VERSION_REQUEST_HEADER)
    response.headers.add('Vary', wsgi.LEGACY_API_VERSION_REQUEST_HEADER)
    return response


def _tell(method, path, response):
    """Note what Nova did; its answer stands whatever happens."""
    try:
        db_api.wake(
            # A server may have waited when it was deleted.
            deleted=method == 'DELETE' or path.endswith('/action'))
        server = method == 'PUT' and _SERVER.fullmatch(path)
        if server and response.content_type == 'application/json':
            db_api.lease_rename(server['id'], response.json['server']['name'])
    except Exception as exc:
        # Nova has done it: whatever is wrong here, a 500 would be a lie.
        LOG.warning('Could not wake the GPU lease queue, it looks by itself '
                    'within [gpu_lease] dispatch_interval. Check '
                    '[gpu_lease_database] connection and the database: %s',
                    exc)
