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


"""Builds that fail: back to the head of the queue, and the end of it."""

import contextlib
import itertools
import threading
from unittest import mock

import fixtures
from nova.compute import resource_tracker
from nova.compute import task_states
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_utils import uuidutils

from nova_gpu_lease.conductor import builder
from nova_gpu_lease.conductor import lost
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.db import api as db
from nova_gpu_lease import states
from tests.functional import base


class CastsMixin:
    """What tests of casts that come late need."""

    @property
    def reaper(self):
        return self.conductor.manager.gpu_lease_reaper

    def allocations(self, server_id):
        return self._get_allocations_by_server_uuid(server_id)

    def wait_for_drop(self):
        self.wait_for('the late cast', lambda: 'A build is dropped' in
                      self.stdlog.logger.output)

    @contextlib.contextmanager
    def _casts_kept(self):
        """Let the casts that build servers stay in the message queue.

        :returns: a list of functions; each delivers one, later.
        """
        real = self.conductor.manager.compute_task_mgr.compute_rpcapi
        casts = []

        def keep(api, *args, **kwargs):
            casts.append(lambda: real.build_and_run_instance(*args, **kwargs))

        with fixtures.MonkeyPatch(
                'nova.compute.rpcapi.ComputeAPI.build_and_run_instance',
                keep):
            yield casts

    def _keep_cast(self, name):
        """Create a server whose cast stays in the message queue.

        :returns: (its id, the host it was sent to, a function that delivers
            the cast).
        """
        with self._casts_kept() as casts:
            server = self.create(name)
            self.wait_for('the cast', lambda: casts)
            self.wait_for('placed', lambda: db.lease_current(
                server).request.state == states.REQUEST_PLACED)
        return server, db.lease_current(server).host, casts[0]


class AgainCases(CastsMixin):
    """For both ways in which Nova may count devices."""

    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    def test_failed_spawn_goes_to_the_other_host(self):
        self.virt.driver.fail_spawn.add('host1')
        server = self.create('moves')
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual('host2', self.host_of(server))
        self.assertEqual(1, db.lease_current(server).build_attempts)
        self.assertEqual('nova', self.instance(server).availability_zone)
        self.assertEqual([('moves', 'host1'), ('moves', 'host2')],
                         self.virt.driver.spawns)
        self.wait_for('a free device', lambda: self.free_devices() == 1)
        self.assert_no_leaks()

    def test_last_try_ends_with_its_reason(self):
        self.virt.driver.fail_spawn.add('broken')
        server = self.create('broken')
        self.wait_for_status(server, 'ERROR')
        self.assertEqual(3, len(self.virt.driver.spawns))
        fault = self.api.get_server(server)['fault']['message']
        self.assertIn('in 3 tries', fault)
        self.assertIn('the guest did not start', fault)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertEqual(fault, lease['reason'])
        self.assertEqual({}, self.allocations(server))
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        after = self.create('after')
        self.wait_for_status(after, 'ACTIVE')

    def test_failed_server_is_before_those_who_wait(self):
        full = self.create('full')
        self.wait_for_lease(full, 'ACTIVE')
        free, = {'host1', 'host2'} - {self.host_of(full)}
        self.virt.driver.fail_spawn.add('first')
        with self.virt.hold(free):
            first = self.create('first')
            self.wait_for_lease(first, 'BUILDING')
            self.wait_for('the claim', lambda: self.free_devices() == 0)
            second = self.create('second')
            self.wait_for_lease(second, 'QUEUED')
        # It has the device to itself until it gives up.
        self.wait_for_status(first, 'ERROR')
        self.wait_for_status(second, 'ACTIVE')
        self.assertEqual(
            ['full', 'first', 'first', 'first', 'second'],
            [name for name, _ in self.virt.driver.spawns])

    def test_build_that_fails_during_a_survey_is_not_overtaken(self):
        full = self.create('full')
        self.wait_for_lease(full, 'ACTIVE')
        free, = {'host1', 'host2'} - {self.host_of(full)}
        self.virt.driver.fail_spawn.add('first')
        scheduler = self.conductor.manager.gpu_lease_dispatcher.scheduler
        real, surveys = scheduler.survey, threading.Event()

        def survey(*args, **kwargs):
            if not surveys.is_set():
                surveys.set()
                self.wait_for_lease(first, 'QUEUED')
            return real(*args, **kwargs)

        with self.virt.hold(free):
            first = self.create('first')
            self.wait_for_lease(first, 'BUILDING')
            second = self.create('second')
            self.wait_for_lease(second, 'QUEUED')
            self.useFixture(fixtures.MockPatchObject(
                scheduler, 'survey', survey))
            db.wake()
            self.assertTrue(surveys.wait(base.TIMEOUT))
        self.wait_for_status(second, 'ACTIVE')
        self.assertEqual(
            ['full', 'first', 'first', 'first', 'second'],
            [name for name, _ in self.virt.driver.spawns])

    def _restart(self, host):
        self.computes[host].stop()
        self.computes[host] = self.restart_compute_service(
            self.computes[host])

    def test_compute_restarted_before_its_claim_is_a_failed_try(self):
        """Nova puts what had been sent to it into ERROR."""
        server, host, deliver = self._keep_cast('again')
        self._restart(host)
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        self.assertNotEqual(host, self.host_of(server))
        self.assertEqual(1, db.lease_current(server).build_attempts)
        # Its messages outlive a service.
        deliver()
        self.wait_for_drop()
        self.assertEqual(1, len(self.virt.driver.spawns))
        self.assertEqual(1, self.free_devices())
        self.assertNotIn(self._get_provider_uuid_by_host(host),
                         self.allocations(server))
        self.assert_no_leaks()

    def test_compute_restarted_before_the_last_claim_ends_it(self):
        self.flags(max_build_attempts=1, group='gpu_lease')
        server, host, deliver = self._keep_cast('once')
        self._restart(host)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertEqual('ERROR', self.status(server))
        self.assertIn(rpcapi.INTERRUPTED, lease['reason'])
        self.assertEqual(lease['reason'],
                         self.api.get_server(server)['fault']['message'])
        self.assertEqual({}, self.allocations(server))
        deliver()
        self.wait_for_drop()
        self.assertEqual([], self.virt.driver.spawns)
        self.assertEqual('ERROR', self.status(server))

    def test_late_cast_of_an_interrupted_build_is_a_failed_try(self):
        """The cast comes before the dispatcher has looked."""
        server, host, deliver = self._keep_cast('again')
        with mock.patch.object(self.reaper, 'close_builds'):
            self._restart(host)
            self.wait_for_status(server, 'ERROR')
            deliver()
            self.wait_for_drop()
        db.wake()
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual(1, db.lease_current(server).build_attempts)
        self.assertEqual(1, len(self.virt.driver.spawns))
        self.assert_no_leaks()

    def test_limit_of_candidates_hides_no_planned_host(self):
        self.flags(max_placement_results=1, group='scheduler')
        for name in ('one', 'two'):
            self.wait_for_lease(self.create(name), 'ACTIVE')
        self.assertNotIn('goes on waiting', self.stdlog.logger.output)

    def test_lost_claim_is_tried_again(self):
        real = resource_tracker.ResourceTracker.instance_claim
        failed = []

        def claim(tracker, context, instance, *args, **kwargs):
            if not failed:
                failed.append(instance.uuid)
                raise nova_exception.ComputeResourcesUnavailable(
                    reason='somebody was quicker')
            return real(tracker, context, instance, *args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.resource_tracker.ResourceTracker.instance_claim',
            claim))
        server = self.create('unlucky')
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual([server], failed)
        self.assert_no_leaks()

    def test_failed_unshelve_waits_again(self):
        server = self.create('shelved', hints={'gpu_lease': '2s'})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')
        self.virt.driver.fail_spawn.add('host1')
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual('host2', self.host_of(server))
        self.assert_no_leaks()


class LateCastCases(CastsMixin):
    """A compute was away: its old order is worth nothing any more.

    Its host has a device for the newer order and one for the old one.
    """

    GPUS = {'host1': {'gpu': 2}}

    def _give_up(self, server):
        """Let the conductor wait no longer for the build of a server."""
        self.flags(build_timeout='1s', group='gpu_lease')
        self.wait_for('the time to be over', lambda: self.reaper.close_builds()
                      or db.lease_current(server).build_attempts)
        # The next one has more time.
        self.flags(build_timeout='10m', group='gpu_lease')

    def assert_built_once(self, server):
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual([('late', 'host1')], self.virt.driver.spawns)
        instance = self.instance(server)
        self.assertEqual(('active', None, 'host1'), (
            instance.vm_state, instance.task_state, instance.host))
        self.assertIn(self._get_provider_uuid_by_host('host1'),
                      self.allocations(server))
        self.assertEqual(1, self.free_devices())
        self.assert_no_leaks()

    def test_late_cast_to_the_same_host_is_dropped(self):
        server, host, deliver = self._keep_cast('late')
        self._give_up(server)
        with self.virt.hold(host):
            self.wait_for('the second cast', lambda: self.virt.driver.holds)
            deliver()
        # It is looked at when the newer build is done.
        self.wait_for_drop()
        self.assert_built_once(server)

    def test_late_cast_that_comes_before_the_newer_one_is_dropped(self):
        with self._casts_kept() as casts:
            server = self.create('late')
            self.wait_for('the cast', lambda: casts)
            self._give_up(server)
            self.wait_for('the second cast', lambda: len(casts) == 2)
            self.wait_for('placed', lambda: db.lease_current(
                server).request.state == states.REQUEST_PLACED)
        old, new = casts
        old()
        self.wait_for_drop()
        self.assertEqual('BUILD', self.status(server))
        self.assertEqual([], self.virt.driver.spawns)
        new()
        self.assert_built_once(server)


class AgainTest(AgainCases, base.CloudTestCase):

    def test_failed_spawn_on_a_forced_host_is_tried_there_again(self):
        """Nova itself ends such a server at once."""
        self.virt.driver.fail_spawn.add('forced')
        server = self.create('forced', api=self.admin_api,
                             availability_zone='nova:host1')
        self.wait_for_status(server, 'ERROR')
        self.assertIn('in 3 tries',
                      self.api.get_server(server)['fault']['message'])
        self.assertEqual([('forced', 'host1')] * 3, self.virt.driver.spawns)

    def test_volume_that_a_failed_build_let_go_is_attached_again(self):
        volume = uuidutils.generate_uuid()
        self.virt.driver.fail_spawn.add('host1')
        server = self.create('volume', block_device_mapping_v2=[
            {'boot_index': 0, 'uuid': base.IMAGE, 'source_type': 'image',
             'destination_type': 'local'},
            {'boot_index': -1, 'uuid': volume, 'source_type': 'volume',
             'destination_type': 'volume'}])
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual(1, db.lease_current(server).build_attempts)
        self.assertIn(volume, self.cinder.volume_ids_for_instance(server))

    def test_server_that_a_compute_begins_meanwhile_is_left_to_it(self):
        real, begun = builder.Builder.prepare, []

        def prepare(*args, **kwargs):
            build = real(*args, **kwargs)
            if self.virt.driver.spawns:
                # An older cast has come, and was let through.
                instance = self.instance(server)
                instance.task_state = task_states.SPAWNING
                instance.save()
                begun.append(server)
            return build

        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.builder.Builder.prepare', prepare))
        self.virt.driver.fail_spawn.add('begun')
        server = self.create('begun')
        self.wait_for('the second try', lambda: begun)
        self.wait_for('the request to be placed', lambda: db.lease_current(
            server).request.state == states.REQUEST_PLACED)
        self.assertEqual(task_states.SPAWNING,
                         self.instance(server).task_state)
        self.assertEqual('BUILDING', self.lease(server)['status'])
        self.assertEqual([server], begun)
        self.assertEqual(1, len(self.virt.driver.spawns))

    def test_one_server_of_a_gang_fails(self):
        self.virt.driver.fail_spawn.add('pair-2')
        one, two = self.create_gang('pair', 2)
        self.wait_for_status(one, 'ACTIVE')
        self.wait_for_status(two, 'ERROR')
        self.wait_for_lease(one, 'ACTIVE')
        self.wait_for_lease(two, 'CANCELLED')
        self.assertEqual(1, [name for name, _ in
                             self.virt.driver.spawns].count('pair-1'))
        self.assert_no_leaks()

    def test_what_is_gone_at_a_further_try_fails_with_a_fault(self):
        image = self.glance.create(None, {
            'name': 'short-lived', 'disk_format': 'raw',
            'container_format': 'bare'})
        self.virt.driver.fail_spawn.add('unlucky')
        with self.virt.hold('host1'), self.virt.hold('host2'):
            server = self.create('unlucky', imageRef=image['id'])
            self.wait_for('the build', lambda: self.virt.driver.holds)
            self.glance.delete(None, image['id'])
        self.wait_for_status(server, 'ERROR')
        self.assertIn(image['id'],
                      self.api.get_server(server)['fault']['message'])
        self.wait_for_lease(server, 'CANCELLED')
        self.assert_no_leaks()

    def test_rest_of_a_gang_whose_sibling_was_deleted(self):
        self.virt.driver.fail_spawn.update(('pair-1', 'pair-2'))
        self.flags(max_build_attempts=2, group='gpu_lease')
        full = None
        with self.virt.hold('host2'):
            one, two = self.create_gang('pair', 2)
            # One fails and waits; the other is being built.
            failed = self.wait_for('a failed one', lambda: next(
                (server for server in (one, two) if db.lease_current(
                    server) and db.lease_current(server).build_attempts),
                None))
            full = self.create('full', flavor=self.flavor(''), hints={})
            self.api.delete_server(failed)
            self.wait_for('the end of its lease', lambda: self.lease(
                failed)['status'] == 'CANCELLED')
        other, = {one, two} - {failed}
        self.wait_for_status(other, 'ERROR')
        self.wait_for_lease(other, 'CANCELLED')
        self.wait_for_status(full, 'ACTIVE')
        self.assert_no_leaks()

    def test_what_it_is_built_from_is_kept_until_it_runs(self):
        with self.virt.hold('host1'), self.virt.hold('host2'):
            server = self.create('one')
            self.wait_for('the request to be placed', lambda: (
                db.lease_current(server) and db.lease_current(
                    server).request.state == states.REQUEST_PLACED))
            request = db.lease_current(server).request.uuid
            self.assertIsNotNone(db.request_get(request).payload)
        self.wait_for_lease(server, 'ACTIVE')
        self.wait_for('nothing to be kept',
                      lambda: db.request_get(request).payload is None)

    def _lose_casts(self):
        """Have requests get lost before they are queued."""
        self.reaper.lost = lost.LostCasts(
            self.reaper.unstarted, 'host', lambda: next(self.minutes) * 60)
        self.minutes = itertools.count()
        casts = []
        patch = fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.endpoint.QueueEndpoint._enqueue',
            lambda *args: casts.append(args))
        patch.setUp()

        def end():
            self.wait_for('the cast to be lost', lambda: casts)
            patch.cleanUp()

        return end

    def test_lost_request_fails(self):
        end = self._lose_casts()
        server = self.create('lost')
        self.wait_for('the server', lambda: self.status(server) == 'BUILD')
        end()
        waits = self.create('known')
        self.wait_for_status(waits, 'ACTIVE')
        self.reaper.fail_lost()
        self.assertEqual('BUILD', self.status(server))
        self.reaper.fail_lost()
        self.wait_for_status(server, 'ERROR')
        self.assertEqual(lost.CREATE_LOST,
                         self.api.get_server(server)['fault']['message'])
        self.assertEqual('ACTIVE', self.status(waits))

    def test_request_that_may_still_come_is_not_lost(self):
        end = self._lose_casts()
        self.minutes = itertools.repeat(0)
        server = self.create('late')
        end()
        self.reaper.fail_lost()
        self.reaper.fail_lost()
        self.assertEqual('BUILD', self.status(server))

    def test_lost_unshelve_says_so_on_its_lease(self):
        server = self.create('shelved', hints={'gpu_lease': '2s'})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')
        end = self._lose_casts()
        self.api.post_server_action(server, {'unshelve': None})
        end()
        self.reaper.fail_lost()
        self.reaper.fail_lost()
        self.assertIsNone(self.instance(server).task_state)
        lease = self.wait_for_lease(server, 'CANCELLED')
        self.assertEqual(lost.UNSHELVE_LOST, lease['reason'])
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')

    def test_server_without_a_lease_is_nobodys_loss(self):
        """Nova's own servers that wait for their cast are left alone."""
        self.minutes = itertools.count()
        self.reaper.lost = lost.LostCasts(
            self.reaper.unstarted, 'host', lambda: next(self.minutes) * 60)
        self.useFixture(fixtures.MonkeyPatch(
            'nova.conductor.manager.ComputeTaskManager.'
            'schedule_and_build_instances', lambda *args, **kwargs: None))
        server = self.create('plain', hints={}, flavor=self.flavor(''))
        self.wait_for('the server', lambda: self.status(server) == 'BUILD')
        self.reaper.fail_lost()
        self.reaper.fail_lost()
        self.assertEqual('BUILD', self.status(server))
        self.assertEqual(1, len(objects.BuildRequestList.get_all(
            nova_context.get_admin_context())))


class AgainPlacementTest(AgainCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True


class LateCastTest(LateCastCases, base.CloudTestCase):
    pass


class LateCastPlacementTest(LateCastCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True
