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

"""What Keystone answers for the user of a request that waited, and then."""

from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import fixture as ks_fixture
from keystoneauth1 import loading as ks_loading
from nova.conf import service_token
import requests
from requests_mock.contrib import fixture as requests_fixture

from nova_gpu_lease.conductor import credentials
from nova_gpu_lease import exception
from nova_gpu_lease import secrets
from tests import base

GROUP = service_token.SERVICE_USER_GROUP
URL = 'http://keystone.example/v3'
TOKENS = URL + '/auth/tokens'


class _Request:
    """The columns that say how to act for a user."""

    def __init__(self, trust_id=None, token=None):
        self.trust_id = trust_id
        self.token = token
        self.credentials = 'trust' if trust_id else 'token'
        self.context = {'user_id': 'user', 'project_id': 'project'}


def _scope(request):
    return request.json()['auth']['scope']


def _of_a_trust(request):
    return 'OS-TRUST:trust' in _scope(request)


def _of_nova(request):
    return not _of_a_trust(request)


class ContextTest(base.TestCase):
    """Over the real client, with the answers of a Keystone."""

    def setUp(self):
        super().setUp()
        # Taken off again at the end: with them no test could do without.
        self.conf.register_opts(
            ks_loading.get_auth_plugin_conf_options('password'), group=GROUP)
        self.flags(
            GROUP, auth_type='password', auth_url=URL, username='nova',
            password='secret', user_domain_name='Default',
            project_name='service', project_domain_name='Default')
        self.flags(encryption_keys=[secrets.generate_key()])
        self.http = self.useFixture(requests_fixture.Fixture())
        self.http.get(URL, json={'version': ks_fixture.V3Discovery(URL)})
        self.creds = credentials.Credentials()

    def answer(self, matches, status=201, **values):
        """How Keystone answers who asks for a token.

        :param matches: _of_nova or _of_a_trust.
        """
        if status == 201:
            values = {'json': ks_fixture.V3Token(),
                      'headers': {'X-Subject-Token': matches.__name__}}
        elif not values:
            values = {'json': {'error': {'code': status, 'message': 'no'}}}
        self.http.post(TOKENS, additional_matcher=matches,
                       status_code=status, **values)

    def trusted(self):
        return self.creds.context_for(_Request(trust_id='t'))

    def kept(self):
        return self.creds.context_for(_Request(
            token=secrets.encrypt({'token': 'of the call'})))

    def test_trust_gives_a_token(self):
        self.answer(_of_nova)
        self.answer(_of_a_trust)
        context = self.trusted()
        self.assertEqual(('user', 'project', '_of_a_trust'), (
            context.user_id, context.project_id, context.auth_token))
        self.assertEqual({'OS-TRUST:trust': {'id': 't'}},
                         _scope(self.http.last_request))

    def test_trust_that_gives_none_is_of_a_user_who_left(self):
        """401 and 403: disabled, or without the role; 404: it is gone."""
        self.answer(_of_nova)
        for status in (401, 403, 404):
            self.answer(_of_a_trust, status)
            error = self.assertRaises(exception.UserGone, self.trusted)
            self.assertIn('may no longer act in its project', str(error))

    def test_keystone_that_is_away_is_tried_again(self):
        self.answer(_of_nova)
        for matches in (_of_a_trust, _of_nova):
            self.http.post(TOKENS, additional_matcher=matches,
                           exc=requests.exceptions.ConnectionError)
            self.assertRaises(ks_exc.ConnectFailure, self.trusted)
        self.answer(_of_nova)
        for status in (500, 503):
            self.answer(_of_a_trust, status)
            self.assertRaises(ks_exc.HttpServerError, self.trusted)

    def test_user_is_not_blamed_when_nova_itself_is_refused(self):
        """Its password was changed, for example."""
        for status in (401, 403, 404):
            self.answer(_of_nova, status)
            self.answer(_of_a_trust, status)
            error = self.assertRaises(ks_exc.AuthorizationFailure,
                                      self.trusted)
            self.assertIn('service user', str(error))

    def test_token_that_nova_has_from_before_proves_nothing(self):
        self.answer(_of_nova)
        self.creds.service_context()
        self.answer(_of_nova, 401)
        self.answer(_of_a_trust, 401)
        self.assertRaises(ks_exc.AuthorizationFailure, self.trusted)

    def test_kept_token_that_is_taken(self):
        self.answer(_of_nova)
        self.http.get(TOKENS, json={'token': {}})
        self.assertEqual('of the call', self.kept().auth_token)
        asked = self.http.last_request
        self.assertEqual(
            ('of the call', '_of_nova'),
            (asked.headers['X-Subject-Token'], asked.headers['X-Auth-Token']))

    def test_kept_token_that_is_not_taken_any_more(self):
        """404: it expired, or its application credential was deleted."""
        self.answer(_of_nova)
        for status in (403, 404):
            self.http.get(TOKENS, status_code=status)
            error = self.assertRaises(exception.TokenGone, self.kept)
            self.assertNotIn('of the call', str(error))

    def test_kept_token_of_which_keystone_says_nothing(self):
        self.answer(_of_nova)
        self.http.get(TOKENS, exc=requests.exceptions.ConnectionError)
        self.assertRaises(ks_exc.ConnectFailure, self.kept)
        self.http.get(TOKENS, status_code=503)
        self.assertRaises(ks_exc.ServiceUnavailable, self.kept)
        # Ours is refused, and not the one of the user.
        self.answer(_of_nova, 401)
        self.http.get(TOKENS, status_code=401)
        self.assertRaises(ks_exc.Unauthorized, self.kept)
