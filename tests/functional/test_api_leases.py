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


"""The filter in Nova's own pipeline, with all of Nova behind it."""

import json

from nova_gpu_lease.cmd import status
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import policy
from nova_gpu_lease import secrets
from tests.functional import base

OTHER_PROJECT = 'bbbb0000'
NO_IMAGE = '00000000-0000-4000-8000-000000000000'


class CreateTest(base.CloudTestCase):
    """Refusals, and when Nova has the last word; the grammar is elsewhere."""

    GPUS = {'host1': {'gpu': 1}}

    def send(self, body, path='/servers', api=None, **headers):
        """Post something, and return requests' response."""
        return (api or self.api).api_request(
            path, method='POST', body=json.dumps(body), headers=headers)

    # Each test boots a cloud; what leaves no trace shares one.

    def test_create_refused(self):
        self._no_way_around()
        self._legacy_v2_endpoint()
        self._refusal_looks_like_novas()
        self._nova_has_the_last_word()

    def _no_way_around(self):
        body = self.body('one', {'gpu_lease': 'soon'})
        project = self.api.project_id
        self.api.microversion = '2.100'
        for path in ('/servers', '/%s/servers' % project,
                     '/os-volumes_boot', '/servers%0A'):
            self.assertEqual(400, self.send(body, path).status_code, path)
            for value in ('text/plain', 'application/json'):
                self.assertIn('gpu_lease.hint.invalid', self.send(
                    body, path, **{'Content-Type': value}).text, path)
        self.assertEqual([], self.api.get_servers())

    def _legacy_v2_endpoint(self):
        api = self.client_of('fake', self.api.project_id)
        api.base_url = api.base_url.replace('v2.1', 'v2')
        body = self.body('one', {'gpu_lease': 'soon'})
        del body['server']['networks']
        response = self.send(body, api=api)
        self.assertIn('gpu_lease.hint.invalid', response.text)
        self.assertNotIn('OpenStack-API-Version', response.headers)
        response = api.api_request('/os-gpu-leases')
        self.assertEqual({'gpu_leases': []}, response.json())
        self.assertNotIn('OpenStack-API-Version', response.headers)

    def _refusal_looks_like_novas(self):
        ours = self.send(self.body('one', {'gpu_lease': 'soon'}))
        novas = self.send(self.body('one', {}, imageRef=NO_IMAGE))
        for response in (ours, novas):
            self.assertEqual(400, response.status_code)
            self.assertEqual(['badRequest'], list(response.json()))
        self.assertEqual(set(novas.headers), set(ours.headers))
        for header in set(novas.headers) - {
                'Content-Length', 'x-openstack-request-id',
                'x-compute-request-id'}:
            self.assertEqual(novas.headers[header], ours.headers[header])

    def _nova_has_the_last_word(self):
        flavor = self.flavor()
        good, bad = {'gpu_lease': '1h'}, {'gpu_lease': 'soon'}
        for body, message in (
                (dict(self.body('x', bad, flavor), extra=1), 'gpu_lease'),
                (dict(self.body('x', good, flavor), extra=1), 'extra'),
                (self.body('', good, flavor), 'name'),
                (self.body('x', bad, 'none'), 'Flavor none'),
                (self.body('x', good, flavor, min_count='x'), 'min_count'),
                (self.body('x', good, flavor, min_count=3, max_count=2),
                 'min_count'),
                ({'server': None}, 'server'), ([], '')):
            response = self.send(body)
            self.assertEqual(400, response.status_code, response.text)
            self.assertIn(message, response.json()['badRequest']['message'])
        for body, status_code in ((b'{', 400), (b'', 400),
                                  (b'x' * 114689, 413)):
            response = self.api.api_request('/servers', method='POST',
                                            body=body)
            self.assertEqual(status_code, response.status_code)
        self.assertEqual(415, self.send(
            {}, **{'Content-Type': 'text/xml'}).status_code)

    def test_password_needs_key(self):
        body = self.body('one', {'gpu_lease': '1h'}, adminPass='geheim')
        response = self.send(body)
        self.assertEqual('gpu_lease.no_encryption_key',
                         response.json()['badRequest']['gpu_lease_code'])
        self.flags(encryption_keys=[secrets.generate_key()],
                   group='gpu_lease')
        self.assertEqual(202, self.send(body).status_code)

    def test_waiting_limit(self):
        self.flags(max_waiting_per_project=2, group='gpu_lease')
        server = self.create('first')
        self.wait_for_status(server, 'ACTIVE')
        self.create('second')
        self.wait_for('one waits', lambda: len(self.queue()) == 1)
        response = self.send(self.body('gang', {'gpu_lease': '1h'},
                                       min_count=2))
        self.assertEqual(403, response.status_code)
        self.assertEqual('gpu_lease.too_many_waiting',
                         response.json()['forbidden']['gpu_lease_code'])
        self.create('third')
        self.wait_for('two wait', lambda: len(self.queue()) == 2)
        other = self.client_of('fake', OTHER_PROJECT)
        self.create('other', api=other)


class LeaseAPITest(base.CloudTestCase):
    """What users, other projects and admins see of one queue."""

    GPUS = {'host1': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        self.other = self.client_of('other', OTHER_PROJECT)
        self.first = self.create('first', {'gpu_lease': '2h'})
        self.wait_for_lease(self.first, 'ACTIVE')
        self.gpu2 = self.create('theirs', api=self.other)
        self.wait_for('theirs waits', lambda: self.queue(api=self.other))
        self.last = self.create('last', {
            'gpu_lease': '30m', 'gpu_lease_wait': '1h',
            'gpu_lease_on_expiry': 'delete'})
        self.wait_for('mine waits', lambda: self.queue())
        self.wait_for('positions', lambda: [
            request['position'] for request in
            self.queue('?all_projects=1', self.admin_api)] == [1, 2])

    def get(self, path, api=None):
        return (api or self.api).api_request(path)

    def test_leases(self):
        self._leases_of_one_project()
        self._lease_fields()
        self._project_in_url()
        self._other_project_sees_nothing()
        self._admin_sees_all()
        self._pages()
        self._method_not_allowed()
        self._roles()

    def _leases_of_one_project(self):
        self.assertEqual(
            [('last', 'QUEUED', 2), ('first', 'ACTIVE', None)],
            [(lease['server_name'], lease['status'], lease['position'])
             for lease in self.leases()])
        self.assertEqual(['theirs'], [lease['server_name'] for lease in
                                      self.leases(api=self.other)])
        self.assertEqual([['last']], self.waiting())

    def _lease_fields(self):
        lease = self.lease(self.last)
        for key, value in {
                'server_id': self.last, 'project_id': self.api.project_id,
                'user_id': 'fake', 'devices': {'gpu': 1},
                'status': 'QUEUED', 'position': 2, 'duration': 1800,
                'on_expiry': 'delete', 'remaining': None,
                'max_duration': None, 'auto_extend': False,
                'priority': 'normal'}.items():
            self.assertEqual(value, lease[key], key)
        self.assertIsNotNone(lease['wait_until'])
        self.assertTrue(lease['reason'])
        self.assertNotIn('host', lease)
        lease = self.lease(self.first, self.admin_api)
        self.assertEqual('host1', lease['host'])
        self.assertTrue(7100 < lease['remaining'] <= 7200)

    def _project_in_url(self):
        mine = '/%s/os-gpu-leases' % self.api.project_id
        self.assertEqual(
            [lease['id'] for lease in self.leases()],
            [lease['id'] for lease in self.get(mine).json()['gpu_leases']])
        self.assertEqual(self.get('/os-gpu-leases/queue').json(),
                         self.get(mine + '/queue').json())
        self.assertEqual(400, self.get(
            '/%s/os-gpu-leases' % OTHER_PROJECT).status_code)

    def _other_project_sees_nothing(self):
        for path in (self.first, self.lease(self.first)['id']):
            self.assertEqual(404, self.get(
                '/os-gpu-leases/' + path, self.other).status_code)
        self.assertEqual([], self.leases(
            '?server_id=' + self.first, self.other))
        for query in ('?all_projects=true',
                      '?project_id=' + self.api.project_id):
            self.assertEqual(403, self.get(
                '/os-gpu-leases' + query, self.other).status_code)
        self.assertEqual(403, self.get(
            '/os-gpu-leases/queue?all_projects=1', self.other).status_code)

    def _roles(self):
        # Nova's tests come with rules of their own.
        path, = self.create_tempfiles([('policy', '{}')], '.yaml')
        self.flags(policy_file=path, enforce_new_defaults=True,
                   group='oslo_policy')
        policy.reset()
        self.addCleanup(policy.reset)
        for api, expected in ((self.api_fixture.reader_api, 200),
                              (self.api_fixture.other_api, 403)):
            for path in ('', '/queue', '/' + self.first):
                self.assertEqual(expected, self.get(
                    '/os-gpu-leases' + path, api).status_code, path)

    def _admin_sees_all(self):
        self.assertEqual(['first', 'last', 'theirs'], [
            lease['server_name'] for lease in self.leases(
                '?all_projects=1&sort=server_name', self.admin_api)])
        self.assertEqual(['theirs'], [
            lease['server_name'] for lease in self.leases(
                '?project_id=' + OTHER_PROJECT, self.admin_api)])

    def _pages(self):
        path, names = '/os-gpu-leases?all_projects=1&limit=1', []
        while path:
            page = self.get(path, self.admin_api).json()
            names.append(page['gpu_leases'][0]['server_name'])
            links = page.get('gpu_leases_links')
            path = links and links[0]['href'].partition('/v2.1')[2]
        self.assertEqual(['last', 'theirs', 'first'], names)

    def _method_not_allowed(self):
        for method in ('POST', 'PUT', 'DELETE', 'PATCH'):
            response = self.api.api_request('/os-gpu-leases', method=method)
            self.assertEqual(405, response.status_code)
            self.assertEqual('GET', response.headers['Allow'])

    def test_api_calls_wake(self):
        for call in (
                lambda: self.api.delete_server(self.last),
                lambda: self.api.put_server(
                    self.first, {'server': {'name': 'renamed'}}),
                lambda: self.admin_api.api_put(
                    '/os-services/%s' % self.computes['host1'].service_ref
                    .uuid, {'status': 'disabled'})):
            before = db_api.wake_value()
            call()
            self.assertGreater(db_api.wake_value(), before)


class ConductorCheckTest(base.CloudTestCase):
    """nova-gpu-lease-status finds the conductors by itself."""

    GPUS = {'host1': {'gpu': 1}}

    def check(self):
        return status.Checks().conductors()

    def test_conductors(self):
        self.wait_for('a beat', db_api.conductors_list)
        self.assertEqual((0, None),
                         (self.check().code, self.check().details))
        host = CONF.host
        self.start_service(
            'conductor', host='stock',
            manager='nova.conductor.manager.ConductorManager')
        self.addCleanup(CONF.set_override, 'host', host)
        result = self.check()
        self.assertEqual(2, result.code)
        self.assertIn('stock', result.details)
