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

"""What a nova-compute does about its leases, in a thread of its own.

It tells the conductor what happened on the host, keeps what could not be told
until it can be, and says when a lease has come to its end. Nothing here knows
Nova: the manager passes in what is needed of it.
"""

import collections
import dataclasses
import datetime
import threading
import time

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_gpu_lease import clock
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: Seconds after which freed devices are reported once more: Nova saves a
#: freed device before it frees the allocation in Placement, or the other way
#: round.
SETTLE = 1.0
#: The longest time between two tries of something that fails, in seconds.
MAX_BACKOFF = 10.0


class Backoff:
    """When something that failed may be tried again.

    :param first: seconds before the second try; they double with each
        further one, up to MAX_BACKOFF.
    :param monotonic: a function that returns seconds.
    """

    def __init__(self, first, monotonic):
        self._first = first
        self._monotonic = monotonic
        self.done()

    def done(self):
        self.delay = 0
        self._until = None

    def failed(self):
        self.delay = min(self.delay * 2 or self._first, MAX_BACKOFF)
        self._until = self._monotonic() + self.delay

    def ready(self):
        return self._until is None or self._monotonic() >= self._until


@dataclasses.dataclass
class Watch:
    """A lease of this host."""

    uuid: str
    server_id: str
    state: str
    generation: int
    expires_at: datetime.datetime | None
    backoff: Backoff
    warned: bool = False
    #: Until when its server may stay powered off, and the seconds that this
    #: is; None for a server that is not, or may for as long as it likes.
    off_until: datetime.datetime | None = None
    off_limit: int | None = None

    def same(self, other):
        return (other is not None and self.generation == other.generation and
                self.expires_at == other.expires_at)


class Timer:
    """The thread; ``tick`` is one round of it.

    :param rpcapi: a conductor.rpcapi.ConductorAPI.
    :param context: a function that returns the context of the calls.
    :param host: the name of this host.
    :param servers: a function that returns the servers on this host as
        sync_host of the rpcapi wants them, for such a context; 'off' is since
        when one is powered off and for how many seconds it may be, or None.
    :param free: a function that returns what is free here, a dict of a name
        to an amount; something was freed when an amount grew.
    :param conf: the group [gpu_lease].
    :param down_time: seconds without a report after which Nova holds a
        service for down.
    :param is_up: a function that tells, for such a context, whether Nova
        holds this service for up.
    :param now: a function that returns the time, aware UTC.
    :param monotonic: a function that returns seconds.
    """

    def __init__(self, rpcapi, context, host, servers, free, conf, down_time,
                 is_up, now=lambda: clock.now(),
                 monotonic=time.monotonic):
        self._rpcapi = rpcapi
        self._context = context
        self._host = host
        self._servers = servers
        self._free = free
        self._conf = conf
        self._down_time = down_time
        self._is_up = is_up
        self._now = now
        self._monotonic = monotonic

        self._builds = collections.deque()
        self._freed = threading.Event()
        self._powered = threading.Event()
        self._changed = collections.deque()
        self._leases = {}
        self._amounts = {}
        self._last_tick = None
        #: Whether the queue has heard that this host is up.
        self._announced = False
        #: Times at which the conductor is to hear that devices changed.
        self._reports = []
        self._sync_at = None
        self._build_backoff = self._backoff()
        self._change_backoff = self._backoff()
        self._up_backoff = self._backoff()
        self._sync_backoff = self._backoff()

        self._thread = None
        self._stopping = False
        self._woken = threading.Event()

    def start(self):
        """Start the thread; never waits for the conductor."""
        self._thread = threading.Thread(
            target=self._run, name='gpu-lease-timer', daemon=True)
        self._thread.start()

    def stop(self, timeout):
        """Stop the thread after one more round.

        :param timeout: the longest time to wait for it, in seconds.
        """
        self._stopping = True
        self._woken.set()
        if self._thread:
            self._thread.join(timeout)

    def build_finished(self, server_id, ok, message=None, generation=None):
        """Have the conductor told how a build ended; returns at once.

        As build_finished of the rpcapi.
        """
        self._builds.append((server_id, ok, message, generation))
        self._woken.set()

    def freed(self):
        """Have the conductor told that something was freed; returns at once.

        For what ``free`` does not show: a claim in Placement that is gone.
        """
        self._freed.set()
        self._woken.set()

    def powered(self):
        """Have it noticed that a server was powered off, or on again.

        Returns at once.
        """
        self._powered.set()
        self._woken.set()

    def server_changed(self, server_id):
        """Have the conductor told that a server came, or changed its flavor.

        Returns at once.
        """
        self._changed.append(server_id)
        self._woken.set()

    def tick(self):
        """Do everything that is due."""
        self._notice_start_and_freeze()
        self._notice_freed()
        if not self._announced:
            self._try(self._up_backoff, 'That this host is up',
                      self._announce)
        if self._builds:
            self._try(self._build_backoff, 'The end of a build',
                      self._tell_builds)
        if self._changed:
            self._try(self._change_backoff, 'The move of a server',
                      self._tell_changed)
        if self._monotonic() >= min([self._sync_at, *self._reports]):
            self._try(self._sync_backoff, 'The state of this host',
                      self._sync)
        for watch in list(self._leases.values()):
            self._look_at(watch)

    def _run(self):
        while True:
            # Nothing that is asked for during this round is missed.
            self._woken.clear()
            last = self._stopping
            try:
                self.tick()
            except Exception:
                LOG.exception('The GPU lease timer could not finish a round.')
            if last:
                return
            self._woken.wait(self._conf.poll_interval)

    def _backoff(self):
        return Backoff(self._conf.poll_interval, self._monotonic)

    def _try(self, backoff, what, call, *args):
        if not backoff.ready():
            return
        try:
            call(*args)
        except Exception as exc:
            # Once is enough until it works again.
            log = LOG.debug if backoff.delay else LOG.warning
            backoff.failed()
            log('%(what)s could not be told to nova-conductor; it is tried '
                'again until it can: %(exc)r', {'what': what, 'exc': exc})
        else:
            backoff.done()

    def _report(self, *delays):
        now = self._monotonic()
        self._reports.extend(now + delay for delay in delays)

    def _notice_start_and_freeze(self):
        """Wake the queue for a host that is up, or up again.

        A process that was stopped for long, or a machine that slept, was
        held for down; so was a host that was off. Nova holds it for up after
        its next report.
        """
        tick = self._monotonic(), self._now().timestamp()
        last, self._last_tick = self._last_tick, tick
        if last is None:
            self._sync_at = tick[0]
        elif all(new - old <= self._down_time for new, old in
                 zip(tick, last)):
            return
        else:
            LOG.info('The GPU lease timer stood still for a while.')
        self._announced = False
        self._report(0)

    def _announce(self):
        """Wake the queue once Nova holds this host for up."""
        if not self._is_up(self._context()):
            return
        self._announced = True
        self._report(0, SETTLE)

    def _notice_freed(self):
        before, self._amounts = self._amounts, self._free()
        if any(amount > before.get(name, 0)
               for name, amount in self._amounts.items()):
            self._report(0, SETTLE)
        if self._freed.is_set():
            self._freed.clear()
            self._report(0)
        if self._powered.is_set():
            self._powered.clear()
            self._sync_at = self._monotonic()

    def _tell_builds(self):
        while self._builds:
            self._rpcapi.build_finished(
                self._context(), self._host, *self._builds[0])
            self._builds.popleft()
            self._sync_at = self._monotonic()

    def _tell_changed(self):
        while self._changed:
            self._rpcapi.server_changed(self._context(), self._changed[0])
            self._changed.popleft()
            self._report(SETTLE)

    def _sync(self):
        started = self._monotonic()
        changed = any(at <= started for at in self._reports)
        context = self._context()
        servers = self._servers(context)
        leases = self._rpcapi.sync_host(
            context, self._host, servers, changed)
        self._reports = [at for at in self._reports if at > started]
        self._sync_at = started + self._conf.sync_interval
        before, self._leases = self._leases, {}
        off = {server['id']: server.get('off') for server in servers}
        for lease in leases:
            self._keep(lease, before.get(lease['uuid']))
            self._note_off(lease, off.get(lease['server_id']))

    def _keep(self, lease, before):
        watch = Watch(
            lease['uuid'], lease['server_id'], lease['state'],
            lease['generation'],
            lease['expires_at'] and
            timeutils.parse_isotime(lease['expires_at']), self._backoff())
        self._leases[watch.uuid] = before if watch.same(before) else watch

    def _note_off(self, lease, off):
        watch = self._leases[lease['uuid']]
        watch.off_until = None
        if off and lease['started_at']:
            # A lease may begin with a server that was off for long: a resize.
            since = max(map(timeutils.parse_isotime,
                            (off[0], lease['started_at'])))
            watch.off_limit = off[1]
            watch.off_until = since + datetime.timedelta(seconds=off[1])

    def _look_at(self, watch):
        if watch.state != states.LEASE_ACTIVE or watch.expires_at is None:
            return
        left = (watch.expires_at - self._now()).total_seconds()
        if left <= 0:
            self._try(watch.backoff, 'The end of lease %s' % watch.uuid,
                      self._tell_due, watch)
        elif watch.off_until is not None and watch.off_until <= self._now():
            self._try(watch.backoff, 'That the server of lease %s is off' %
                      watch.uuid, self._tell_off, watch)
        elif left <= self._conf.warn_before and not watch.warned:
            watch.warned = True
            LOG.info('The GPU lease of server %(server)s ends at %(end)s.',
                     {'server': watch.server_id,
                      'end': watch.expires_at.isoformat()})

    def _tell_off(self, watch):
        lease = self._rpcapi.lease_off(
            self._context(), watch.uuid, watch.generation, watch.off_limit)
        # If it is not off any more, or busy, the next sync will tell.
        watch.off_until = None
        self._replace(watch, lease)

    def _tell_due(self, watch):
        self._replace(watch, self._rpcapi.lease_due(
            self._context(), watch.uuid, watch.generation))

    def _replace(self, watch, lease):
        del self._leases[watch.uuid]
        if lease is not None:
            self._keep(lease, watch)
