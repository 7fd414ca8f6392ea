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


"""nova-gpu-lease-manage, run as an operator runs it."""

import os
import subprocess
import sys

import fixtures

from nova_gpu_lease.db import api
from nova_gpu_lease.db import migration
from nova_gpu_lease import secrets
from tests import base
from tests import fixtures as our_fixtures
from tests.unit.db import base as db_base

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(base.__file__)))


def manage(*args):
    """Run the command.

    :returns: exit status, standard output, standard error.
    """
    done = subprocess.run(
        [sys.executable, '-m', 'nova_gpu_lease.cmd.manage', *args],
        capture_output=True, text=True, timeout=60, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


class ManageTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = self.useFixture(fixtures.TempDir()).path
        self.url = 'sqlite:///' + self.path('test.db')
        self.config = '--config-file=' + self.write(
            '[gpu_lease_database]\nconnection = %s\n' % self.url)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, text):
        with open(self.path('nova.conf'), 'w') as config:
            config.write(text)
        return self.path('nova.conf')

    def use_database(self):
        """Make the database, and let this process use it too."""
        class Database(fixtures.Fixture):
            def _setUp(fixture):
                our_fixtures.use_database(fixture, self.url)

        self.useFixture(Database())
        migration.sync()

    def ask(self, server='s', **values):
        """Queue a request for a server."""
        return api.request_create(
            {'kind': 'create', 'project_id': 'p', 'user_id': 'u',
             'priority': 'normal', 'devices': {'gpu': 1}, 'context': {},
             **values},
            [{'server_id': server, 'server_name': 's', 'flavor': 'gpu',
              'duration': 60, 'on_expiry': 'shelve'}], 'h')

    def test_sync(self):
        self.assertEqual((0, 'none\n'), manage(
            self.config, 'db', 'version')[:2])
        status, out, _ = manage(self.config, 'db', 'sync')
        self.assertEqual(0, status)
        self.assertIn(migration.latest(), out)
        self.assertEqual((0, migration.latest() + '\n', ''), manage(
            '--config-dir', self.folder, 'db', 'version'))

    def test_sync_unknown_revision(self):
        status, out, err = manage(self.config, 'db', 'sync', 'nothing')
        self.assertEqual((1, ''), (status, out))
        self.assertIn("'nothing'", err)
        self.assertNotIn('Traceback', err)

    def test_not_configured(self):
        self.write('')
        status, out, err = manage(self.config, 'db', 'sync')
        self.assertEqual((1, ''), (status, out))
        self.assertIn('[gpu_lease_database] connection', err)
        self.assertNotIn('Traceback', err)

    def test_no_config_file(self):
        status, _, err = manage('--config-file=/nowhere', 'db', 'sync')
        self.assertEqual(1, status)
        self.assertIn('/nowhere', err)
        self.assertNotIn('Traceback', err)

    def test_purge(self):
        self.use_database()
        clock = self.useFixture(our_fixtures.ClockFixture(db_base.NOW))
        for _ in range(2):
            api.request_transition(self.ask(), 'CANCELLED', 'h',
                                   lease_state='CANCELLED')
            clock.advance(86400)
        for date, count in (('2026-11-22', 1),
                            ('2026-11-22T20:00+01:00', 0),
                            ('2026-11-22T19:09Z', 1)):
            self.assertEqual(
                (0, 'history: %d deleted\nleases: %d deleted\n'
                 'requests: %d deleted\n' % (4 * count, count, count), ''),
                manage(self.config, 'db', 'purge', '--before', date))

    def test_usage(self):
        for args, part in (
                (('db',), 'sync'), (('db', 'purge'), '--before'),
                (('db', 'purge', '--before', 'soon'), '2026-11-21')):
            status, out, err = manage(self.config, *args)
            self.assertEqual((2, ''), (status, out))
            self.assertIn(part, err)

    def with_keys(self, *keys):
        self.write('[gpu_lease_database]\nconnection = %s\n[gpu_lease]\n' %
                   self.url + ''.join('encryption_keys = %s\n' % key
                                      for key in keys))

    def test_rotate_keys(self):
        self.use_database()
        old, new = secrets.generate_key(), secrets.generate_key()
        self.flags(encryption_keys=[old])
        hidden = {'admin_password': 'pässword'}
        kept = [{'secrets': secrets.encrypt(hidden)},
                {'token': secrets.encrypt({'token': 't'})}, {}]
        requests = [self.ask('s%d' % number, **values)
                    for number, values in enumerate(kept)]
        before = requests[0].updated_at
        told = ('%d encrypted anew, %d had the first key already, 0 changed '
                'by a service meanwhile.\n')
        self.with_keys(new)
        status, out, err = manage(self.config, 'keys', 'rotate')
        self.assertEqual((1, told % (0, 0)), (status, out))
        self.assertIn('2 cannot be decrypted', err)
        self.with_keys(new, old)
        for counts in ((2, 0), (0, 2)):
            self.assertEqual((0, told % counts, ''), manage(
                self.config, 'keys', 'rotate'))
        self.flags(encryption_keys=[new])
        rows = [api.request_get(request.uuid) for request in requests]
        self.assertEqual(hidden, secrets.decrypt(rows[0].secrets))
        self.assertEqual({'token': 't'}, secrets.decrypt(rows[1].token))
        self.assertEqual((None, None), (rows[2].secrets, rows[2].token))
        self.assertEqual(before, rows[0].updated_at)

    def test_overdue_leases(self):
        self.use_database()
        self.assertEqual((0, '0 leases are overdue.\n', ''), manage(
            self.config, 'lease', 'overdue'))
        request = api.request_transition(
            self.ask(), 'DISPATCHING', 'h', lease_state='BUILDING')
        lease, = api.leases_of(request.id)
        lease = api.lease_transition(
            lease, 'ACTIVE', 'h', started_at=db_base.NOW, host='gpu1',
            expires_at=db_base.NOW)
        lease = api.lease_transition(lease, 'EXPIRING', 'h')
        api.lease_set(lease, attempts=2, last_error='It is locked.')
        status, out, err = manage(self.config, 'lease', 'overdue')
        self.assertEqual((0, ''), (status, err))
        first, last = out.splitlines()
        self.assertRegex(first, '^%s server=s host=gpu1 status=EXPIRING '
                         r'overdue=\S+ attempts=2 error=It is locked\.$' %
                         lease.uuid)
        self.assertEqual('1 leases are overdue.', last)

    def test_generate_key(self):
        status, out, _ = manage(self.config, 'keys', 'generate')
        self.assertEqual(0, status)
        self.flags(encryption_keys=[out.strip()])
        self.assertEqual({'a': 1}, secrets.decrypt(secrets.encrypt({'a': 1})))
