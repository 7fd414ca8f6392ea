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

"""The dispatcher lock, with native threads and with eventlet."""

import threading
import time

import fixtures

from nova_gpu_lease.conductor import worker
from nova_gpu_lease.db import api as db
from tests import base


class LeaderTest(base.DatabaseTestCase):
    """The dispatcher lock in the middle of a round."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.worker.dispatches', lambda: True))
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.worker.BEAT', 0.1))

    def test_lock_is_kept_until_the_round_is_over(self):
        goes_on, runs = threading.Event(), threading.Event()

        def work(first):
            runs.set()
            goes_on.wait(30)

        leader = worker.Leader('host', '1')
        loop = worker.Loop('test', leader, _Tasks(), work)
        leader.start()
        loop.start()
        self.assertTrue(runs.wait(30))
        leader.stopping.set()
        time.sleep(0.5)
        self.assertFalse(db.lock_acquire(worker.LOCK, 'another')[0])
        goes_on.set()
        leader.join(30)
        self.assertTrue(db.lock_acquire(worker.LOCK, 'another')[0])

    def test_no_round_begins_once_the_service_stops(self):
        """Not even one that has just seen that the lock is its own."""
        leader, begun = worker.Leader('host', '1'), []
        leader._tick()
        self.assertTrue(leader.holds())
        loop = worker.Loop('test', leader, _Tasks(), begun.append)
        real = db.wake_value

        def wake_value():
            leader.stopping.set()
            leader.run()
            return real()

        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.db.api.wake_value', wake_value))
        loop._tick()
        self.assertTrue(db.lock_acquire(worker.LOCK, 'another')[0])
        self.assertEqual([], begun)

    def test_lock_of_a_holder_without_a_beat_is_taken(self):
        """No clock is asked but that of the one who takes it."""
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.worker.DEAD', 0.5))
        db.lock_acquire(worker.LOCK, 'dead')
        leader = worker.Leader('host', '1')
        leader._tick()
        self.assertFalse(leader.holds())
        time.sleep(0.6)
        # It lives: what was seen is not what is there.
        self.assertTrue(db.lock_beat(worker.LOCK, 'dead'))
        leader._tick()
        self.assertFalse(leader.holds())
        time.sleep(0.6)
        leader._tick()
        self.assertFalse(db.lock_beat(worker.LOCK, 'dead'))


class _Tasks:
    """What a Loop needs of Nova's manager."""

    def _record_task_start(self, name):
        return name

    def _record_task_end(self, key):
        pass
