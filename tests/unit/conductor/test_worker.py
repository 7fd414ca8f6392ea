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


"""The loops of a conductor's worker, without Nova."""

import threading
from unittest import mock

from nova_gpu_lease.conductor import worker
from nova_gpu_lease.db import api as db
from tests import base


class LoopTest(base.DatabaseTestCase):
    def setUp(self):
        super().setUp()
        # Nothing comes of looking now and then.
        self.flags(poll_interval=600)
        self.leader = mock.Mock(stopping=threading.Event(), loops=[],
                                holds=lambda: True)
        self.rounds = threading.Semaphore(0)
        self.loop = worker.Loop('test', self.leader, mock.Mock(), self.work)
        self.addCleanup(self.stop)

    def work(self, first):
        self.rounds.release()

    def stop(self):
        self.leader.stopping.set()
        self.loop.woken.set()
        self.loop.join(30)

    def test_woken_loop_looks_at_once(self):
        self.loop.start()
        self.assertTrue(self.rounds.acquire(timeout=30))
        for _ in range(3):
            db.wake()
            self.loop.woken.set()
            self.assertTrue(self.rounds.acquire(timeout=30))

    def test_woken_for_nothing(self):
        self.loop.start()
        self.assertTrue(self.rounds.acquire(timeout=30))
        self.loop.woken.set()
        self.assertFalse(self.rounds.acquire(timeout=0.3))

    def test_woken_during_a_round(self):
        def work(first):
            if first:
                db.wake()
                self.loop.woken.set()
            self.rounds.release()

        self.loop.function = work
        self.loop.start()
        for _ in range(2):
            self.assertTrue(self.rounds.acquire(timeout=30))
