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


"""The middleware between Nova's own filters and a stand-in for Nova."""

import json

import fixtures
from nova.api import auth
from nova.api import compute_req_id
from nova.api import openstack
from nova import context
from nova import exception as nova_exception
from nova import objects
from oslo_middleware import sizelimit
import webob
import webob.dec

from nova_gpu_lease.api import wsgi
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import policy
from tests import base

PROJECT = 'aaaa0000'
OTHER_PROJECT = 'bbbb0000'
GPU = {'pci_passthrough:alias': 'gpu:1'}


class FakeNova:
    """Keeps what reaches it, and answers 202 unless told otherwise."""

    def __init__(self):
        self.status = 202
        self.text = 'nova'
        self.bodies = []
        self.paths = []

    @webob.dec.wsgify
    def __call__(self, req):
        self.paths.append(req.path_info)
        if req.method != 'GET':
            self.bodies.append(req.body)
        return webob.Response(
            status=self.status, text=self.text,
            content_type='text/html' if self.text == 'nova'
            else 'application/json', charset='UTF-8')


class APITestCase(base.DatabaseTestCase):
    """A test that sends requests.

    ``flavors`` is {id: extra specs}; Nova's database is not there.
    """

    def setUp(self):
        super().setUp()
        objects.register_all()
        policy.reset()
        self.addCleanup(policy.reset)
        self.nova = FakeNova()
        self.flavors = {'gpu': GPU, 'cpu': {}}
        self.patch_flavors()
        self.context = self.make_context()

    def patch_flavors(self):
        def get_by_flavor_id(cls, context, flavor_id, read_deleted=None):
            if flavor_id not in self.flavors:
                raise nova_exception.FlavorNotFound(flavor_id=flavor_id)
            return objects.Flavor(extra_specs=self.flavors[flavor_id])

        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Flavor.get_by_flavor_id', get_by_flavor_id))

    @staticmethod
    def make_context(project_id=PROJECT, roles=('member', 'reader')):
        """The context of a user."""
        return context.RequestContext(
            'user', project_id, roles=list(roles),
            is_admin='admin' in roles)

    def admin(self):
        return self.make_context('ad0000', ('admin', 'member', 'reader'))

    @property
    def app(self):
        """Filters in the order of Nova's api-paste.ini."""
        app = wsgi.filter_factory({})(self.nova)
        app = auth.InjectContext(self.context, app)
        app = sizelimit.RequestBodySizeLimiter(app)
        app = openstack.FaultWrapper(app)
        return compute_req_id.ComputeReqIdMiddleware(app)

    def send(self, path, method='GET', body=None, headers=None,
             context=None):
        """Send a request below /v2.1.

        :param body: bytes, or something to send as JSON.
        :returns: the webob.Response.
        """
        if context is not None:
            self.context = context
        req = webob.Request.blank(path, method=method, base_url=(
            'http://cloud.example/v2.1'))
        if body is not None:
            req.body = body if isinstance(body, bytes) else \
                json.dumps(body).encode()
            req.content_type = 'application/json'
        req.headers.update(headers or {})
        return req.get_response(self.app)

    def create(self, hints=None, flavor='gpu', path='/servers',
               key='os:scheduler_hints', **server):
        """Ask for a new server."""
        body = {'server': dict({'name': 'one', 'flavorRef': flavor},
                               **server)}
        if hints is not None:
            body[key] = hints
        return self.send(path, 'POST', body)

    def error(self, response, status, name, *parts):
        """Check an error answer.

        :param parts: texts that must be in the message.
        :returns: the gpu_lease_code.
        """
        self.assertEqual(status, response.status_int, response.text)
        self.assertEqual('application/json', response.content_type)
        self.assertEqual([name], list(response.json))
        fault = response.json[name]
        self.assertEqual(status, fault['code'])
        for part in parts:
            self.assertIn(part, fault['message'])
        self.assertIn('x-compute-request-id', response.headers)
        return fault.get('gpu_lease_code')

    def queue(self, count=1, project_id=PROJECT, **values):
        """Queue a request of some servers."""
        number = len(db_api.leases_list())
        servers = [{
            'server_id': '5e%034d' % (number + i),
            'server_name': 's%d' % (number + i), 'flavor': 'gpu',
            'duration': 7200, 'on_expiry': 'shelve'} for i in range(count)]
        return db_api.request_create(dict({
            'kind': 'create', 'project_id': project_id, 'user_id': 'user',
            'priority': 'normal', 'devices': {'gpu': 1}, 'context': {},
            'queue_group': 'gpu'}, **values), servers, 'host')
