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

"""Devices that somebody gave up, or that one service has free and another not.

All timers are an hour long here: what starts was woken by what happened.
"""

import contextlib
import threading
import time
import uuid

import fixtures
from nova.compute import vm_states
from nova import context as nova_context
from nova import objects
from oslo_utils import importutils

from nova_gpu_lease.compute import timer
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from tests.functional import base
from tests.functional import nova_fixtures

#: Seconds in which a freed device is taken; far less than any timer.
SOON = 10


class _SlowTimer:
    """[gpu_lease], for a nova-compute that never looks by itself."""

    poll_interval = 3600

    def __getattr__(self, name):
        return getattr(CONF.gpu_lease, name)


class GhostCases:
    """One host with one GPU, in both ways that Nova counts devices."""

    GPUS = {'host1': {'gpu': 1}}

    def running(self, name, *args, **kwargs):
        server = self.create(name, *args, **kwargs)
        self.wait_for_lease(server, 'ACTIVE')
        return server

    def large(self):
        """A flavor of which a host has memory for one server only."""
        return self._create_flavor(
            vcpu=1, memory_mb=40000, disk=1,
            extra_spec={'pci_passthrough:alias': 'gpu:1'})

    def queued(self, name, *args, **kwargs):
        server = self.create(name, *args, **kwargs)
        self.wait_for_lease(server, 'QUEUED')
        return server

    def assert_starts_soon(self, server, status='ACTIVE'):
        """It starts at its first try, and does not wait for a timer."""
        self.wait_for_lease(server, status, SOON)
        self.assertEqual(0, db.lease_get(server).request.attempts)

    @contextlib.contextmanager
    def hold(self, method, applies):
        """Let calls of a method stand still while in this context.

        :param method: the method of a class, with its module.
        :param applies: which calls, told by their arguments.
        :returns: an Event that is set when there is one.
        """
        owner, name = method.rsplit('.', 1)
        real = getattr(importutils.import_class(owner), name)
        reached, goes_on = threading.Event(), threading.Event()

        def call(*args, **kwargs):
            if applies(*args):
                reached.set()
                goes_on.wait(base.TIMEOUT)
            return real(*args, **kwargs)

        with fixtures.MonkeyPatch(method, call):
            try:
                yield reached
            finally:
                goes_on.set()

    def hold_allocation(self, server):
        return self.hold(
            'nova.scheduler.client.report.SchedulerReportClient'
            '.delete_allocation_for_instance',
            lambda client, context, server_id, *args: server_id == server)

    def hold_offload(self, server):
        return self.hold(
            'nova.compute.manager.ComputeManager._update_resource_tracker',
            lambda manager, context, instance: instance.uuid == server and
            instance.vm_state == vm_states.SHELVED_OFFLOADED)

    def waits_in_between(self, server):
        """Nobody sees the change later than those who report it at first."""
        self.look()
        time.sleep(timer.SETTLE + 1)
        self.look()
        self.assertEqual('QUEUED', self.lease(server)['status'])
        self.assertEqual(0, db.lease_get(server).request.attempts)

    def test_offload_frees_the_tracker_last(self):
        self.flags(shelved_offload_time=0)
        first = self.running('first')
        after = self.queued('after')
        # What is freed here is told at once, and not found out later.
        self.computes['host1'].manager._lease_timer._conf = _SlowTimer()
        with self.hold_offload(first) as reached:
            self.api.post_server_action(first, {'shelve': None})
            self.assertTrue(reached.wait(base.TIMEOUT))
            # Who only asks Placement thinks that the device is free.
            self.assertEqual({}, self._get_allocations_by_server_uuid(first))
            self.waits_in_between(after)
        self.assert_starts_soon(after)
        self.assert_no_leaks()

    def test_expiry_frees_the_tracker_last(self):
        first = self.running('first', {'gpu_lease': '8s'})
        after = self.queued('after')
        with self.hold_offload(first) as reached:
            self.assertTrue(reached.wait(base.TIMEOUT))
            self.assertEqual({}, self._get_allocations_by_server_uuid(first))
            self.waits_in_between(after)
        self.assert_starts_soon(after)
        self.wait_for_lease(first, 'EXPIRED')
        self.assert_no_leaks()

    def test_deletion_frees_placement_last(self):
        first = self.running('first', flavor=self.large())
        after = self.queued('after', flavor=self.large())
        with self.hold_allocation(first) as reached:
            self.api.delete_server(first)
            self.assertTrue(reached.wait(base.TIMEOUT))
            self.wait_for('the device', lambda: self.free_devices() == 1)
            self.waits_in_between(after)
        self.assert_starts_soon(after)
        self.assert_no_leaks()

    def test_failed_build_without_lease_frees_placement_last(self):
        self.virt.driver.fail_spawn.add('broken')
        with contextlib.ExitStack() as stack:
            with self.virt.hold('host1'):
                broken = self.create('broken', {}, self.large())
                self.wait_for('the claim', lambda: self.free_devices() == 0)
                after = self.queued('after', flavor=self.large())
                reached = stack.enter_context(self.hold_allocation(broken))
            self.assertTrue(reached.wait(base.TIMEOUT))
            self.wait_for('the device', lambda: self.free_devices() == 1)
            self.waits_in_between(after)
        self.assert_starts_soon(after)
        self.wait_for_status(broken, 'ERROR')

    def test_selection_given_up_leaves_no_ghost_in_any_scheduler(self):
        served = self._schedulers()
        loses = self._loses_selections()
        while set(served) != {'first', 'second'}:
            self.assertLess(len(served), 30, served)
            lost = self.create('lost')
            self.wait_for(
                lambda: 'no selection was lost: %s' % self.lease(lost),
                lambda: 'other hosts than planned' in (
                    (self.lease(lost) or {}).get('reason') or ''))
            self.assertEqual({}, self._get_allocations_by_server_uuid(lost))
            self.api.delete_server(lost)
            self.wait_for_lease(lost, 'CANCELLED')
        loses.clear()
        served.clear()
        # The row of the host has not changed since: nothing was built there.
        while set(served) != {'first', 'second'}:
            self.assertLess(len(served), 30, served)
            good = self.create('good')
            self.assert_starts_soon(good)
            self.api.delete_server(good)
            self.wait_for('the device', lambda: self.free_devices() == 1)
        self.assert_no_leaks()

    def test_selection_given_up_of_an_unshelve_is_tried_again(self):
        self.flags(shelved_offload_time=0)
        server = self.running('again')
        self.api.post_server_action(server, {'shelve': None})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'RELEASED')
        self.wait_for('the device', lambda: self.free_devices() == 1)
        loses = self._loses_selections()
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for(
            lambda: 'no selection was lost: %s' % self.lease(server),
            lambda: (lambda lease: lease['status'] == 'QUEUED' and
                     'other hosts' in (lease['reason'] or ''))(
                         self.lease(server)))
        # It waits as before, and holds nothing.
        shown = self.api.get_server(server)
        self.assertEqual(
            ('SHELVED_OFFLOADED', 'unshelving'),
            (shown['status'], shown['OS-EXT-STS:task_state']))
        self.assertEqual({}, self._get_allocations_by_server_uuid(server))
        loses.clear()
        self.wait_for_lease(server, 'ACTIVE', SOON)
        self.assert_no_leaks()

    def test_claim_that_comes_when_nobody_waits_for_it(self):
        self.flags(rpc_response_timeout=3, long_rpc_timeout=3)
        for what, end, status in (
                ('deleted', self.api.delete_server, 'CANCELLED'),
                ('waits', self._disable_host, 'QUEUED')):
            with self.hold_claim() as reached:
                server = self.create(what)
                self.assertTrue(reached.wait(base.TIMEOUT))
                end(server)
                self.wait_for_lease(server, status)
            claimed = self.wait_for(
                'the claim',
                lambda: self._get_allocations_by_server_uuid(server))
            self.assertTrue(claimed)
            self.conductor.manager.gpu_lease_reaper.give_back_late()
            self.assertEqual(
                {}, self._get_allocations_by_server_uuid(server))

    def test_row_of_a_device_that_was_written_late(self):
        compute = self.computes['host1'].manager
        context = nova_context.get_admin_context()
        nova_context.set_target_cell(context, self.cell_mappings['cell1'])
        device, = self.rows(context)
        device.status, device.instance_uuid = 'allocated', str(uuid.uuid4())
        device.save()
        server = self.queued('waits')
        compute.update_available_resource(context)
        device, = self.rows(context)
        self.assertEqual(('available', None),
                         (device.status, device.instance_uuid))
        db.wake()
        self.wait_for_lease(server, 'ACTIVE')
        # And a row that is right is left alone.
        compute.update_available_resource(context)
        device, = self.rows(context)
        self.assertEqual(('allocated', server),
                         (device.status, device.instance_uuid))

    def rows(self, context):
        """The PciDevices of the host, as they are in the database."""
        node, = objects.ComputeNodeList.get_all_by_host(context, 'host1')
        return list(objects.PciDeviceList.get_by_compute_node(
            context, node.id))

    def hold_claim(self):
        return self.hold(
            'nova.scheduler.client.report.SchedulerReportClient'
            '.claim_resources', lambda *args: True)

    def _disable_host(self, server):
        self.service('host1', status='disabled')

    def test_claim_of_a_later_unshelve_is_kept(self):
        self.flags(shelved_offload_time=0)
        server = self.running('again')
        self.api.post_server_action(server, {'shelve': None})
        self.wait_for_lease(server, 'RELEASED')
        loses = self._loses_selections()
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for('a lost selection', lambda: 'other hosts' in (
            self.lease(server)['reason'] or ''))
        self.api.api_request('/os-gpu-leases/%s' % server, method='DELETE')
        given_up = db.lease_get(self.lease(server)['id'])
        self.assertEqual('CANCELLED', given_up.state)
        loses.clear()
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_lease(server, 'ACTIVE')
        held = self._get_allocations_by_server_uuid(server)
        self.assertIn(given_up.uuid, [
            lease.uuid for lease in db.leases_taken_back(given_up.created_at)])
        self.conductor.manager.gpu_lease_reaper.give_back_late()
        self.assertTrue(held)
        self.assertEqual(held, self._get_allocations_by_server_uuid(server))

    def _schedulers(self):
        """Start a second scheduler.

        :returns: a list that names the one of each selection from now on.
        """
        second = self.useFixture(nova_fixtures.ServiceFixture(
            'scheduler', host='scheduler2'))
        served = []
        for name, service in (('first', self.scheduler),
                              ('second', second.service)):
            self._note_selections(name, service.manager, served)
        return served

    def _note_selections(self, name, manager, served):
        real = manager.select_destinations

        def select_destinations(*args, **kwargs):
            served.append(name)
            return real(*args, **kwargs)

        self.useFixture(fixtures.MockPatchObject(
            manager, 'select_destinations', select_destinations))

    def _loses_selections(self):
        """Have Nova select, and claim, what was not planned.

        :returns: a set; so it is until that is empty.
        """
        loses = {'always'}
        real = self.conductor.manager.compute_task_mgr._schedule_instances

        def select(*args, **kwargs):
            selected = real(*args, **kwargs)
            for hosts in selected if loses else ():
                hosts[0].compute_node_uuid = str(uuid.uuid4())
            return selected

        self.useFixture(fixtures.MockPatchObject(
            self.conductor.manager.gpu_lease_dispatcher.builder.task_mgr,
            '_schedule_instances', select))
        return loses


class GhostTest(GhostCases, base.CloudTestCase):
    pass


class GhostPlacementTest(GhostCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True

    def test_claim_that_nova_gave_up_without_a_word(self):
        provider = self._get_provider_uuid_by_name('host1_0000:81:00.0')
        path = '/allocations/%s' % uuid.uuid4()
        claim = self.placement.put(path, version='1.28', body={
            'allocations': {provider: {'resources': {
                'CUSTOM_PCI_10DE_26B9': 1}}},
            'project_id': 'other', 'user_id': 'other',
            'consumer_generation': None})
        self.assertEqual(204, claim.status)
        server = self.queued('waits')
        self.waits_in_between(server)
        self.placement.delete(path)
        self.assert_starts_soon(server)
