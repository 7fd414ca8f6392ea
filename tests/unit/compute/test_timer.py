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

"""What the timer of a nova-compute tells the conductor, and when."""

import datetime
import time

import fixtures

from nova_gpu_lease.compute import timer
from nova_gpu_lease.conf import CONF
from tests import base

START = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.timezone.utc)
DOWN_TIME = 60


class Conductor:
    """Answers like a conductor, and remembers what it was told."""

    def __init__(self):
        self.heard = []
        self.leases = {}
        self.broken = False

    def _hear(self, *what):
        if self.broken:
            raise ConnectionError('no conductor')
        self.heard.append(what)

    def sync_host(self, context, host, servers, devices_changed):
        self._hear('sync', devices_changed)
        return list(self.leases.values())

    def lease_due(self, context, lease_uuid, generation):
        self._hear('due', lease_uuid, generation)
        return self.leases.get(lease_uuid)

    def lease_off(self, context, lease_uuid, generation, seconds):
        self._hear('off', lease_uuid, generation, seconds)
        return self.leases.get(lease_uuid)

    def build_finished(self, context, host, server_id, ok, message,
                       generation):
        self._hear('build', server_id, ok, message)

    def server_changed(self, context, server_id):
        self._hear('changed', server_id)

    def lease(self, uuid, expires_in, state='ACTIVE', generation=2):
        """Have a lease that ends so many seconds after START."""
        expires_at = START + datetime.timedelta(seconds=expires_in)
        self.leases[uuid] = {
            'uuid': uuid, 'server_id': 'server of %s' % uuid, 'state': state,
            'generation': generation, 'started_at': START.isoformat(),
            'expires_at': expires_at.isoformat(), 'duration': expires_in,
            'auto_extend': False}


class TimerTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.flags(poll_interval=0.5, sync_interval='1h', warn_before='100s')
        self.conductor = Conductor()
        self.free = {}
        self.servers = []
        self.seconds = 0.0
        self.wall = 0.0
        self.up = True
        self.timer = timer.Timer(
            self.conductor, lambda: 'context', 'host',
            lambda context: list(self.servers), lambda: dict(self.free),
            CONF.gpu_lease, DOWN_TIME,
            lambda context: self.up, monotonic=lambda: self.seconds,
            now=lambda: START + datetime.timedelta(seconds=self.wall))

    def ticks(self, seconds, step=0.5):
        """Let time pass with a round at each step; what was heard in it."""
        del self.conductor.heard[:]
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds += step
            self.wall += step
            self.timer.tick()
        return self.conductor.heard

    def started(self):
        """Let the reports of the start be over."""
        self.timer.tick()
        self.ticks(5)

    def test_start_wakes_now_and_when_the_service_is_up(self):
        self.up = False
        self.timer.tick()
        self.assertEqual([('sync', True)], self.conductor.heard)
        self.assertEqual([], self.ticks(30))
        self.up = True
        self.assertEqual([('sync', True)], self.ticks(0.5))
        self.assertEqual([('sync', True)], self.ticks(1000))

    def test_sync_interval_is_kept_without_events(self):
        self.started()
        self.assertEqual([('sync', False)], self.ticks(3600))

    def test_freed_device_wakes_twice(self):
        self.free = {'a': 0, 'b': 1}
        self.started()
        self.free = {'a': 1, 'b': 0}
        self.assertEqual([('sync', True)], self.ticks(0.5))
        self.assertEqual([('sync', True)], self.ticks(30))

    def test_what_is_not_seen_here_is_told_once(self):
        self.started()
        self.timer.freed()
        self.timer.freed()
        self.assertEqual([('sync', True)], self.ticks(30))

    def test_what_is_not_seen_here_is_kept_until_it_can_be_told(self):
        self.started()
        self.conductor.broken = True
        self.timer.freed()
        self.assertEqual([], self.ticks(30))
        self.conductor.broken = False
        self.assertEqual([('sync', True)], self.ticks(30))

    def test_new_device_wakes(self):
        self.started()
        self.free = {'a': 1}
        self.assertEqual([('sync', True)], self.ticks(0.5))

    def test_taken_device_does_not_wake(self):
        self.free = {'a': 1, 'b': 1}
        self.started()
        self.free = {'b': 1}
        self.assertEqual([], self.ticks(30))

    def test_build_is_told_and_followed_by_sync(self):
        self.started()
        self.timer.build_finished('one', True)
        self.timer.build_finished('two', False, 'broken')
        self.assertEqual([('build', 'one', True, None),
                          ('build', 'two', False, 'broken'),
                          ('sync', False)], self.ticks(30))

    def test_build_is_kept_until_conductor_hears(self):
        self.started()
        self.conductor.broken = True
        self.timer.build_finished('one', True)
        self.assertEqual([], self.ticks(300))
        self.conductor.broken = False
        self.assertEqual([('build', 'one', True, None), ('sync', False)],
                         self.ticks(timer.MAX_BACKOFF))

    def test_moved_server_is_kept_until_conductor_hears(self):
        self.started()
        self.conductor.broken = True
        self.timer.server_changed('one')
        self.timer.server_changed('two')
        self.assertEqual([], self.ticks(300))
        self.conductor.broken = False
        # Then this host learns which leases it has by now.
        self.assertEqual([('changed', 'one'), ('changed', 'two'),
                          ('sync', True)], self.ticks(
                              timer.MAX_BACKOFF + timer.SETTLE))

    def test_freed_device_is_kept_until_conductor_hears(self):
        self.started()
        self.conductor.broken = True
        self.free = {'a': 1}
        self.ticks(300)
        self.conductor.broken = False
        self.assertEqual([('sync', True)], self.ticks(timer.MAX_BACKOFF))
        self.assertEqual([], self.ticks(30))

    def test_freeze_wakes_like_a_start(self):
        self.started()
        self.seconds += DOWN_TIME + 1
        self.assertEqual([('sync', True)] * 2, self.ticks(30))

    def test_clock_jump_wakes(self):
        self.started()
        self.wall += DOWN_TIME + 1
        self.assertEqual([('sync', True)] * 2, self.ticks(30))

    def test_clock_set_back_is_no_event(self):
        self.started()
        self.wall -= 3600
        self.assertEqual([], self.ticks(30))

    def test_end_of_lease_is_told_once(self):
        self.conductor.lease('one', 100)
        self.started()
        self.assertEqual([], self.ticks(100 - self.wall - 0.5))
        self.conductor.lease('one', 100, state='EXPIRING', generation=3)
        self.assertEqual([('due', 'one', 2)], self.ticks(0.5))
        self.assertEqual([], self.ticks(1000))

    def test_extended_lease_ends_later(self):
        self.conductor.lease('one', 100)
        self.started()
        self.conductor.lease('one', 300)
        self.assertEqual([('due', 'one', 2)], self.ticks(100))
        self.conductor.lease('one', 300, state='EXPIRING', generation=3)
        self.assertEqual([('due', 'one', 2)], self.ticks(200))

    def test_lease_that_is_gone_is_forgotten(self):
        self.conductor.lease('one', 100)
        self.started()
        self.conductor.leases.clear()
        self.assertEqual([('due', 'one', 2)], self.ticks(1000))

    def test_end_of_lease_is_kept_until_conductor_hears(self):
        self.conductor.lease('one', 100)
        self.conductor.lease('two', 110)
        self.started()
        self.conductor.broken = True
        self.ticks(300)
        self.conductor.broken = False
        self.conductor.leases.clear()
        self.assertEqual({('due', 'one', 2), ('due', 'two', 2)},
                         set(self.ticks(timer.MAX_BACKOFF)))

    def off(self, since, limit=60):
        """Have the server of the lease 'one' off, seconds after START."""
        since = START + datetime.timedelta(seconds=since)
        self.servers = [{'id': 'server of one',
                         'off': (since.isoformat(), limit)}]
        self.timer.powered()

    def test_server_that_is_off_for_long_is_told_once(self):
        self.conductor.lease('one', 1000)
        self.started()
        self.off(self.wall)
        self.assertEqual([('sync', False)], self.ticks(59.5))
        self.conductor.lease('one', 1000, state='EXPIRING', generation=3)
        self.assertEqual([('off', 'one', 2, 60)], self.ticks(0.5))
        self.assertEqual([], self.ticks(2000))

    def test_server_that_is_on_again_keeps_its_lease(self):
        self.conductor.lease('one', 1000)
        self.started()
        self.off(self.wall)
        self.ticks(30)
        self.servers = []
        self.timer.powered()
        self.assertEqual([('sync', False)], self.ticks(500))

    def test_server_that_is_busy_when_it_is_off_for_long(self):
        self.conductor.lease('one', 1000)
        self.started()
        self.off(self.wall)
        self.assertEqual([('sync', False), ('off', 'one', 2, 60)],
                         self.ticks(100))
        self.timer.powered()
        self.assertEqual([('sync', False), ('off', 'one', 2, 60)],
                         self.ticks(1))

    def test_server_that_was_off_before_its_lease_began(self):
        self.conductor.lease('one', 1000)
        self.started()
        self.off(-3600)
        self.assertEqual([('sync', False)], self.ticks(59.5 - self.wall))
        self.assertEqual([('off', 'one', 2, 60)], self.ticks(0.5))

    def test_server_that_is_off_is_kept_until_conductor_hears(self):
        self.conductor.lease('one', 1000)
        self.started()
        self.off(self.wall)
        self.ticks(1)
        self.conductor.broken = True
        self.ticks(200)
        self.conductor.broken = False
        self.conductor.leases.clear()
        self.assertEqual([('off', 'one', 2, 60)],
                         self.ticks(timer.MAX_BACKOFF))

    def test_lease_that_waits_or_ends_is_not_due(self):
        self.conductor.lease('one', 1, state='BUILDING')
        self.conductor.lease('two', 1, state='EXPIRING')
        self.started()
        self.assertEqual([], self.ticks(1000))

    def test_warning_is_logged_once(self):
        logs = self.useFixture(fixtures.FakeLogger())
        self.conductor.lease('one', 200)
        self.started()
        self.ticks(200 - self.wall - 1)
        self.timer.build_finished('other', True)
        self.ticks(0.5)
        self.assertEqual(1, logs.output.count(
            'The GPU lease of server server of one ends at'))

    def test_thread_hears_at_once_and_stops(self):
        self.flags(poll_interval=60.0)
        self.timer.start()
        self.timer.build_finished('one', True)
        end = time.monotonic() + 5
        while (('build', 'one', True, None) not in self.conductor.heard and
                time.monotonic() < end):
            time.sleep(0.01)
        self.assertIn(('build', 'one', True, None), self.conductor.heard)
        self.timer.build_finished('two', True)
        self.timer.stop(5)
        self.assertIn(('build', 'two', True, None), self.conductor.heard)
        self.assertFalse(self.timer._thread.is_alive())
