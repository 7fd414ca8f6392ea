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

"""Requests and leases that outlive the tokens of their users.

Tokens live for a minute here. All stories share one wait of three minutes.
"""

import base64
import json
import re
import time
import uuid

from keystoneauth1 import exceptions as ks_exc
from keystoneauth1.identity import v3
from testtools import content

from nova_gpu_lease.conductor import keystone
from nova_gpu_lease import conf
from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import nova
from nova_gpu_lease.devcloud import rest
from tests.cloud import base
from tests import fixtures

#: Seconds for what five servers do on a busy machine.
SLOW = 300
#: The files of a server can be given up to this version.
FILES = {'OpenStack-API-Version': 'compute 2.56'}
#: What every token and everything that we encrypt looks like.
FERNET = re.compile(r'gAAAAA[\w-]{60,}')


class User(rest.Client):
    """A member of a project, by password or by an application credential."""

    def __init__(self, state, name, **credentials):
        super().__init__(state)
        self.name = name
        self.credentials = {'auth_url': state.url('keystone', '/v3'),
                            **credentials}
        plugin = (v3.ApplicationCredential
                  if 'application_credential_id' in credentials
                  else v3.Password)
        self.session.auth = plugin(**self.credentials)


class CredentialsTest(base.CloudTestCase):

    UP = {'hosts': 1, 'gpus_per_host': 5}
    SET = ('keystone:token.expiration=60', 'DEFAULT.debug=true')

    def setUp(self):
        super().setUp()
        self.state = self.cloud.state
        self.roles = {role['name']: role['id'] for role in self.admin.get(
            'keystone', '/v3/roles')['roles']}
        self.passwords, self.files = [], []

    # Users

    def user(self, name):
        """A new user with a project of the same name."""
        def make(kind, **values):
            return self.admin.post('keystone', '/v3/%ss' % kind, {kind: dict(
                values, name=name, domain_id='default')})[kind]['id']
        project = make('project')
        user = User(self.state, name, username=name, password='of ' + name,
                    user_domain_name='Default', project_name=name,
                    project_domain_name='Default')
        user.project_id = project
        user.user_id = make('user', password='of ' + name)
        self.admin.put('keystone', self._role(user))
        return user

    def _role(self, user):
        return '/v3/projects/%s/users/%s/roles/%s' % (
            user.project_id, user.user_id, self.roles['member'])

    def with_application_credential(self, user):
        made = user.post(
            'keystone', '/v3/users/%s/application_credentials' % user.user_id,
            {'application_credential': {'name': 'ci'}})
        made = made['application_credential']
        other = User(self.state, user.name,
                     application_credential_id=made['id'],
                     application_credential_secret=made['secret'])
        other.project_id = user.project_id
        other.forget = lambda: user.request(
            'keystone', 'DELETE', '/v3/users/%s/application_credentials/%s' % (
                user.user_id, made['id']))
        return other

    def leave(self, user):
        """Take the role from a user."""
        self.admin.request('keystone', 'DELETE', self._role(user))

    def delete_project(self, user):
        self.admin.request('keystone', 'DELETE',
                           '/v3/projects/' + user.project_id)

    def enable(self, user, enabled):
        self.admin.request(
            'keystone', 'PATCH', '/v3/users/%s' % user.user_id,
            json={'user': {'enabled': enabled}})

    # Servers

    def ask(self, user, name):
        """Have a user ask for a server with a password and a file."""
        password = 'password-%s' % uuid.uuid4()
        content = base64.b64encode(uuid.uuid4().bytes * 3).decode()
        self.passwords.append(password)
        self.files.append(content)
        return user.post('nova', '/v2.1/servers', {
            'server': {
                'name': name, 'flavorRef': 'gpu', 'imageRef': self.image,
                'networks': 'none', 'adminPass': password,
                'personality': [{'path': '/key', 'contents': content}]},
            'os:scheduler_hints': {'gpu_lease': '30s'},
        }, headers=FILES)['server']['id']

    def unshelve(self, user, server):
        user.post('nova', '/v2.1/servers/%s/action' % server,
                  {'unshelve': None})

    def shelved_images(self):
        """{name of a shelved server: id of its image}.

        A try to shelve that a restart broke off may leave another image.
        """
        return dict(mariadb.query(
            self.cloud.state, 'nova',
            'select i.display_name, m.value from instances i '
            'join instance_system_metadata m on m.instance_uuid = i.uuid '
            'where m.`key` = \'shelved_image_id\' and m.deleted = 0 '
            'and i.deleted = 0'))

    def images(self):
        """{image id: (visibility, owner)} of all images."""
        return {image['id']: (image['visibility'], image['owner'])
                for image in self.admin.get('glance', '/v2/images')['images']}

    # Trusts

    def trusts(self):
        """{trust id: the request it is for} of Nova's service user."""
        return {trust['id']: trust.get('nova_gpu_lease_request')
                for trust in self.admin.get(
                    'keystone', '/v3/OS-TRUST/trusts')['trusts']}

    def trust(self, user, **extra):
        """Have a user trust Nova's service user."""
        nova, = self.admin.get('keystone', '/v3/users?name=nova')['users']
        return user.post('keystone', '/v3/OS-TRUST/trusts', {'trust': dict({
            'trustor_user_id': user.user_id, 'trustee_user_id': nova['id'],
            'project_id': user.project_id, 'impersonation': True,
            'roles': [{'name': 'member'}]}, **extra)})['trust']['id']

    # What must not be found

    def dump(self):
        """All that is in all databases, as one text."""
        text = []
        for database in mariadb.DATABASES:
            for table, in mariadb.query(
                    self.state, database,
                    'select table_name from information_schema.tables '
                    'where table_schema = %s', database):
                text.append('%s.%s' % (database, table))
                text.extend(map(repr, mariadb.query(
                    self.state, database, 'select * from `%s`' % table)))
        return '\n'.join(text)

    def logs(self):
        return {path.name: path.read_text(errors='replace')
                for path in self.state.path('logs').iterdir()}

    def assert_hidden(self, where, text, tokens):
        secrets = [*self.passwords, *tokens]
        if where != 'nova.log':
            # The log of nova-api: with debug Nova logs the body of a request
            # there, and masks nothing but passwords in it.
            secrets += self.files
        for secret in secrets:
            found = text.find(secret)
            self.assertEqual(-1, found, '%s: %s' % (
                where, text[max(0, found - 300):found + 100]))

    def test_trust_of_a_disabled_user(self):
        """It gives no token from that moment on, and can be deleted."""
        self.useFixture(fixtures.ConfFixture())
        conf.CONF(['--config-file', str(nova.config_file(self.state))],
                  project='nova')
        user = self.user('away')
        trust = self.trust(user)
        ours = keystone.Keystone()
        token = ours.trust_token(trust)
        self.assertTrue(ours.is_accepted(token))
        self.enable(user, False)
        self.assertRaises(ks_exc.Forbidden, ours.trust_token, trust)
        self.assertFalse(ours.is_accepted(token))
        ours.delete_trust(trust)
        self.assertNotIn(trust, self.trusts())

    def test_leases_outlive_tokens_and_users(self):
        plain, left, norole, noproject, *early = (
            self.user(name) for name in (
                'plain', 'left', 'norole', 'noproject', 'early',
                'early-role', 'early-project'))
        robot, early_robot = (
            self.with_application_credential(self.user(name))
            for name in ('robot', 'early-robot'))
        tokens = [user.session.get_token() for user in (plain, robot)]
        began = time.monotonic()
        self.image = self.admin.get(
            'glance', '/v2/images?name=tiny')['images'][0]['id']
        self.create('full', extra=['--min', '5', '--max', '5'])
        self.wait_until(lambda: len(self.devices()) == 5, 'all GPUs taken')
        servers = {user: self.ask(user, user.name) for user in (
            plain, robot, left, norole, noproject)}
        for user in (*early, early_robot):
            self.ask(user, user.name)
        self._shown_and_hidden(servers[robot], tokens)
        self.enable(early[0], False)
        self.leave(early[1])
        self.delete_project(early[2])
        early_robot.forget()
        orphan, foreign = self._lost_trusts(plain)

        time.sleep(max(0, 180 - (time.monotonic() - began)))
        self.assertRaises(ks_exc.NotFound, self.admin.get, 'keystone',
                          '/v3/auth/tokens', headers={
                              'X-Subject-Token': tokens[0]})
        for server in self.admin.get(
                'nova', '/v2.1/servers?all_tenants=1')['servers']:
            if server['name'].startswith('full'):
                self.admin.request('nova', 'DELETE',
                                   '/v2.1/servers/%s' % server['id'])
        # Each leaves in another way; the leases end all the same.
        self._when_active({
            plain: None, robot: None,
            left: lambda: self.enable(left, False),
            norole: lambda: self.leave(norole),
            noproject: lambda: self.delete_project(noproject)})
        self._failed_for_their_users()
        self.cloud.restart('nova-conductor')
        names = [user.name for user in servers]
        self.wait_leases(SLOW, **dict.fromkeys(names, 'EXPIRED'))
        # Nova's tracker saves the devices after the server.
        self.wait_until(lambda: not self.devices(), 'all GPUs free')
        self.addDetail('images', content.text_content('\n'.join(
            line for text in self.logs().values() for line in text.split('\n')
            if 'stays with the service project' in line)))
        shelved, images = self.shelved_images(), self.images()
        self.assertEqual(
            {user.name: ('private', user.project_id) for user in servers},
            {name: images[image] for name, image in shelved.items()})
        for user in servers:
            lease = self.leases()[user.name]
            self.assertEqual('shelved', lease['end_action'])
            self.assertEqual(
                user not in (plain, robot),
                'Nova might not act for the owner' in lease['reason'], lease)

        self.wait_until(lambda: set(self.trusts()) == {foreign},
                        'no trust but another product\'s', SLOW)
        self.assertNotEqual(orphan, foreign)
        self._nothing_left(tokens)

        # Their owners take the servers back, as soon as they may.
        self.enable(left, True)
        self.admin.put('keystone', self._role(norole))
        back = (plain, robot, left, norole)
        for user in back:
            self.unshelve(user, servers[user])
        self._when_active(dict.fromkeys(back))
        # By now they may be shelved again, with new ones.
        old = {shelved[user.name] for user in back}
        self.wait_until(lambda: old.isdisjoint(self.images()),
                        'images of unshelved servers deleted')
        self.assertIn(shelved['noproject'], self.images())

    def _when_active(self, actions):
        """Do something for each user while the new lease runs."""
        actions = dict(actions)

        def all_done():
            leases = self.leases()
            for user in list(actions):
                state = leases[user.name]['status']
                if state in ('ACTIVE', 'EXPIRING'):
                    self.assertEqual('ACTIVE', state, user.name)
                    action = actions.pop(user)
                    if action:
                        action()
            return not actions
        self.wait_until(all_done, 'leases of all users', SLOW)

    def _shown_and_hidden(self, robots, tokens):
        """While they wait: how we act is shown, with what is not."""
        def decided():
            return {name: lease['credentials']
                    for name, lease in self.leases().items()
                    if not name.startswith('full')}
        self.wait_until(lambda: None not in decided().values(), 'decided')
        self.assertEqual(
            dict.fromkeys(('plain', 'left', 'norole', 'noproject', 'early',
                           'early-role', 'early-project'), 'trust') |
            dict.fromkeys(('robot', 'early-robot'), 'token'), decided())
        shown = self.lease(robots)
        self.assertEqual('token', shown['credentials'])
        self.assertEqual('QUEUED', shown['status'])
        self.assert_hidden('database', self.dump(), tokens)
        kept = mariadb.query(
            self.state, 'gpu_lease',
            'select secrets is not null, token is not null, '
            'trust_id is not null from requests where state = "QUEUED" '
            'order by id')
        self.assertEqual(
            [(1, 0, 1), (1, 1, 0), *[(1, 0, 1)] * 6, (1, 1, 0)], kept)

    def _lost_trusts(self, plain):
        """Trusts that nobody knows: one is ours, and one another's."""
        request, = mariadb.query(
            self.state, 'gpu_lease', 'select r.uuid from requests r join '
            "leases l on l.request_id = r.id where l.server_name = 'plain'")
        return (self.trust(plain, nova_gpu_lease_request=request[0]),
                self.trust(plain))

    def _failed_for_their_users(self):
        """Who left while the request waited is told so."""
        faults = dict.fromkeys(
            ('early', 'early-role', 'early-project'),
            'The user who asked for it may no longer act in its project')
        faults['early-robot'] = (
            'Nova may no longer act for the user who asked for it')
        self.wait_leases(SLOW, **dict.fromkeys(faults, 'CANCELLED'))
        servers = {server['name']: server for server in self.admin.get(
            'nova', '/v2.1/servers/detail?all_tenants=1')['servers']}
        for name, fault in faults.items():
            self.assertEqual('ERROR', servers[name]['status'], name)
            self.assertIn(fault, servers[name]['fault']['message'], name)

    def _nothing_left(self, tokens):
        """When it is over: nothing in our database, nothing in Nova's logs."""
        self.wait_until(lambda: mariadb.query(
            self.state, 'gpu_lease',
            'select count(*) from requests where secrets is not null or '
            'token is not null or payload is not null') == [(0,)],
            'secrets wiped')
        dump = self.dump()
        self.assert_hidden('database', dump, tokens)
        ours = json.dumps([mariadb.query(
            self.state, 'gpu_lease', 'select * from ' + table)
            for table in ('requests', 'leases', 'history')], default=str)
        self.assertEqual([], FERNET.findall(ours))
        for name, text in self.logs().items():
            if not name.startswith('nova'):
                continue
            if name.startswith(('nova-conductor', 'nova-compute')):
                self.assertIn(' DEBUG ', text)
            self.assert_hidden(name, text, tokens)
            found = FERNET.search(text)
            self.assertIsNone(found, found and text[
                max(0, found.start() - 300):found.end() + 50])
