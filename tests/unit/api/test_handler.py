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


import fixtures
from nova import exception as nova_exception

from nova_gpu_lease.api import handler
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import policies
from nova_gpu_lease import policy
from tests.unit.api import base


_BODIES = {'PATCH': {'gpu_lease': {'auto_extend': True}}}


class RoutesTestCase(base.APITestCase):
    """What is true for every route."""

    def setUp(self):
        super().setUp()
        self.request = self.queue(kind='unshelve')
        # The server of the lease is one of Nova's.
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.records.find_instance', self._gone))

    @staticmethod
    def _gone(context, server_id, attrs=None):
        raise nova_exception.InstanceNotFound(instance_id=server_id)

    def _routes(self):
        for path, methods in handler.ROUTES.items():
            for method in methods:
                yield method, path.format(id='5e%034d' % 0, rest='x')

    def test_route_has_policy(self):
        """With no rule that allows anything, no route answers."""
        path, = self.create_tempfiles([('policy', '\n'.join(
            '"%s": "!"' % rule.name for rule in policies.list_rules()))],
            '.yaml')
        # The enforcer registers the option.
        policy.get_enforcer()
        self.flags(group='oslo_policy', policy_file=path)
        policy.reset()
        routes = list(self._routes())
        self.assertLessEqual(3, len(routes))
        for method, path in routes:
            self.error(self.send(path, method), 403, 'forbidden',
                       'os_compute_api:os-gpu-leases:')

    def test_route_answers_both_forms(self):
        for method, path in self._routes():
            body = _BODIES.get(method)
            answer = self.send(path, method, body)
            self.assertIn('x-compute-request-id', answer.headers)
            again = self.send('/%s%s' % (base.PROJECT, path), method, body)
            self.assertEqual(answer.status_int, again.status_int)
            if method == 'DELETE':
                self.assertEqual(204, answer.status_int)
                self.assertEqual((b'', b''), (answer.body, again.body))
                continue
            self.assertEqual(200, answer.status_int)
            self.assertEqual('application/json', answer.content_type)
            if method == 'GET':
                self.assertEqual(answer.json, again.json)
        self.assertEqual([], self.nova.paths)

    def test_route_is_documented(self):
        """Each rule names a route, and each route is named by a rule."""
        documented = {
            (operation['method'], operation['path'].partition('?')[0])
            for rule in policies.list_rules()
            for operation in rule.operations
            # Nova's, which we check before Nova sees it.
            if operation['path'] != '/servers'}
        self.assertEqual(
            {(method, path) for path, methods in handler.ROUTES.items()
             for method in methods}, documented)

    def test_route_of_another_project(self):
        for method, path in self._routes():
            self.error(
                self.send('/%s%s' % (base.OTHER_PROJECT, path), method),
                400, 'badRequest', base.OTHER_PROJECT)

    def test_method_not_allowed(self):
        allowed = {}
        for method, path in self._routes():
            allowed.setdefault(path, []).append(method)
        for path, methods in allowed.items():
            for method in {'POST', 'PUT', 'PATCH', 'DELETE'} - set(methods):
                answer = self.send(path, method)
                self.error(answer, 405, 'badMethod', method)
                self.assertEqual(', '.join(sorted(methods)),
                                 answer.headers['Allow'])

    def test_path_not_found(self):
        for path in ('/os-gpu-leases/', '/os-gpu-leases/a/b',
                     '/os-gpu-leases/queue/1'):
            for method in ('GET', 'POST', 'DELETE'):
                self.error(self.send(path, method), 404, 'itemNotFound')

    def test_parameter_unknown(self):
        for method, path in self._routes():
            self.error(self.send(path + '?colour=red', method), 400,
                       'badRequest', 'colour')


class PolicyTestCase(base.APITestCase):

    def test_reader_may_read(self):
        self.context = self.make_context(roles=['reader'])
        self.assertEqual(200, self.send('/os-gpu-leases').status_int)
        self.assertEqual(200, self.send('/os-gpu-leases/queue').status_int)

    def test_reader_may_not_change(self):
        lease, = db_api.leases_of(self.queue().id)
        path = '/os-gpu-leases/' + lease.uuid
        body = {'gpu_lease': {'duration': '3h'}}
        self.error(self.send(path, 'PATCH', body, context=self.make_context(
            roles=['reader'])), 403, 'forbidden', 'update')
        self.error(self.send(path, 'PATCH', body, context=self.make_context(
            base.OTHER_PROJECT)), 404, 'itemNotFound')
        self.assertEqual(7200, db_api.lease_get(lease.uuid).duration)

    def test_reader_may_not_cancel(self):
        lease, = db_api.leases_of(self.queue(kind='unshelve').id)
        path = '/os-gpu-leases/' + lease.uuid
        self.error(self.send(path, 'DELETE', context=self.make_context(
            roles=['reader'])), 403, 'forbidden', 'cancel')
        self.error(self.send(path, 'DELETE', context=self.make_context(
            base.OTHER_PROJECT)), 404, 'itemNotFound')
        self.assertEqual('QUEUED', db_api.lease_get(lease.uuid).state)

    def test_no_role_may_not(self):
        self.context = self.make_context(roles=['guest'])
        self.error(self.send('/os-gpu-leases'), 403, 'forbidden')
        self.error(self.send('/os-gpu-leases/queue'), 403, 'forbidden')

    def test_all_projects_is_for_admins(self):
        for path in ('/os-gpu-leases?all_projects=true',
                     '/os-gpu-leases/queue?all_projects=1',
                     '/os-gpu-leases?project_id=' + base.OTHER_PROJECT):
            self.error(self.send(path, context=self.make_context()), 403,
                       'forbidden', 'all_projects')
            self.assertEqual(
                200, self.send(path, context=self.admin()).status_int)

    def test_system_scope_may_not(self):
        self.context = self.make_context(None, ['admin', 'reader'])
        self.context.system_scope = 'all'
        self.error(self.send('/os-gpu-leases'), 403, 'forbidden')
