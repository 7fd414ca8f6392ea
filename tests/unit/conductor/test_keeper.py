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

"""What requests keep is given back, and what was lost is found."""

from keystoneauth1 import exceptions as ks_exc

from nova_gpu_lease.conductor import credentials
from nova_gpu_lease.conductor import keeper
from nova_gpu_lease.db import api
from nova_gpu_lease import exception
from nova_gpu_lease import secrets
from tests import fixtures
from tests.unit.db import base


class _Keystone:
    """Keystone with some trusts; the real one is in the tests of clouds."""

    def __init__(self):
        #: {trust id: mark}
        self.trusts = {}
        self.away = False
        self.lists = 0

    def configured(self):
        return True

    def create_trust(self, context, mark):
        if self.away:
            raise ks_exc.ConnectFailure('away')
        trust_id = 'trust%d' % len(self.trusts)
        self.trusts[trust_id] = mark
        return trust_id

    def marked_trusts(self):
        self.lists += 1
        if self.away:
            raise ks_exc.ConnectFailure('away')
        return dict(self.trusts)

    def delete_trust(self, trust_id):
        if self.away:
            raise ks_exc.ConnectFailure('away')
        if self.trusts.pop(trust_id, None) is None:
            raise ks_exc.NotFound()

    def is_accepted(self, token):
        return token == 'good'


class _Context:
    user_id = 'user'
    project_id = 'project'

    def __init__(self, auth_token):
        self.auth_token = auth_token


class KeeperTestCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.flags(encryption_keys=[secrets.generate_key()])
        self.clock = self.useFixture(fixtures.ClockFixture(base.NOW))
        self.creds = credentials.Credentials()
        self.creds.keystone = self.keystone = _Keystone()
        self.keeper = keeper.Keeper(self.creds)
        # The first look is always there.
        self.keeper.run()

    def ask(self, server='s', token='good'):
        """Queue a request as the endpoint does, up to the trust."""
        return self.queue(server, **self.creds.keep(_Context(token)))

    def decide(self, request, token='good'):
        api.request_set(request, **self.creds.delegate(
            _Context(token), request))
        return api.request_get(request.uuid)

    def later(self, seconds=121):
        self.clock.advance(seconds)
        self.keeper.run()

    def shown(self, request):
        row = api.request_get(request.uuid)
        return row.credentials, row.trust_id, row.token is not None


class DecisionTest(KeeperTestCase):

    def test_trust(self):
        request = self.decide(self.ask())
        self.assertEqual(('trust', 'trust0', False), self.shown(request))
        self.assertEqual({'trust0': request.uuid}, self.keystone.trusts)

    def test_token(self):
        self.keystone.away = True
        request = self.decide(self.ask())
        self.assertEqual(('token', None, True), self.shown(request))
        self.assertNotIn('good', request.token)

    def test_none_without_a_key(self):
        self.flags(encryption_keys=[])
        self.keystone.away = True
        request = self.decide(self.ask())
        self.assertEqual(('none', None, False), self.shown(request))
        request.context = {}
        error = self.assertRaises(
            exception.UserGone, self.creds.context_for, request)
        self.assertIn('encryption_keys', str(error))

    def test_token_is_not_taken_any_more(self):
        self.keystone.away = True
        for token in ('good', 'bad'):
            request = self.decide(self.ask(token, token))
            request.context = {}
            if token == 'good':
                self.assertEqual(
                    token, self.creds.context_for(request).auth_token)
                continue
            error = self.assertRaises(
                exception.UserGone, self.creds.context_for, request)
            self.assertNotIn(token, str(error))

    def test_undecided_is_no_fault(self):
        self.flags(encryption_keys=[])
        request = self.ask()
        request.context = {}
        error = self.assertRaises(exception.CredentialsUndecided,
                                  self.creds.context_for, request)
        self.assertNotIsInstance(error, exception.UserGone)


class DeadConductorTest(KeeperTestCase):
    """It wrote the request, and died before it wrote what came of it."""

    def test_request_gets_its_trust_back(self):
        request = self.ask()
        self.keystone.create_trust(None, request.uuid)
        self.keystone.create_trust(None, request.uuid)
        self.later(60)
        self.assertEqual((None, None, True), self.shown(request))
        self.later()
        self.assertEqual(('trust', 'trust0', False), self.shown(request))
        # One is enough.
        self.assertEqual({'trust0': request.uuid}, self.keystone.trusts)

    def test_request_without_a_trust_has_its_token(self):
        request = self.ask()
        self.later()
        self.assertEqual(('token', None, True), self.shown(request))

    def test_request_without_anything(self):
        self.flags(encryption_keys=[])
        request = self.ask()
        self.later()
        self.assertEqual(('none', None, False), self.shown(request))

    def test_keystone_away(self):
        request = self.ask()
        self.keystone.away = True
        self.later()
        self.assertEqual((None, None, True), self.shown(request))
        self.keystone.away = False
        self.later(1)
        self.assertEqual('token', self.shown(request)[0])


class SweepTest(KeeperTestCase):

    def sweep(self):
        self.clock.advance(121)
        self.keeper.sweep()

    def test_trust_that_nobody_names(self):
        request = self.decide(self.ask())
        self.keystone.create_trust(None, request.uuid)
        self.sweep()
        self.assertEqual({'trust0': request.uuid}, self.keystone.trusts)

    def test_trust_of_a_request_that_is_over(self):
        request = self.ask()
        api.request_transition(request, 'CANCELLED', base.HOST,
                               lease_state='CANCELLED')
        self.keystone.create_trust(None, request.uuid)
        self.sweep()
        self.assertEqual({}, self.keystone.trusts)

    def test_trust_of_another_region(self):
        self.keystone.create_trust(None, 'request in another database')
        self.sweep()
        self.assertEqual(1, len(self.keystone.trusts))

    def test_trust_that_is_just_being_made(self):
        """Its maker is about to write it down."""
        request = self.ask()
        self.keystone.create_trust(None, request.uuid)
        self.keeper.sweep()
        self.assertEqual((None, None, True), self.shown(request))
        self.assertEqual(1, len(self.keystone.trusts))

    def test_sweep_is_rare(self):
        self.decide(self.ask())
        lists = self.keystone.lists
        self.later()
        self.later()
        self.assertEqual(lists, self.keystone.lists)


class GivenBackTest(KeeperTestCase):

    def test_trust_is_kept_until_the_last_lease_is_over(self):
        leases = self.place('s1', 's2', **self.creds.keep(_Context('good')))
        request = self.decide(api.request_get(leases[0].request.uuid))
        for lease in leases:
            self.keeper.run()
            self.assertEqual(1, len(self.keystone.trusts))
            api.lease_transition(lease, 'CANCELLED', base.HOST)
        self.keystone.away = True
        self.keeper.run()
        self.assertEqual('trust0', self.shown(request)[1])
        self.keystone.away = False
        self.keeper.run()
        self.assertEqual({}, self.keystone.trusts)
        self.assertEqual(('trust', None, False), self.shown(request))

    def test_token_is_kept_until_the_lease_is_over(self):
        self.keystone.away = True
        lease, = self.activate('s', **self.creds.keep(_Context('good')))
        request = self.decide(api.request_get(lease.request.uuid))
        self.keeper.run()
        self.assertEqual(('token', None, True), self.shown(request))
        self.end(api.lease_get(lease.uuid), base.NOW)
        self.keeper.run()
        self.assertEqual(('token', None, False), self.shown(request))

    def test_secrets_are_kept_until_nothing_is_built(self):
        leases = self.place('s1', 's2', secrets='hidden')
        uuid = leases[0].request.uuid

        def kept():
            self.keeper.run()
            row = api.request_get(uuid)
            return row.secrets, row.payload

        self.assertEqual(('hidden', {'image': 'x'}), kept())
        api.lease_transition(leases[0], 'ACTIVE', base.HOST,
                             started_at=base.NOW, expires_at=base.NOW)
        self.assertEqual(('hidden', {'image': 'x'}), kept())
        api.lease_transition(leases[1], 'CANCELLED', base.HOST)
        self.assertEqual((None, None), kept())

    def test_secrets_of_waiting_requests_are_kept(self):
        request = self.queue('s', secrets='hidden')
        self.keeper.run()
        self.assertEqual('hidden', api.request_get(request.uuid).secrets)
        api.request_transition(request, 'CANCELLED', base.HOST,
                               lease_state='CANCELLED')
        self.keeper.run()
        self.assertIsNone(api.request_get(request.uuid).secrets)
