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

"""The conductor when Nova and the services around it do not do as hoped."""

import copy
import datetime
import threading
import time

import fixtures
from keystoneauth1 import exceptions as ks_exc
from nova.compute import rpcapi
from nova.compute import task_states
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_db import exception as db_exception
from oslo_utils import importutils

from nova_gpu_lease.conductor import builder
from nova_gpu_lease.conductor import expirer
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease.scheduler import survey
from nova_gpu_lease import states
from tests.functional import base


class ConductorTest(base.CloudTestCase):

    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    @property
    def manager(self):
        return self.conductor.manager

    def breaks(self, where, exc):
        """Have a function raise until what is returned is set."""
        module, name = where.rsplit('.', 1)
        owner = importutils.import_class(module)
        real = getattr(owner, name)
        mended = threading.Event()

        def call(*args, **kwargs):
            if mended.is_set():
                return real(*args, **kwargs)
            raise exc

        self.useFixture(fixtures.MockPatchObject(owner, name, call))
        return mended

    def fill(self):
        """Take all devices; the ids of the servers that have them."""
        servers = [self.create('full-%d' % number) for number in (1, 2)]
        for server in servers:
            self.wait_for_lease(server, 'ACTIVE')
        return servers

    def queued(self, name):
        server = self.create(name)
        self.wait_for_lease(server, 'QUEUED')
        return server

    def test_outage_of_glance_keeps_the_request(self):
        full = self.fill()
        server = self.queued('waits')
        glance = self.breaks(
            'nova.image.glance.API.get', nova_exception.GlanceConnectionFailed(
                server='http://glance', reason='away'))
        self.api.delete_server(full[0])
        self.wait_for('a failed try', lambda: 'Connection to glance' in (
            self.lease(server)['reason'] or ''))
        self.assertEqual('BUILD', self.status(server))
        glance.set()
        self.wait_for_status(server, 'ACTIVE')
        self.assert_no_leaks()

    def test_database_of_a_cell_away_keeps_a_gang_together(self):
        """Before anything was sent to a compute."""
        create, calls = objects.Instance.create, []

        def away_once(instance):
            calls.append(instance.uuid)
            if len(calls) == 2:
                raise db_exception.DBConnectionError('away')
            return create(instance)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.create', away_once))
        gang = self.create_gang('gang', 2)
        self.wait_for_status(gang, 'ACTIVE')
        for server in gang:
            self.wait_for_lease(server, 'ACTIVE')
            self.assertEqual(0, db.lease_current(server).build_attempts)
        self.assertEqual(4, len(calls))
        self.assert_no_leaks()

    def test_survey_may_take_as_long_as_a_cell_that_is_away(self):
        self.flags(rpc_response_timeout=2)
        real = survey.Endpoint.survey

        def slow(*args, **kwargs):
            time.sleep(4)
            return real(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.scheduler.survey.Endpoint.survey', slow))
        self.wait_for_lease(self.create('one'), 'ACTIVE')

    def test_user_who_is_gone_fails_and_blocks_nobody(self):
        full = self.fill()
        first, second = self.queued('first'), self.queued('second')
        real = self.manager.gpu_lease_creds.context_for
        gone = db.lease_current(first).request.uuid

        def context_for(request):
            if request.uuid == gone:
                raise exception.UserGone(reason='disabled')
            return real(request)

        self.useFixture(fixtures.MockPatchObject(
            self.manager.gpu_lease_creds, 'context_for', context_for))
        self.api.delete_server(full[0])
        self.wait_for_status(first, 'ERROR')
        self.assertIn('may no longer act', self.api.get_server(
            first)['fault']['message'])
        self.wait_for_status(second, 'ACTIVE')

    def test_dispatcher_dies_between_record_and_mapping(self):
        full = self.fill()
        server = self.queued('half')
        context = nova_context.get_admin_context()
        request = db.requests_in([states.REQUEST_QUEUED])[0]
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(
            self._cell_context(context), 'host1')
        db.request_transition(
            request, states.REQUEST_DISPATCHING, 'dead',
            lease_state=states.LEASE_BUILDING, lease_values={
                server: {'host': 'host1', 'node_uuid': node.uuid}})
        instance = objects.BuildRequest.get_by_instance_uuid(
            context, server).get_new_instance(self._cell_context(context))
        instance.create()

        self.manager.gpu_lease_reaper.recover()
        self.assertEqual('QUEUED', self.lease(server)['status'])
        self.api.delete_server(full[0])
        self.wait_for_status(server, 'ACTIVE')
        self.assert_no_leaks()

    def _stand_still(self, name):
        """Let another dispatcher take over while ours stands still.

        :param name: a method of the Builder, after which it does, once.
        """
        real = getattr(builder.Builder, name)
        stood = []

        def method(instance, *args, **kwargs):
            result = real(instance, *args, **kwargs)
            if not stood:
                stood.append(name)
                self.manager.gpu_lease_reaper.recover()
            return result

        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.builder.Builder.%s' % name, method))
        return stood

    def test_dispatcher_that_stood_still_starts_nothing(self):
        # One device is left: what was claimed in vain is needed again.
        self.wait_for_lease(self.create('other'), 'ACTIVE')
        for name in ('check', 'prepare'):
            stood = self._stand_still(name)
            server = self.create(name)
            self.wait_for_status(server, 'ACTIVE')
            self.wait_for_lease(server, 'ACTIVE')
            self.assertEqual([name], stood)
            self.assertIn('This process stood still',
                          self.stdlog.logger.output)
            # Nor was it a try that failed.
            self.assertEqual(0, db.lease_current(server).build_attempts)
            self.assert_no_leaks()
            self.api.delete_server(server)
            self.wait_for_status(server, None)
        self.assertEqual(['other', 'check', 'prepare'],
                         [name for name, _ in self.virt.driver.spawns])

    def test_beat_that_is_late_for_a_moment_forgets_nothing(self):
        """Nobody took over, and what woke the dispatcher comes once."""
        dispatcher, leader = (self.manager.gpu_lease_dispatcher,
                              self.manager.gpu_lease_leader)
        plan, holds = dispatcher._plan, leader.holds
        times = []

        def slow(*args):
            planned = plan(*args)
            times.append('planned')
            return planned

        def late():
            if times == ['planned'] and (
                    threading.current_thread().name == 'gpu-lease-dispatch'):
                times.append('late')
                return False
            return holds()

        self.useFixture(fixtures.MockPatchObject(dispatcher, '_plan', slow))
        self.useFixture(fixtures.MockPatchObject(leader, 'holds', late))
        self.wait_for_lease(self.create('first'), 'ACTIVE')
        self.assertEqual(['planned', 'late', 'planned'], times[:3])

    def test_dispatcher_that_stood_still_gives_no_claim_of_another_back(self):
        dispatcher = self.manager.gpu_lease_dispatcher
        reaper = self.manager.gpu_lease_reaper
        recover = reaper.recover
        # Here both are in one process, which holds the lock: its next round
        # would take what the other one does for left behind.
        self.useFixture(fixtures.MockPatchObject(
            reaper, 'recover', lambda: None))
        another = copy.copy(dispatcher)
        another.builder = copy.copy(dispatcher.builder)
        real = another.builder.prepare
        claimed, goes_on = threading.Event(), threading.Event()
        self.addCleanup(goes_on.set)

        def prepare(*args):
            build = real(*args)
            claimed.set()
            goes_on.wait(base.TIMEOUT)
            return build

        another.builder.prepare = prepare
        thread = threading.Thread(target=another.run, args=(lambda: True,))
        planned = []

        def check(context, kind, server_ids, cast):
            # Here ours stands still. Its host is not that of the other.
            lease = db.lease_current(server_ids[0])
            planned.append(lease.host)
            self.service(lease.host, status='disabled')
            recover()
            thread.start()
            self.assertTrue(claimed.wait(base.TIMEOUT))

        with fixtures.MockPatchObject(dispatcher.builder, 'check', check):
            server = self.create('one')
            self.wait_for('the end of the stand', lambda: 'stood still' in
                          self.stdlog.logger.output)
        host, = set(self.GPUS) - set(planned)
        self.assertEqual(
            [self._get_provider_uuid_by_host(host)],
            list(self._get_allocations_by_server_uuid(server)))
        goes_on.set()
        thread.join()
        self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual(host, self.host_of(server))
        self.assert_no_leaks()

    def test_settling_of_somebody_elses_try_is_left_alone(self):
        full = self.fill()
        server = self.queued('waits')
        request, = db.requests_in([states.REQUEST_QUEUED])
        reaper = self.manager.gpu_lease_reaper
        recover = reaper.recover
        with fixtures.MockPatchObject(reaper, 'recover', lambda: None):
            begun = db.request_transition(
                request, states.REQUEST_DISPATCHING, 'slow',
                lease_state=states.LEASE_BUILDING)
            for actor in ('nobody', 'fast'):
                # It waits again; and somebody else has begun it.
                recover()
                if actor == 'fast':
                    request, = db.requests_in([states.REQUEST_QUEUED])
                    db.request_transition(
                        request, states.REQUEST_DISPATCHING, actor,
                        lease_state=states.LEASE_BUILDING)
                before = self.lease(server)['status']
                self.assertRaises(
                    exception.StaleState, reaper.settle,
                    nova_context.get_admin_context(), begun, fault='it broke')
                self.assertEqual(before, self.lease(server)['status'])
                self.assertEqual('BUILD', self.status(server))
        self.assertEqual('BUILDING', before)
        reaper.recover()
        self.api.delete_server(full[0])
        self.wait_for_status(server, 'ACTIVE')

    def _cell_context(self, context):
        targeted = nova_context.get_admin_context()
        nova_context.set_target_cell(targeted, self.cell_mappings['cell1'])
        return targeted

    def test_server_whose_secrets_cannot_be_kept_fails(self):
        self.flags(encryption_keys=['no key'], group='gpu_lease')
        server = self.create('unlucky')
        self.wait_for_status(server, 'ERROR', 20)
        self.assertIn('could not be queued', self.api.get_server(
            server)['fault']['message'])

    def test_server_that_cannot_be_queued_fails(self):
        self.breaks('nova_gpu_lease.db.api.request_create',
                    db_exception.DBConnectionError('away'))
        server = self.create('unlucky')
        self.wait_for_status(server, 'ERROR')
        self.assertIn('could not be queued', self.api.get_server(
            server)['fault']['message'])

    def test_slow_build_is_left_alone(self):
        self.flags(build_timeout='1s', group='gpu_lease')
        with self.virt.hold('host1'), self.virt.hold('host2'):
            server = self.create('slow')
            self.wait_for_lease(server, 'BUILDING')
            self.wait_for('the claim', lambda: self.free_devices() == 1)
            time.sleep(1.1)
            self.manager.gpu_lease_reaper.close_builds()
            self.assertEqual('BUILD', self.status(server))
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')

    def test_build_that_no_compute_took_is_given_up(self):
        self.flags(max_build_attempts=1, group='gpu_lease')
        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.rpcapi.ComputeAPI.build_and_run_instance',
            lambda *args, **kwargs: None))
        server = self.create('lost')
        self.wait_for_lease(server, 'BUILDING')
        self.wait_for('placed', lambda: db.lease_current(
            server).request.state == states.REQUEST_PLACED)
        self.flags(build_timeout='1s', group='gpu_lease')
        time.sleep(1.1)
        self.manager.gpu_lease_reaper.close_builds()
        self.wait_for_status(server, 'ERROR')
        self.assertIn('no compute began', self.api.get_server(
            server)['fault']['message'])
        self.assertEqual({}, self._get_allocations_by_server_uuid(server))

    def shelved(self, name):
        """A server that its owner has shelved."""
        server = self.create(name)
        self.wait_for_lease(server, 'ACTIVE')
        self.api.post_server_action(server, {'shelve': {}})
        self.wait_for_status(server, 'SHELVED')
        self.admin_api.post_server_action(server, {'shelveOffload': {}})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'RELEASED')
        return server

    def test_outage_in_the_middle_of_an_unshelve_is_no_try(self):
        server = self.shelved('waits')
        neutron = self.breaks(
            'nova.network.neutron.API.get_requested_resource_for_instance',
            ks_exc.ConnectFailure('away'))
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for('a failed try', lambda: 'ConnectFailure' in (
            self.lease(server)['reason'] or ''))
        self.assertEqual('QUEUED', self.lease(server)['status'])
        neutron.set()
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual(0, db.lease_current(server).build_attempts)
        self.assert_no_leaks()

    def test_unshelve_that_nova_fails_can_be_repeated(self):
        server = self.shelved('again')
        neutron = self.breaks(
            'nova.network.neutron.API.get_requested_resource_for_instance',
            nova_exception.PortNotFound(port_id='gone'))
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_lease(server, 'CANCELLED')
        self.wait_for('no task', lambda: self.instance(
            server).task_state is None)
        self.assertEqual('SHELVED_OFFLOADED', self.status(server))
        neutron.set()
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')

    def test_glance_away_at_the_end_is_tried_again(self):
        glance = self.breaks(
            'nova.compute.utils.create_image',
            nova_exception.GlanceConnectionFailed(
                server='http://glance', reason='away'))
        server = self.create('ends', hints={'gpu_lease': '1s'})
        self.wait_for('a failed try', lambda: 'glance' in (
            (self.lease(server) or {}).get('reason') or ''))
        self.assertIsNone(self.instance(server).task_state)
        # An outage is no try after which the work could be given up.
        failed = db.lease_get(server)
        self.assertEqual(failed.outages, failed.attempts)
        glance.set()
        self.wait_for_lease(server, 'EXPIRED')
        self.wait_for_status(server, 'SHELVED_OFFLOADED')

    def test_end_by_deletion_needs_no_user(self):
        server = self.create('ends', hints={
            'gpu_lease': '8s', 'gpu_lease_on_expiry': 'delete'})
        self.wait_for_lease(server, 'ACTIVE')

        def context_for(request):
            raise exception.UserGone(reason='disabled')

        self.useFixture(fixtures.MockPatchObject(
            self.manager.gpu_lease_creds, 'context_for', context_for))
        self.wait_for_lease(server, 'EXPIRED')
        self.wait_for_status(server, None)

    def _busy_for_ever(self, name, task_state):
        """A server whose lease ends while a dead service has left it busy."""
        self.flags(expiry_timeout='1s', expiry_retry_interval='1s',
                   group='gpu_lease')
        server = self.create(name, hints={'gpu_lease': '8s'})
        self.wait_for_lease(server, 'ACTIVE')
        instance = self.instance(server)
        instance.task_state = task_state
        instance.save()
        return server

    def test_end_of_a_server_that_is_deleted_for_ever(self):
        server = self._busy_for_ever('deleting', task_states.DELETING)
        self.wait_for_status(server, None)
        self.wait_for_lease(server, 'RELEASED')
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.assert_no_leaks()

    def _lose_one(self, order):
        """Have an order to a compute lost: the conductor died before.

        :returns: a list of the server whose order was.
        """
        self.useFixture(fixtures.MockPatchObject(
            expirer, 'LOST', datetime.timedelta(seconds=1)))
        real, lost = getattr(rpcapi.ComputeAPI, order), []

        def lose_one(api, context, instance, *args, **kwargs):
            if not lost:
                lost.append(instance.uuid)
            else:
                real(api, context, instance, *args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.rpcapi.ComputeAPI.%s' % order, lose_one))
        return lost

    def test_shelve_that_was_lost_is_asked_for_again(self):
        # It is no try after which the work could be given up.
        self.flags(expiry_attempts=1, on_expiry_fallback='delete',
                   group='gpu_lease')
        lost = self._lose_one('shelve_instance')
        server = self.create('kept', {'gpu_lease': '3s'})
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual([server], lost)
        self.assertEqual('shelved', lease['end_action'])
        lease = db.lease_get(lease['id'])
        self.assertEqual((1, 1), (lease.attempts, lease.outages))
        self.assertIn('still shelving', lease.last_error)
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.assert_no_leaks()

    def test_offload_that_was_lost_is_asked_for_again(self):
        lost = self._lose_one('shelve_offload_instance')
        server = self.create('shelved', {'gpu_lease': '12s'})
        self.wait_for_lease(server, 'ACTIVE')
        # Nova is not told to offload: that is left to the end of the lease.
        self.api.post_server_action(server, {'shelve': None})
        self.wait_for_status(server, 'SHELVED')
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual([server], lost)
        lease = db.lease_get(lease['id'])
        self.assertEqual((1, 1), (lease.attempts, lease.outages))
        self.assert_no_leaks()

    def test_order_that_is_being_done_is_not_lost(self):
        self.useFixture(fixtures.MockPatchObject(
            expirer, 'LOST', datetime.timedelta(seconds=1)))
        snapshot = self.virt.driver.snapshot

        def slow(*args, **kwargs):
            time.sleep(5)
            snapshot(*args, **kwargs)

        self.useFixture(fixtures.MockPatchObject(
            self.virt.driver, 'snapshot', slow))
        server = self.create('slow', {'gpu_lease': '3s'})
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual(0, db.lease_get(lease['id']).attempts)

    def test_snapshot_that_hangs_is_broken_off_at_last(self):
        server = self._busy_for_ever(
            'hangs', task_states.SHELVING_IMAGE_UPLOADING)
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        lease = self.wait_for_lease(server, 'EXPIRED')
        lease = db.lease_get(lease['id'])
        self.assertGreaterEqual(lease.attempts, expirer.SLOW)
        self.assertEqual(0, lease.outages)

    def test_delete_that_was_lost_is_asked_for_again(self):
        lost = self._lose_one('terminate_instance')
        server = self.create('gone', {'gpu_lease': '3s',
                                      'gpu_lease_on_expiry': 'delete'})
        lease = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual([server], lost)
        lease = db.lease_get(lease['id'])
        self.assertEqual((1, 1), (lease.attempts, lease.outages))
        self.assertIn('still deleting', lease.last_error)
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.assert_no_leaks()

    def test_end_of_a_server_that_reboots_for_ever(self):
        for task_state in (task_states.REBOOTING_HARD,
                           task_states.UNRESCUING):
            server = self._busy_for_ever(task_state, task_state)
            self.wait_for_status(server, 'SHELVED_OFFLOADED')
            self.assertEqual('shelved', self.wait_for_lease(
                server, 'EXPIRED')['end_action'])

    def test_end_of_a_server_that_moves_waits_for_it(self):
        """That may be a large disk: nobody breaks it off."""
        server = self._busy_for_ever('moves', task_states.RESIZE_MIGRATING)
        self.wait_for('a failed try', lambda: 'still resize_migrating' in (
            self.lease(server)['reason'] or ''))
        self.assertEqual(task_states.RESIZE_MIGRATING,
                         self.instance(server).task_state)

    def test_requested_host_is_honoured(self):
        for host in ('host2', 'host1'):
            server = self.create('on-%s' % host, api=self.admin_api,
                                 host=host)
            self.wait_for_status(server, 'ACTIVE')
            self.assertEqual(host, self.host_of(server))
