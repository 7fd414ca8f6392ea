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


from nova_gpu_lease import errors
from tests.unit.api import base
from tests.unit.api import hint_table


class HintTableTestCase(base.APITestCase):
    """The table of hints, through the filter."""

    def test_hints_table(self):
        self.flavors = hint_table.FLAVORS
        failures = []
        for count, case in enumerate(hint_table.cases(), 1):
            try:
                self._check(case)
            except AssertionError as exc:
                failures.append('%s: %s' % (case, exc))
        self.assertEqual([], failures)
        self.assertGreater(count, 300)

    def _check(self, case):
        self.nova.bodies = []
        options = dict.fromkeys(
            ('default_duration', 'max_duration', 'max_wait'))
        self.flags(**dict(options, without_hint='default', **case.options)
                   if 'without_hint' not in case.options
                   else dict(options, **case.options))
        response = self.create(case.hints, case.flavor)
        if case.code is None:
            self.assertEqual(202, response.status_int, response.text)
            self.assertEqual(1, len(self.nova.bodies))
        else:
            self.assertEqual(
                case.code,
                self.error(response, 400, 'badRequest', case.says))
            self.assertEqual([], self.nova.bodies)


class HintPathsTestCase(base.APITestCase):
    """There is no way around the check."""

    bad = {'gpu_lease': 'soon'}

    def test_create_every_url(self):
        for path in ('/servers', '/%s/servers' % base.PROJECT,
                     '/os-volumes_boot',
                     '/%s/os-volumes_boot' % base.PROJECT):
            self.error(self.create(self.bad, path=path), 400, 'badRequest')
        self.assertEqual([], self.nova.paths)

    def test_create_both_keys(self):
        for key in ('os:scheduler_hints', 'OS-SCH-HNT:scheduler_hints'):
            self.error(self.create(self.bad, key=key), 400, 'badRequest')

    def test_create_first_key_counts(self):
        body = {'server': {'name': 'one', 'flavorRef': 'gpu'},
                'OS-SCH-HNT:scheduler_hints': self.bad,
                'os:scheduler_hints': {}}
        self.assertEqual(202, self.send('/servers', 'POST', body).status_int)

    def test_create_content_types(self):
        body = (b'{"server": {"name": "one", "flavorRef": "gpu"}, '
                b'"os:scheduler_hints": {"gpu_lease": "soon"}}')
        for value in ('application/json', 'application/json; charset=utf-8',
                      'application/vnd.openstack.compute+json', 'text/plain',
                      ''):
            self.error(self.send('/servers', 'POST', body,
                                 {'Content-Type': value}), 400, 'badRequest')
        for value in ('text/xml', 'application/xml'):
            # Nova's answer is a 415.
            self.assertEqual('nova', self.send(
                '/servers', 'POST', body, {'Content-Type': value}).text)

    def test_create_other_methods(self):
        for method in ('GET', 'PUT', 'DELETE', 'PATCH', 'HEAD'):
            self.send('/servers', method, {'os:scheduler_hints': self.bad})
        self.assertEqual(5, len(self.nova.paths))

    def test_create_flavor_as_url(self):
        self.error(self.create(self.bad, 'http://cloud/v2.1/flavors/gpu'),
                   400, 'badRequest')
        self.flavors['1'] = base.GPU
        self.error(self.create(self.bad, 1), 400, 'badRequest')

    def test_create_malformed_is_novas(self):
        for body in (b'', b'{', b'nothing', b'\xff', b'[' * 100000, [], 1,
                     None, {}, {'server': None}, {'server': []},
                     {'server': {}}, {'server': {'flavorRef': None}},
                     {'server': {'flavorRef': {}}},
                     {'server': {'flavorRef': 'none'}},
                     {'server': {'flavorRef': '\ud800'}},
                     {'server': {'flavorRef': 'http://['}},
                     {'server': {'flavorRef': 'gpu', 'min_count': 'x'}},
                     {'server': {'flavorRef': 'gpu', 'min_count': None}},
                     {'server': {'flavorRef': 'gpu', 'max_count': 0}},
                     {'server': {'flavorRef': 'gpu'},
                      'os:scheduler_hints': []},
                     {'server': {'flavorRef': 'gpu'},
                      'os:scheduler_hints': None}):
            if isinstance(body, dict):
                body.setdefault('os:scheduler_hints', self.bad)
            response = self.send('/servers', 'POST', body)
            self.assertEqual('nova', response.text, body)

    def test_create_bad_microversion_is_novas(self):
        for version in ('compute 1.0', 'compute 2.9999', 'compute x'):
            response = self.send(
                '/servers', 'POST',
                {'server': {'name': 'one', 'flavorRef': 'gpu'},
                 'os:scheduler_hints': self.bad},
                {'OpenStack-API-Version': version})
            self.assertEqual('nova', response.text)


class SecretsTestCase(base.APITestCase):

    hints = {'gpu_lease': '2h'}
    files = [{'path': '/etc/motd', 'contents': 'aGk='}]

    def test_create_password_without_key(self):
        for server in ({'adminPass': 'secret'}, {'personality': self.files}):
            response = self.create(self.hints, **server)
            self.assertEqual(
                errors.NO_ENCRYPTION_KEY,
                self.error(response, 400, 'badRequest', 'encryption_keys'))
            self.assertNotIn('secret', response.text)

    def test_create_password_with_key(self):
        self.flags(encryption_keys=['key'])
        self.assertEqual(202, self.create(
            self.hints, adminPass='secret',
            personality=self.files).status_int)

    def test_create_password_without_lease(self):
        self.assertEqual(202, self.create(adminPass='x').status_int)
        self.assertEqual(
            202, self.create(flavor='cpu', adminPass='x').status_int)


class WaitingLimitTestCase(base.APITestCase):

    hints = {'gpu_lease': '2h'}

    def test_create_up_to_limit(self):
        self.flags(max_waiting_per_project=3)
        self.queue(2)
        self.queue(5, project_id=base.OTHER_PROJECT)
        self.assertEqual(202, self.create(self.hints).status_int)
        for server in ({'min_count': 2}, {'max_count': 2},
                       {'min_count': '1', 'max_count': '2'}):
            self.assertEqual(
                errors.TOO_MANY_WAITING,
                self.error(self.create(self.hints, **server), 403,
                           'forbidden', '2', '3', base.PROJECT))

    def test_create_without_lease(self):
        self.flags(max_waiting_per_project=0)
        self.assertEqual(202, self.create().status_int)
        self.assertEqual(202, self.create(flavor='cpu').status_int)
        self.error(self.create(self.hints), 403, 'forbidden')

    def test_create_without_limit(self):
        self.flags(max_waiting_per_project=-1)
        self.assertEqual(
            202, self.create(self.hints, max_count=1000).status_int)
