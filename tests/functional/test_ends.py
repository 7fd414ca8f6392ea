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

"""The end of a lease comes once, and whatever is in its way is seen."""

import datetime

import fixtures
from nova.compute import api as compute_api
from nova import context as nova_context
from oslo_db import exception as db_exception

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import expirer
from nova_gpu_lease.conductor import leases
from nova_gpu_lease.conductor import records
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from tests.functional import base


class EndsTest(base.CloudTestCase):

    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    def leased(self, name='one', duration='4s', **hints):
        """A server with a short lease that has begun."""
        server = self.create(name, dict({'gpu_lease': duration}, **hints))
        self.wait_for_begin(server)
        return server

    def row(self, server):
        return db.lease_get(server)

    def images(self):
        return [image for image in self.glance.detail(None)
                if image['name'].endswith('-shelved')]

    def shelves(self, server):
        """How often a server was shelved."""
        actions = self.admin_api.get_instance_actions(server)
        return [action['action'] for action in actions].count('shelve')

    def owner_leaves(self, why=exception.UserGone(reason='disabled')):
        def context_for(request):
            raise why

        self.useFixture(fixtures.MockPatchObject(
            self.conductor.manager.gpu_lease_creds, 'context_for',
            context_for))

    def test_owner_who_left_is_shelved_by_nova(self):
        server = self.leased()
        self.owner_leaves()
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual('shelved', lease['end_action'])
        self.assertIn('Nova might not act for the owner', lease['reason'])
        self.assertEqual('SHELVED_OFFLOADED', self.status(server))
        image, = self.images()
        # Made as one that is shared with the owner, and then the owner's.
        self.assertEqual(self.api.project_id, image['owner'])
        self.assertEqual('private', image['visibility'])
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_lease(server, 'QUEUED')

    def test_token_that_nobody_can_read_any_more(self):
        """Its key was taken out: that is no reason to lose the work."""
        server = self.leased()
        self.owner_leaves(exception.UnreadableSecrets())
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual(('shelved', 0),
                         (lease['end_action'], lease['attempts']))

    def test_database_that_was_away_costs_no_work(self):
        self.flags(expiry_attempts=2, on_expiry_fallback='delete',
                   group='gpu_lease')
        server = self.leased()
        find, failures = records.find_instance, []

        def away(context, server_id, *args):
            lease = db.lease_get(server_id)
            if lease.state == 'EXPIRING' and lease.attempts < 3:
                failures.append(server_id)
                raise db_exception.DBConnectionError('away')
            return find(context, server_id, *args)

        self.useFixture(fixtures.MockPatchObject(
            expirer.records, 'find_instance', away))
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual('shelved', lease['end_action'])
        row = self.row(server)
        self.assertEqual((3, 3), (row.attempts, row.outages))
        self.assertTrue(failures)

    def test_image_becomes_the_owners_after_a_failure_too(self):
        """The conductor fails when it has just had the server offloaded."""
        offload = compute_api.API.shelve_offload
        failures = []

        def fails_once(api, context, instance):
            offload(api, context, instance)
            if not failures:
                failures.append(True)
                # The compute works on it: there is nothing to take back.
                instance.task_state = None
                raise RuntimeError('cut off')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.api.API.shelve_offload', fails_once))
        server = self.leased()
        self.owner_leaves()
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertIn('cut off', lease['last_error'])
        image, = self.images()
        self.assertEqual(self.api.project_id, image['owner'])

    def test_lock_is_kept_when_the_owner_left(self):
        self.flags(expiry_attempts=1, group='gpu_lease')
        server = self.leased()
        self.admin_api.post_server_action(server, {'lock': None})
        self.owner_leaves()
        lease = self.wait_for_lease(server, 'ERROR')
        self.assertIn('locked', lease['reason'])
        self.assertEqual('ACTIVE', self.status(server))

    def test_failed_tries_are_shown_and_stay(self):
        self.virt.driver.fail_snapshot.add('one')
        server = self.leased()
        self.wait_for('two failed tries',
                      lambda: self.lease(server)['attempts'] >= 2)
        failed = self.lease(server)
        self.assertEqual('EXPIRING', failed['status'])
        self.assertIn('could not be shelved (try', failed['last_error'])
        self.virt.driver.fail_snapshot.clear()
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertGreaterEqual(lease['attempts'], 2)
        self.assertEqual(failed['last_error'][:29], lease['last_error'][:29])
        self.assertEqual('the lease ended', lease['reason'])

    def test_end_is_once_when_its_conductor_stops_in_it(self):
        server = self.leased(duration='6s')
        self.wait_for_lease(server, 'EXPIRING')
        self.conductor.stop()
        self.conductor = self.start_service('conductor')
        self.addCleanup(self.conductor.stop)
        self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual(1, len(self.images()))
        self.assertEqual(1, self.shelves(server))
        self.assertEqual(0, self.row(server).attempts)

    def end_while_away(self, server):
        """Stop the conductor until the lease is over for long."""
        self.conductor.stop()
        ends = self.row(server).expires_at
        self.wait_for('the end of the lease', lambda: clock.now() > ends +
                      datetime.timedelta(seconds=2))
        self.assertEqual('ACTIVE', self.row(server).state)
        self.conductor = self.start_service('conductor')
        self.addCleanup(self.conductor.stop)

    def outage_is(self, seconds):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.leases.OUTAGE',
            datetime.timedelta(seconds=seconds)))

    def test_grace_after_an_outage(self):
        for end, status in (('shelve', 'SHELVED_OFFLOADED'),
                            ('delete', None)):
            self.outage_is(1)
            self.flags(outage_grace='4s', group='gpu_lease')
            server = self.leased(duration='8s', gpu_lease_on_expiry=end)
            promised = self.row(server).expires_at
            self.end_while_away(server)
            lease = self.wait_for(
                'a later end', lambda: self.row(server).expires_at > promised
                and self.lease(server))
            self.assertEqual('ACTIVE', lease['status'])
            self.assertIn('was away when the lease ended', lease['reason'])
            later = self.row(server).expires_at
            self.wait_for_lease(server, 'EXPIRED')
            self.wait_for_status(server, status)
            # Once, and not before its time.
            row = self.row(server)
            self.assertEqual(later, row.expires_at)
            self.assertGreaterEqual(row.ended_at, later)

    def test_grace_is_not_lost_with_the_answer(self):
        server = self.leased(duration='1h')
        self.flags(outage_grace='5m', group='gpu_lease')
        lease = self.row(server)
        db.lease_set(lease, expires_at=clock.now() -
                     datetime.timedelta(minutes=2))
        endpoint = leases.LeaseEndpoint('conductor')
        answers = [endpoint.lease_due(
            nova_context.get_admin_context(), lease.uuid, lease.generation)
            for _ in range(2)]
        self.assertEqual(answers[0], answers[1])
        self.assertEqual('ACTIVE', answers[1]['state'])

    def test_no_grace_where_that_is_off_or_the_outage_short(self):
        for outage, grace in ((1, '0s'), (60, '1h')):
            self.outage_is(outage)
            self.flags(outage_grace=grace, group='gpu_lease')
            server = self.leased(duration='8s')
            promised = self.row(server).expires_at
            self.end_while_away(server)
            self.wait_for_lease(server, 'EXPIRED')
            self.assertEqual(promised, self.row(server).expires_at)

    def test_server_that_was_ended_by_hand(self):
        """Nobody waits for a next try that is far away."""
        self.flags(expiry_attempts=1, expiry_retry_interval='10m',
                   group='gpu_lease')
        self.flags(shelved_offload_time=0)
        self.virt.driver.fail_snapshot.update(('one', 'two'))
        servers = [self.leased('one'), self.leased('two')]
        for server in servers:
            self.wait_for_lease(server, 'ERROR')
        self.virt.driver.fail_snapshot.clear()
        self.api.delete_server(servers[0])
        self.api.post_server_action(servers[1], {'shelve': None})
        self.wait_for_status(servers[0], None)
        self.wait_for_status(servers[1], 'SHELVED_OFFLOADED')
        self.conductor.manager.gpu_lease_reaper.follow_servers()
        self.wait_for_lease(servers[0], 'RELEASED')
        self.wait_for_lease(servers[1], 'EXPIRED')

    def test_overdue_leases_are_counted_in_the_log(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.db.leases.OVERDUE', datetime.timedelta()))
        self.virt.driver.fail_snapshot.add('one')
        log = self.useFixture(fixtures.FakeLogger(
            'nova_gpu_lease.conductor.expirer'))
        self.leased()
        self.wait_for('the count', lambda: '1 leases are overdue' in
                      log.output)
        self.assertIn('nova-gpu-lease-manage lease overdue', log.output)
        self.virt.driver.fail_snapshot.clear()
        self.wait_for('the end', lambda: '0 leases are overdue' in
                      log.output)
        self.assertEqual(1, log.output.count('1 leases are overdue'))

    def test_nobody_to_act_for_fails_at_once(self):
        """And does not wait for its turn."""
        for name in ('full1', 'full2'):
            self.leased(name, '1h')
        server = self.create('waits')
        self.wait_for_lease(server, 'QUEUED')
        request = db.request_get(self.row(server).request.uuid)
        db.request_set(request, credentials='none')
        db.wake()
        self.wait_for_status(server, 'ERROR')
        self.assertIn('application credentials', self.api.get_server(
            server)['fault']['message'])
