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

"""The threads of a conductor worker that dispatch and end leases.

Every worker of every conductor with [api_database] runs them, started after
the fork. One of them all holds the lock in our database and works; the others
watch its beat.
"""

import os
import socket
import threading
import time

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_gpu_lease import clock
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db

LOG = logging.getLogger(__name__)

LOCK = 'dispatcher'
#: Seconds between two beats of the holder.
BEAT = 1.0
#: Seconds without a beat, by the watcher's own monotonic clock, after which
#: the holder counts as dead. Well over a pause of the database.
DEAD = 6.0
#: Seconds between two notes in the table of conductors.
NOTE = 10.0


class Leader(threading.Thread):
    """Holds, or tries to get, the dispatcher lock."""

    def __init__(self, host, version):
        """:param host: the name of this service's host.

        :param version: the version of this package.
        """
        super().__init__(name='gpu-lease-leader', daemon=True)
        self.host = host
        self.version = version
        self.owner = '%s:%d:%s' % (socket.gethostname(), os.getpid(),
                                   uuidutils.generate_uuid())
        self.stopping = threading.Event()
        #: The Loops that work while the lock is ours.
        self.loops = []
        self._beat_at = None
        self._seen = None
        self._seen_at = 0.0
        self._noted_at = None

    def holds(self):
        """Whether the lock is ours, and surely nobody else's."""
        beat_at = self._beat_at
        return beat_at is not None and time.monotonic() - beat_at < DEAD - 2

    def _working(self):
        return any(loop.working for loop in self.loops)

    def run(self):
        while not self.stopping.is_set() or self._working():
            try:
                self._tick()
            except Exception:
                LOG.exception('The GPU lease database does not answer.')
                # Whoever holds the lock could not beat either.
                self._seen = None
            if self.stopping.wait(BEAT):
                # A round that still runs is not to be taken over.
                time.sleep(min(BEAT, 0.2))
        try:
            db.lock_release(LOCK, self.owner)
        except Exception:
            LOG.exception('The dispatcher lock could not be released.')

    def _tick(self):
        now = time.monotonic()
        if self._noted_at is None or now - self._noted_at > NOTE:
            db.conductor_beat(self.host, self.version, dispatches())
            self._noted_at = now
        if not dispatches():
            return
        if self._beat_at is None and self.stopping.is_set():
            return
        if self._beat_at is not None:
            if db.lock_beat(LOCK, self.owner):
                self._beat_at = now
                return
            LOG.warning('The dispatcher lock was taken by somebody else.')
            self._beat_at = None
        dead = self._seen is not None and now - self._seen_at > DEAD
        ours, seen = db.lock_acquire(LOCK, self.owner, observed=self._seen,
                                     takeover=dead)
        if ours:
            LOG.info('This process dispatches GPU requests from now on.')
            self._beat_at = now
            self._seen = None
        elif seen != self._seen:
            self._seen, self._seen_at = seen, now


class Loop(threading.Thread):
    """Calls a function when something happened, or when it is time."""

    def __init__(self, name, leader, manager, function):
        """:param leader: a Leader; only its holder works.

        :param manager: Nova's manager, to register running work with.
        :param function: called with whether this is the first call since the
            lock was got; returns an aware datetime at which to be called
            again at the latest, or None.
        """
        super().__init__(name='gpu-lease-%s' % name, daemon=True)
        self.leader = leader
        self.manager = manager
        self.function = function
        self.working = False
        #: Set it to have the next look at the counter now.
        self.woken = threading.Event()
        self._seen = None
        self._again_at = None
        leader.loops.append(self)

    def run(self):
        while not self.leader.stopping.is_set():
            # Before the look: what comes during it is not missed.
            self.woken.clear()
            try:
                self._tick()
            except Exception:
                LOG.exception('%s failed and is repeated.', self.name)
                # What woke it is still to be done.
                self._seen = None
                self.leader.stopping.wait(1.0)
            self.woken.wait(CONF.gpu_lease.poll_interval)

    def _tick(self):
        if not self.leader.holds():
            self._seen = None
            return
        value = db.wake_value()
        due = self._again_at is not None and clock.now() >= self._again_at
        if value == self._seen and not due:
            return
        # First, and then the question: the leader, who asks the other way
        # round, gives the lock back either before this round or after it.
        self.working = True
        try:
            if not self.leader.stopping.is_set():
                self._work(value)
        finally:
            self.working = False

    def _work(self, value):
        first, self._seen = self._seen is None, value
        key = self.manager._record_task_start(self.name)
        try:
            self._again_at = self.function(first)
        finally:
            self.manager._record_task_end(key)


def dispatches():
    """Whether this process may dispatch: it can read the API database."""
    return bool(CONF.api_database.connection)
