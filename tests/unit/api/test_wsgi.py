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


import io
import json
import time

from nova.api.openstack.compute import routes
from nova.api.openstack.compute import servers
from nova import rpc
from oslo_messaging import conffixture
from oslo_serialization import jsonutils
import webob

from nova_gpu_lease.api import hints
from nova_gpu_lease.api import wsgi
from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import api as db_api
from tests.unit.api import base

_BODY = {'server': {'name': 'one', 'flavorRef': 'gpu'},
         'os:scheduler_hints': {'gpu_lease': '2h'}}


class BodyTestCase(base.APITestCase):
    """Nova gets the body as it was sent."""

    def _chunked(self, body):
        req = webob.Request.blank('/servers', method='POST')
        req.environ.pop('CONTENT_LENGTH', None)
        req.environ['HTTP_TRANSFER_ENCODING'] = 'chunked'
        req.environ['wsgi.input_terminated'] = True
        req.environ['wsgi.input'] = io.BytesIO(body)
        req.content_type = 'application/json'
        return req.get_response(self.app)

    def test_body_unchanged(self):
        body = json.dumps(_BODY, indent=3).encode() + b' \n'
        self.assertEqual(202, self.send('/servers', 'POST', body).status_int)
        self.assertEqual([body], self.nova.bodies)

    def test_body_chunked(self):
        body = json.dumps(_BODY).encode()
        self.assertEqual(202, self._chunked(body).status_int)
        self.assertEqual([body], self.nova.bodies)

    def test_body_chunked_with_bad_hint(self):
        body = dict(_BODY, **{'os:scheduler_hints': {'gpu_lease': 'soon'}})
        self.error(self._chunked(json.dumps(body).encode()), 400,
                   'badRequest')
        self.assertEqual([], self.nova.bodies)

    def test_body_too_large(self):
        body = json.dumps(dict(_BODY, x='x' * 114688)).encode()
        self.assertEqual(413, self.send('/servers', 'POST', body).status_int)
        self.assertEqual(413, self._chunked(body).status_int)
        self.assertEqual([], self.nova.bodies)

    def test_body_of_other_paths_not_read(self):
        class Unreadable:
            def read(self, size=-1):
                raise AssertionError('read')

        app = wsgi.filter_factory({})(webob.Response('nova'))
        for path in ('/servers/x/metadata', '/os-keypairs', '/servers/x'):
            req = webob.Request.blank(path, method='POST')
            req.environ['wsgi.input'] = Unreadable()
            req.content_length = 5
            self.assertEqual('nova', req.get_response(app).text)


class ActionTestCase(base.APITestCase):

    def test_action_on_a_waiting_server_is_refused(self):
        lease, = db_api.leases_of(self.queue().id)
        path = '/servers/%s/action' % lease.server_id
        response = self.send(path, 'POST', {'lock': None})
        self.assertEqual('gpu_lease.server_waits', self.error(
            response, 409, 'conflictingRequest', "'lock'", lease.server_id))
        self.assertEqual([], self.nova.bodies)
        for context, body in (
                (self.context, {'forceDelete': None}), (self.context, []),
                # Nova says that there is no such server.
                (self.make_context(base.OTHER_PROJECT), {'lock': None})):
            self.assertEqual(202, self.send(
                path, 'POST', body, context=context).status_int)
        self.assertEqual(409, self.send(
            path, 'POST', {'lock': None}, context=self.admin()).status_int)
        self.assertEqual(202, self.send(
            '/servers/x/action', 'POST', {'lock': None}).status_int)

    def test_action_without_database_reaches_nova(self):
        self.conf.config(group='gpu_lease_database', connection=None)
        _engine.reset()
        self.assertEqual(202, self.send(
            '/servers/x/action', 'POST', {'lock': None}).status_int)


class WakeTestCase(base.APITestCase):

    def _wakes(self, method, path, status=202):
        self.nova.status = status
        before = db_api.wake_value()
        self.assertEqual(status, self.send(path, method).status_int)
        return db_api.wake_value() - before

    def test_wake_after_changes(self):
        for method, path in (
                ('DELETE', '/servers/x'), ('POST', '/servers'),
                ('POST', '/servers/x/action'),
                ('DELETE', '/%s/servers/x' % base.PROJECT),
                ('DELETE', '/os-volumes_boot/x'),
                ('PUT', '/os-services/x'), ('DELETE', '/os-services/x'),
                ('POST', '/os-aggregates/1/action'), ('POST', '/flavors'),
                ('PUT', '/os-quota-sets/x')):
            self.assertEqual(1, self._wakes(method, path), path)

    def test_wake_tells_of_deletions(self):
        for method, path, count in (
                ('DELETE', '/servers/x', 1), ('POST', '/servers/x/action', 1),
                ('POST', '/servers', 0), ('PUT', '/servers/x', 0)):
            before = db_api.deletions_value()
            self.send(path, method)
            self.assertEqual(count, db_api.deletions_value() - before, path)

    def test_wake_not_after_others(self):
        for method, path in (
                ('GET', '/servers'), ('GET', '/os-services'),
                ('POST', '/os-keypairs'), ('POST', '/os-server-groups'),
                ('POST', '/flavorsx'), ('POST', '/x/servers')):
            self.assertEqual(0, self._wakes(method, path), path)

    def test_wake_not_after_errors(self):
        for status in (400, 403, 404, 409, 413, 500, 503):
            self.assertEqual(
                0, self._wakes('DELETE', '/servers/x', status))

    def test_rename_reaches_the_current_lease(self):
        lease, = db_api.leases_of(self.queue().id)
        self.nova.text = json.dumps({'server': {'name': 'new'}})
        for method, path, name in (
                ('POST', '/servers/%s', 's0'), ('PUT', '/servers/%s/x', 's0'),
                ('PUT', '/servers/%s', 'new')):
            self.send(path % lease.server_id, method)
            self.assertEqual(
                name, db_api.lease_get(lease.uuid).server_name, path)

    def test_wake_without_database(self):
        self.conf.config(group='gpu_lease_database', connection=None)
        _engine.reset()
        self.assertEqual(
            'nova', self.send('/servers/x', 'DELETE').text)

    def test_wake_database_broken(self):
        self.conf.config(group='gpu_lease_database',
                         connection='sqlite:////nowhere/at/all.db')
        _engine.reset()
        self.assertEqual(
            'nova', self.send('/servers/x', 'DELETE').text)

    def test_wake_database_away(self):
        self.conf.config(
            group='gpu_lease_database',
            connection='mysql+pymysql://u:p@127.0.0.1:1/none')
        _engine.reset()
        start = time.monotonic()
        self.assertEqual(
            'nova', self.send('/servers/x', 'DELETE').text)
        self.assertLess(time.monotonic() - start, 5)


class NovaRouterTestCase(base.APITestCase):
    """The filter knows the same URLs as Nova."""

    def setUp(self):
        super().setUp()
        self.useFixture(conffixture.ConfFixture(
            self.conf.conf)).transport_url = 'fake:/'
        rpc.init(self.conf.conf)
        self.addCleanup(rpc.cleanup)

    def test_create_paths_are_novas(self):
        router = routes.APIRouterV21().map
        middleware = wsgi.GPULeaseMiddleware(self.nova)
        paths = [prefix + path + suffix
                 for prefix in ('', '/', '/abc', '/a-1', '/ABC', '/xyz',
                                '/abc/abc', '//abc', '/servers')
                 for path in ('/servers', '/os-volumes_boot', '/Servers',
                              '/server', '/flavors', '//servers')
                 for suffix in ('', '/', '//', '.json', '/x', '/action',
                                '\n', '?', ' ')]
        creates = 0
        for path in paths:
            found = router.match(path, {'REQUEST_METHOD': 'POST'})
            is_create = bool(
                found and found['action'] == 'create' and isinstance(
                    found['controller'].controller,
                    servers.ServersController))
            creates += is_create
            match = middleware._checks.match(path) or {}
            self.assertEqual(
                is_create, match.get('controller') is hints.check_create,
                path)
        # Three forms of two paths, and each with a newline at the end, which
        # Nova lets pass.
        self.assertEqual(12, creates)


class AnswerTestCase(base.APITestCase):

    def test_microversion_headers(self):
        response = self.send('/os-gpu-leases', headers={
            'OpenStack-API-Version': 'compute 2.96'})
        self.assertEqual('compute 2.96',
                         response.headers['OpenStack-API-Version'])
        self.assertEqual(['OpenStack-API-Version',
                          'X-OpenStack-Nova-API-Version'],
                         response.headers.getall('Vary'))

    def test_microversion_unknown(self):
        for version, status in (('x', 400), ('2.9999', 406), ('1.0', 406)):
            response = self.send('/os-gpu-leases', headers={
                'OpenStack-API-Version': 'compute ' + version})
            self.assertEqual(status, response.status_int)
            self.assertIn('message', str(jsonutils.loads(response.body)))

    def test_microversion_of_refused_create(self):
        response = self.send(
            '/servers', 'POST',
            dict(_BODY, **{'os:scheduler_hints': {'gpu_lease': ''}}),
            {'OpenStack-API-Version': 'compute 2.90'})
        self.error(response, 400, 'badRequest')
        self.assertEqual('compute 2.90',
                         response.headers['OpenStack-API-Version'])

    def test_other_paths_are_novas(self):
        for path in ('', '/', '/servers', '/os-gpu-leasesx',
                     '/servers/os-gpu-leases', '/zz/os-gpu-leases'):
            self.assertEqual('nova', self.send(path).text)
