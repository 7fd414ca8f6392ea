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

"""Shelved servers whose owners want them back: the wait, its ends, faults."""

import datetime
import threading

import fixtures
from nova import objects
from oslo_utils import timeutils

from nova_gpu_lease import clock
from nova_gpu_lease.db import api as db
from tests.functional import base
from tests.functional import nova_fixtures

OTHER_PROJECT = 'bbbb0000'


class UnshelveMixin:
    """What tests of shelved servers need."""

    def setUp(self):
        super().setUp()
        # To shelve a server frees its devices.
        self.flags(shelved_offload_time=0)

    def running(self, name, *args, **kwargs):
        server = self.create(name, *args, **kwargs)
        self.wait_for_lease(server, 'ACTIVE')
        return server

    def shelve(self, server):
        self.api.post_server_action(server, {'shelve': None})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'RELEASED')
        self.wait_for('no task', lambda: self.task(server) is None)

    def shelved(self, name, *args, **kwargs):
        server = self.running(name, *args, **kwargs)
        self.shelve(server)
        return server

    def unshelve(self, server, api=None, **where):
        (api or self.api).post_server_action(
            server, {'unshelve': where or None})

    def waits(self, server, **where):
        """Unshelve a server that has to wait; its lease."""
        self.unshelve(server, **where)
        return self.wait_for_lease(server, 'QUEUED')

    def task(self, server):
        return self.api.get_server(server)['OS-EXT-STS:task_state']

    def cancel(self, id, api=None):
        """The status and the error of the answer."""
        response = (api or self.api).api_request(
            '/os-gpu-leases/%s' % id, method='DELETE')
        error = None
        if response.content:
            (error,) = response.json().values()
        return response.status_code, error

    def assert_shelved(self, server):
        """It is as before it was unshelved, and holds nothing."""
        self.assertEqual(
            ('SHELVED_OFFLOADED', None),
            (self.status(server), self.task(server)))
        self.assertEqual({}, self._get_allocations_by_server_uuid(server))
        self.assertNotIn(server, {
            holder for host in self.computes
            for holder in self.devices(host).values()})

    def last_action(self, server):
        """The newest action of a server, with its events."""
        path = '/servers/%s/os-instance-actions' % server
        newest = self.api.api_get(path).body['instanceActions'][0]
        return self.admin_api.api_get(
            '%s/%s' % (path, newest['request_id'])).body['instanceAction']

    def wait_for_positions(self, **positions):
        """Wait until servers, by name, have these places in the queue."""
        self.wait_for(
            lambda: 'positions: %s' % self.queue(),
            lambda: {name: request['position'] for request in self.queue()
                     for name in request['server_names']} == positions)


class UnshelveCases(UnshelveMixin):
    """One host with two GPUs, in both ways that Nova counts devices."""

    GPUS = {'host1': {'gpu': 2}}

    def test_unshelve_waits_like_any_other(self):
        again = self.shelved('again')
        old = self.lease(again)
        full = [self.running('full-%d' % number) for number in (1, 2)]
        first = self.create_gang('first', 2)
        self.wait_for_lease(first[0], 'QUEUED')
        lease = self.waits(again)
        last = self.create_gang('last', 2)
        self.wait_for_positions(
            **{'first-1': 1, 'first-2': 1, 'again': 2, 'last-1': 3,
               'last-2': 3})
        self._waits_as_the_api_shows_it(again, old, lease)
        for server in full:
            self.assertEqual('QUEUED', self.lease(again)['status'])
            self.api.delete_server(server)
        # A gang that is first is first, and one that is behind is behind.
        self.wait_for_status(first, 'ACTIVE')
        self.assertEqual('SHELVED_OFFLOADED', self.status(again))
        self.api.delete_server(first[0])
        self.wait_for_status(again, 'ACTIVE')
        new = self.wait_for_lease(again, 'ACTIVE')
        self.assertEqual((lease['id'], old['duration']),
                         (new['id'], new['duration']))
        self.assertIsNone(new['reason'])
        self.api.delete_server(first[1])
        self.wait_for('a free device', lambda: self.free_devices() == 1)
        self.assertEqual([['last-1', 'last-2']], self.waiting())
        self.shelve(again)
        self.wait_for_status(last, 'ACTIVE')
        self.assert_no_leaks()

    def _waits_as_the_api_shows_it(self, server, old, lease):
        self.assertEqual(('SHELVED_OFFLOADED', 'unshelving'),
                         (self.status(server), self.task(server)))
        # Until the first plan the reason is that it has just been queued.
        self.wait_for(lambda: self.lease(server),
                      lambda: 'gpu' in self.lease(server)['reason'])
        lease = self.lease(server)
        self.assertNotEqual(old['id'], lease['id'])
        self.assertEqual((2, None, None), (
            lease['position'], lease['started_at'], lease['ended_at']))
        first, entry = self.wait_for(self.queue, self._starts_expected)
        self.assertEqual(
            ('unshelve', [server], 2, lease['reason']),
            (entry['kind'], entry['server_ids'], entry['position'],
             entry['reason']))
        # Those who run have an hour, and the gang before it then has one.
        ends = [running['expires_at'] for running in
                self.leases('?status=ACTIVE')]
        self.assertEqual(2, len(ends))
        self.assertGreaterEqual(first['expected_start'], max(ends))
        self.assertGreaterEqual(
            timeutils.parse_isotime(entry['expected_start']),
            timeutils.parse_isotime(first['expected_start']) +
            datetime.timedelta(hours=1))
        self.assertEqual(entry['expected_start'],
                         self.lease(server)['expected_start'])

    def _starts_expected(self):
        """The first two of the queue, once it is known when they start."""
        entries = self.queue()[:2]
        return all(entry['expected_start'] for entry in entries) and entries

    def test_cancelled_wait(self):
        again = self.shelved('again', flavor=self.flavor('gpu:2'))
        full = self.running('full', flavor=self.flavor('gpu:2'))
        lease = self.waits(again)
        new = self.create('new')
        self.wait_for_positions(again=1, new=2)
        self._refused(again, new, full)
        self.assertEqual((204, None), self.cancel(again))
        # At once, since the owner may want to go on.
        self.assert_shelved(again)
        self.wait_for_positions(new=1)
        cancelled = self.lease(again)
        self.assertEqual(
            (lease['id'], 'CANCELLED', 'its wait was cancelled', None),
            (cancelled['id'], cancelled['status'], cancelled['reason'],
             cancelled['position']))
        self.assertEqual((204, None), self.cancel(again))
        self.assertEqual((204, None), self.cancel(lease['id']))
        # Nothing is left that could start it.
        self.api.delete_server(full)
        self.wait_for_status(new, 'ACTIVE')
        self.assert_shelved(again)
        self.assertEqual([], self.queue())
        # It comes back whenever its owner wants, with a lease of its own.
        self.api.delete_server(new)
        self.unshelve(again)
        self.wait_for_status(again, 'ACTIVE')
        self.assertNotEqual(
            lease['id'], self.wait_for_lease(again, 'ACTIVE')['id'])
        self.assert_no_leaks()

    def _refused(self, again, new, full):
        other = self.client_of('other', OTHER_PROJECT)
        for server in (again, self.lease(again)['id'], new, 'nothing'):
            code, error = self.cancel(server, other)
            self.assertEqual((404, 'gpu_lease.not_found'),
                             (code, error['gpu_lease_code']))
        code, error = self.cancel(new)
        self.assertEqual((409, 'gpu_lease.new_server'),
                         (code, error['gpu_lease_code']))
        self.assertIn('delete the server', error['message'])
        code, error = self.cancel(full)
        self.assertEqual((409, 'gpu_lease.not_waiting'),
                         (code, error['gpu_lease_code']))
        self.assertEqual('QUEUED', self.lease(again)['status'])

    def test_deleted_while_it_waits(self):
        again = self.shelved('again')
        full = self.running('full', flavor=self.flavor('gpu:2'))
        self.waits(again)
        new = self.create('new')
        self.wait_for_positions(again=1, new=2)
        self.api.delete_server(again)
        self.wait_for_status(again, None)
        lease = self.wait_for_lease(again, 'CANCELLED')
        self.assertIn('deleted', lease['reason'])
        self.wait_for_positions(new=1)
        code, _ = self.cancel(again)
        self.assertEqual(409, code)
        self.api.delete_server(full)
        self.wait_for_status(new, 'ACTIVE')
        self.assert_no_leaks()

    def test_failure_on_the_compute_is_never_silent(self):
        again = self.shelved('again')
        self.virt.driver.fail_spawn.add('again')
        self.unshelve(again)
        lease = self.wait_for_lease(again, 'CANCELLED')
        self.assertIn('the guest did not start', lease['reason'])
        self.wait_for('no task', lambda: self.task(again) is None)
        self.assert_shelved(again)
        action = self.last_action(again)
        self.assertEqual(('unshelve', 'Error'),
                         (action['action'], action['message']))
        self.assertIn('the guest did not start', self.fault(again))
        self.virt.driver.fail_spawn.clear()
        self.unshelve(again)
        self.wait_for_status(again, 'ACTIVE')
        self.assert_no_leaks()

    def fault(self, server):
        """Nova's API shows it for servers in ERROR only."""
        instance = self.instance(server)
        return objects.InstanceFault.get_latest_for_instance(
            instance._context, server).message


class UnshelveTest(UnshelveCases, base.CloudTestCase):

    @property
    def reaper(self):
        return self.conductor.manager.gpu_lease_reaper

    def test_limits_that_were_lowered_meanwhile(self):
        again = self.shelved('again', hints={
            'gpu_lease': '2h', 'gpu_lease_wait': '2h'})
        full = self.running('full', flavor=self.flavor('gpu:2'))
        self.flags(max_duration='1h', max_wait='1h', group='gpu_lease')
        self.waits(again)
        request, = self.queue()
        self.assertEqual(3600, (
            timeutils.parse_isotime(request['wait_until']) -
            timeutils.parse_isotime(request['queued_at'])).total_seconds())
        self.api.delete_server(full)
        lease = self.wait_for_lease(again, 'ACTIVE')
        self.assertEqual((3600, 3600),
                         (lease['duration'], lease['max_duration']))

    def test_leases_that_became_mandatory_meanwhile(self):
        """Who has none of his own choice gets one like his last."""
        self.flags(default_duration='2h', group='gpu_lease')
        again = self.shelved('again', hints={})
        self.flags(default_duration=None, without_hint='refuse',
                   group='gpu_lease')
        self.unshelve(again)
        lease = self.wait_for_lease(again, 'ACTIVE')
        self.assertEqual(7200, lease['duration'])

    def test_wait_limit_is_never_silent(self):
        again = self.shelved('again', hints={
            'gpu_lease': '1h', 'gpu_lease_wait': '3s'})
        self.running('full', flavor=self.flavor('gpu:2'))
        self.assertIsNotNone(self.waits(again)['wait_until'])
        lease = self.wait_for_lease(again, 'CANCELLED')
        self.assertIn('wait limit of 3s', lease['reason'])
        self.assert_shelved(again)
        self.assertIn('wait limit of 3s', self.fault(again))
        # What the owner sees of a server that is not in ERROR.
        action = self.last_action(again)
        self.assertEqual(('unshelve', 'Error'),
                         (action['action'], action['message']))
        event = [event for event in action['events']
                 if event['event'] == 'conductor_gpu_lease_wait'][0]
        self.assertEqual('Error', event['result'])
        self.assertIn('wait limit of 3s', event['details'])

    def test_vanished_image_is_never_silent(self):
        again = self.shelved('again')
        full = self.running('full', flavor=self.flavor('gpu:2'))
        self.waits(again)
        image, = [image for image in self.glance.detail(None)
                  if image['name'] == 'again-shelved']
        self.glance.delete(None, image['id'])
        self.api.delete_server(full)
        # As under stock Nova.
        self.wait_for_status(again, 'ERROR')
        self.assertIn(image['id'],
                      self.api.get_server(again)['fault']['message'])
        lease = self.wait_for_lease(again, 'CANCELLED')
        self.assertIn(image['id'], lease['reason'])
        self.assertEqual({}, self._get_allocations_by_server_uuid(again))

    def test_cancelled_by_a_process_that_died(self):
        again = self.shelved('again')
        self.running('full', flavor=self.flavor('gpu:2'))
        self.waits(again)
        # After the commit, and before it freed the server.
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.api.handlers.lease._free', lambda lease: None))
        self.assertEqual((204, None), self.cancel(again))
        self.wait_for('no task', lambda: self.task(again) is None)
        self.assert_shelved(again)
        self.wait_for('the note', lambda: not db.leases_cancelled())

    def test_cancelled_while_its_cell_is_away(self):
        again = self.shelved('again')
        self.running('full', flavor=self.flavor('gpu:2'))
        lease = self.waits(again)
        with fixtures.MockPatch(
                'nova_gpu_lease.conductor.shelved.free',
                side_effect=OSError('cell1')) as away:
            self.assertEqual((204, None), self.cancel(again))
            self.wait_for('a try of the reaper',
                          lambda: away.mock.call_count >= 2)
            self.assertEqual('unshelving', self.task(again))
            self.assertEqual([lease['id']], [
                one.uuid for one in db.leases_cancelled()])
        self.reaper.free_cancelled()
        self.assert_shelved(again)

    def test_late_cancel_leaves_a_later_unshelve_alone(self):
        again = self.shelved('again')
        full = self.running('full', flavor=self.flavor('gpu:2'))
        old = self.waits(again)
        self.cancel(again)
        self.wait_for('the note', lambda: not db.leases_cancelled())
        new = self.waits(again)
        # As if the reaper had died before it noted that it freed the server.
        db.lease_set(db.lease_get(old['id']), next_attempt_at=clock.now())
        self.reaper.free_cancelled()
        self.assertEqual([], db.leases_cancelled())
        self.assertEqual('unshelving', self.task(again))
        self.assertEqual((new['id'], 'QUEUED'), (
            self.lease(again)['id'], self.lease(again)['status']))
        self.api.delete_server(full)
        self.wait_for_status(again, 'ACTIVE')

    def test_cancel_races_with_the_dispatcher(self):
        again = self.shelved('again')
        for number in range(6):
            full = self.running('full', flavor=self.flavor('gpu:2'))
            self.waits(again)
            freed = threading.Thread(
                target=self.api.delete_server, args=(full,))
            freed.start()
            self.wait_for('some time', lambda: not freed.is_alive() or
                          number % 2)
            code, _ = self.cancel(again)
            freed.join()
            if code == 204:
                self.wait_for_status(full, None)
                self.wait_for('the device', lambda: self.free_devices() == 2)
                self.assert_shelved(again)
                self.assertEqual('CANCELLED', self.lease(again)['status'])
            else:
                self.assertEqual(409, code)
                self.wait_for_status(again, 'ACTIVE')
                self.wait_for_lease(again, 'ACTIVE')
                self.shelve(again)
        self.assert_no_leaks()

    def test_cancel_while_it_is_being_unshelved(self):
        again = self.shelved('again')
        with self.virt.hold('host1'):
            self.unshelve(again)
            self.wait_for_lease(again, 'BUILDING')
            self.wait_for('the claim', lambda: self.free_devices() == 1)
            code, error = self.cancel(again)
            self.assertEqual((409, 'gpu_lease.not_waiting'),
                             (code, error['gpu_lease_code']))
            self.assertIn('BUILDING', error['message'])
        self.wait_for_status(again, 'ACTIVE')
        self.wait_for_lease(again, 'ACTIVE')
        code, error = self.cancel(again)
        self.assertEqual(409, code)
        self.assertIn('shelve or delete', error['message'])
        self.assertEqual('ACTIVE', self.status(again))

    def test_mark_that_was_taken_off_late(self):
        again = self.shelved('again')
        full = self.running('full', flavor=self.flavor('gpu:2'))
        self.waits(again)
        # As a wait before this one does that is cancelled by several.
        instance = self.instance(again)
        instance.task_state = None
        instance.save()
        seen = []
        real = objects.Instance.save

        def save(instance, expected_task_state=None, **kwargs):
            if instance.uuid == again:
                seen.append(instance.task_state)
            return real(instance, expected_task_state=expected_task_state,
                        **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.save', save))
        self.api.delete_server(full)
        self.wait_for_status(again, 'ACTIVE')
        self.assertEqual('unshelving', seen[0])

    def test_volume_backed_server_waits_with_its_volume(self):
        volume = nova_fixtures.CinderFixture.IMAGE_BACKED_VOL
        body = self.body('volume', {'gpu_lease': '1h'})
        del body['server']['imageRef']
        body['server']['block_device_mapping_v2'] = [{
            'boot_index': 0, 'uuid': volume, 'source_type': 'volume',
            'destination_type': 'volume'}]
        again = self.api.post_server(body)['id']
        self.wait_for_lease(again, 'ACTIVE')
        self.shelve(again)
        full = self.running('full', flavor=self.flavor('gpu:2'))
        self.waits(again)
        self.cancel(again)
        self.assert_shelved(again)
        self.assertIn(volume, self.cinder.volume_ids_for_instance(again))
        self.waits(again)
        self.api.delete_server(full)
        self.wait_for_status(again, 'ACTIVE')
        self.assertIn(volume, self.cinder.volume_ids_for_instance(again))
        self.shelve(again)
        self.running('full', flavor=self.flavor('gpu:2'))
        self.waits(again)
        self.api.delete_server(again)
        self.wait_for_status(again, None)
        self.wait_for_lease(again, 'CANCELLED')
        self.assertNotIn(
            volume, self.cinder.volume_ids_for_instance(again))


class DestinationCases(UnshelveMixin):
    """Three hosts of one GPU; the last one is a zone of its own."""

    GPUS = {host: {'gpu': 1} for host in ('host1', 'host2', 'host3')}

    def setUp(self):
        super().setUp()
        aggregate = self.admin_api.post_aggregate({'aggregate': {
            'name': 'east', 'availability_zone': 'east'}})
        self.admin_api.add_host_to_aggregate(aggregate['id'], 'host3')

    def full(self):
        """Fill all hosts; the servers by host."""
        servers = [self.running('full-%d' % number)
                   for number in range(1, 4)]
        return {self.host_of(server): server for server in servers}

    def test_unshelve_to_a_host_waits_for_that_host(self):
        again = self.shelved('again')
        full = self.full()
        self.unshelve(again, self.admin_api, host='host2')
        self.wait_for_lease(again, 'QUEUED')
        new = self.create('new')
        self.wait_for_lease(new, 'QUEUED')
        self.api.delete_server(full['host1'])
        # Another host is of no use to it, and so for who is behind it.
        self.wait_for_status(new, 'ACTIVE')
        self.assertEqual('host1', self.host_of(new))
        self.assertEqual('QUEUED', self.lease(again)['status'])
        self.api.delete_server(full['host2'])
        self.wait_for_status(again, 'ACTIVE')
        self.assertEqual('host2', self.host_of(again))

    def test_unshelve_to_a_zone_waits_for_that_zone(self):
        again = self.shelved('again')
        full = self.full()
        self.waits(again, availability_zone='east')
        self.api.delete_server(full['host1'])
        self.wait_for('a free device', lambda: self.free_devices() == 1)
        # The zone outlives a wait that is cancelled, as in Nova.
        self.assertEqual((204, None), self.cancel(again))
        self.waits(again)
        self.api.delete_server(full['host3'])
        self.wait_for_status(again, 'ACTIVE')
        self.assertEqual('host3', self.host_of(again))
        self.assertEqual('east', self.api.get_server(again)[
            'OS-EXT-AZ:availability_zone'])
        # And back to wherever there is room.
        self.shelve(again)
        self.running('east', availability_zone='east')
        self.unshelve(again, availability_zone=None)
        self.wait_for_status(again, 'ACTIVE')
        self.assertEqual('host1', self.host_of(again))

    def test_unshelve_to_a_host_of_a_zone(self):
        again = self.shelved('again')
        full = self.full()
        self.unshelve(again, self.admin_api, host='host3',
                      availability_zone='east')
        self.wait_for_lease(again, 'QUEUED')
        self.api.delete_server(full['host2'])
        self.wait_for('a free device', lambda: self.free_devices() == 1)
        self.assertEqual('QUEUED', self.lease(again)['status'])
        self.api.delete_server(full['host3'])
        self.wait_for_status(again, 'ACTIVE')
        self.assertEqual('host3', self.host_of(again))


class DestinationTest(DestinationCases, base.CloudTestCase):
    pass


class UnshelvePlacementTest(UnshelveCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True


class DestinationPlacementTest(DestinationCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True
