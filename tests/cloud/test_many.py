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

"""Two conductors with three workers each: who dispatches when one dies.

``MANY_REQUESTS`` is the number of requests in the long test, ``MANY_SEED``
repeats the choices of a run.
"""

import collections
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

from nova_gpu_lease.devcloud import rest
from tests.cloud import base
from tests.cloud import ledger

SEED = int(os.environ.get('MANY_SEED') or random.SystemRandom().randrange(
    10 ** 6))
REQUESTS = int(os.environ.get('MANY_REQUESTS') or 300)
HOSTS, GPUS = 5, 8
CONDUCTORS = ('nova-conductor-1', 'nova-conductor-2')
#: What this package promises.
TAKEOVER = 10
#: Seconds between two conductors that are killed.
KILL_EVERY = 5
#: Seconds of a graceful shutdown, as a devcloud sets it.
GRACE = 34
#: The first one's clock is ahead in the test of clocks.
HOSTS_APART = ('host1', 'host2')
#: Seconds of a lease that may pass before it is seen, or after.
UNSEEN = 2


def say(text):
    print(time.strftime('%H:%M:%S'), text, file=sys.stderr, flush=True)


class ManyTest(base.CloudTestCase):

    UP = {'hosts': HOSTS, 'gpus_per_host': GPUS, 'conductors': 2}
    SET = ('conductor.workers=3', 'quota.instances=-1', 'quota.cores=-1',
           'quota.ram=-1', 'gpu_lease.max_waiting_per_project=-1',
           # For events that die with a conductor.
           'gpu_lease.dispatch_interval=15s',
           'gpu_lease.sync_interval=15s', 'gpu_lease.build_timeout=1m',
           'gpu_lease.expiry_retry_interval=2s',
           # A compute that asked a conductor that was killed asks again.
           'DEFAULT.rpc_response_timeout=10',
           # Nova itself compares the clocks of hosts: half of it may go.
           'DEFAULT.service_down_time=60')

    def setUp(self):
        super().setUp()
        self.alice = rest.client(self.cloud.state, base.ALICE)
        self.image = self.alice.get(
            'glance', '/v2/images?name=tiny')['images'][0]['id']
        self.addCleanup(self._all_run)

    def _all_run(self):
        for name in self.cloud.services():
            self.cloud.start(name)

    def quick_create(self, name, lease='1h', flavor='gpu', host=None):
        """Create a server without the client's start-up; its id.

        :param host: where it has to be; an administrator creates it then.
        """
        client = self.admin if host else self.alice
        place = {'availability_zone': 'nova:' + host} if host else {}
        return client.post('nova', '/v2.1/servers', {
            'server': {'name': name, 'imageRef': self.image,
                       'flavorRef': flavor, 'networks': 'none', **place},
            'os:scheduler_hints': {
                'gpu_lease': lease,
                'gpu_lease_on_expiry': 'delete'}})['server']['id']

    def holder(self):
        """The conductor that holds the lock, and the lock's owner."""
        owner, = self.query('SELECT owner FROM locks')[0]
        pid = int(owner.split(':')[1]) if owner else None
        for name in CONDUCTORS:
            if pid in [process.pid for process in
                       self.cloud.processes.find(name)]:
                return name, owner
        return None, owner

    def wait_holder(self):
        return self.wait_until(lambda: self.holder()[0], 'a dispatcher')

    def states(self):
        """{state: number of leases} and {state: number of requests}."""
        return [collections.Counter(dict(self.query(
            'SELECT state, COUNT(*) FROM %s GROUP BY state' % table)))
            for table in ('leases', 'requests')]

    def wait_in_order(self):
        """Wait until nothing is wrong."""
        end = time.monotonic() + 120
        while True:
            back = ledger.Ledger(self.cloud)
            problems = back.all(back.now)
            if not problems:
                return back
            if time.monotonic() > end:
                self.fail('\n'.join(problems) + '\n' + back.told())
            time.sleep(1)

    # The lock

    def test_other_conductor_takes_over(self):
        for _ in range(2):
            name = self.wait_holder()
            owner = self.holder()[1]
            server = self.quick_create('warm')
            self.wait_leases(warm='ACTIVE')
            begun = time.monotonic()
            self.cloud.stop(name, kill=True)
            self.wait_until(lambda: self.holder()[1] != owner and
                            self.holder()[0], 'another dispatcher')
            seconds = time.monotonic() - begun
            say('The other conductor took over after %.1f s.' % seconds)
            self.assertLess(seconds, TAKEOVER)
            # And it does dispatch.
            self.quick_create('next')
            self.wait_leases(next='ACTIVE')
            self.cloud.start(name)
            for server in self.alice.get('nova', '/v2.1/servers')['servers']:
                self.alice.request('nova', 'DELETE', '/v2.1/servers/%s' %
                                   server['id'])
            self.wait_until(lambda: not self.alice.get(
                'nova', '/v2.1/servers')['servers'], 'deleted servers')
        self.wait_in_order()

    # SIGTERM

    def _wait_dispatching(self):
        """The id of a server that is being dispatched."""
        return self.wait_until(lambda: self.query(
            'SELECT l.server_id FROM leases l JOIN requests r '
            "ON r.id = l.request_id WHERE r.state = 'DISPATCHING'"),
            'a dispatch')[0][0]

    def _terminate(self, name):
        """SIGTERM; return the seconds until its processes are gone."""
        processes = self.cloud.processes
        begun = time.monotonic()
        processes.signal([processes.leader(name)], signal.SIGTERM)
        self.wait_until(lambda: not processes.leader(name),
                        '%s gone' % name, 60)
        return time.monotonic() - begun

    def _hang_in_dispatch(self):
        """Have three requests of which the first is stuck in its dispatch.

        They come while no survey is answered, since nova-api asks for the
        image, too. The dispatcher asks for it once a request is DISPATCHING.

        :returns: (ids of the servers, id of that one, a function that lets
            it go on).
        """
        survey = self.freeze('nova-scheduler')
        servers = [self.quick_create('t%d' % number) for number in range(3)]
        self.wait_until(lambda: self.states()[1]['QUEUED'] == 3,
                        'all are queued')
        thaw = self.freeze('glance')
        survey()
        return servers, self._wait_dispatching(), thaw

    def _placed_by(self, servers):
        """{server id: the conductor that first placed its request}."""
        rows = self.query(
            'SELECT l.server_id, h.actor FROM history h '
            'JOIN requests r ON r.uuid = h.request_uuid '
            'JOIN leases l ON l.request_id = r.id '
            "WHERE h.lease_uuid IS NULL AND h.new_state = 'PLACED' "
            'ORDER BY h.id DESC')
        # It may be placed once more: what a nova-compute asks a conductor
        # that ends just then is lost, and then the build is given up.
        return {server: 'nova-conductor-' + host.removeprefix('conductor')
                for server, host in rows if server in servers}

    def _assert_started(self, name, servers):
        """All start, each once, though a conductor was terminated."""
        self.wait_leases(**{'t%d' % number: 'ACTIVE' for number in range(3)})
        self.assert_each_once(servers)
        self.cloud.start(name)
        self.wait_in_order()

    def test_sigterm_lets_a_dispatch_finish(self):
        name = self.wait_holder()
        servers, dispatched, thaw = self._hang_in_dispatch()
        timer = threading.Timer(2, thaw)
        timer.start()
        self.addCleanup(timer.join)
        seconds = self._terminate(name)
        say('%s ended %.1f s after SIGTERM.' % (name, seconds))
        self.assertGreater(seconds, 2)
        self.assertLess(seconds, GRACE)
        self.assertEqual(name, self._placed_by(servers).get(dispatched))
        self._assert_started(name, servers)

    def test_sigterm_hands_a_dispatch_over(self):
        name = self.wait_holder()
        servers, _, thaw = self._hang_in_dispatch()
        seconds = self._terminate(name)
        say('%s ended %.1f s after SIGTERM.' % (name, seconds))
        self.assertLess(seconds, GRACE)
        self.assertEqual({}, self._placed_by(servers))
        thaw()
        self._assert_started(name, servers)
        other = CONDUCTORS[CONDUCTORS[0] == name]
        self.assertEqual(dict.fromkeys(servers, other),
                         self._placed_by(servers))

    # Clocks

    def _skew(self, name, seconds):
        """Restart a service with a clock that is fast by some seconds."""
        library = self.cloud.state.path('skew.so')
        if not library.exists():
            subprocess.run(
                ['gcc', '-shared', '-fPIC', '-O1', '-o', library,
                 pathlib.Path(__file__).with_name('skew.c'), '-ldl'],
                check=True)
        service = self.cloud.service(name)
        service.env.update(LD_PRELOAD=str(library),
                           CLOCK_SKEW_SECONDS=str(seconds))
        processes = self.cloud.processes
        processes.stop(self.cloud.service(name))
        processes.start(service)
        processes.wait_ready(service)
        self.addCleanup(self.cloud.restart, name)

    def _watch(self, names, *statuses, timeout=60):
        """Wait until the leases of servers have, or had, one of statuses.

        :returns: {name: when it was seen first, by our monotonic clock}.
        """
        seen = {}

        def look():
            found = self.leases()
            for name in names:
                if found.get(name, {}).get('status') in statuses:
                    seen.setdefault(name, time.monotonic())
            return len(seen) == len(names)

        self.wait_until(look, lambda: '%s of %s' % (seen, statuses), timeout)
        return seen

    def _hosts_of(self, servers):
        """The hosts of the leases of servers, as a set."""
        return {host for host, server in self.query(
            'SELECT host, server_id FROM leases') if server in servers}

    def test_clocks_half_a_minute_apart(self):
        """One conductor and one host are ahead of all the others."""
        self._skew(CONDUCTORS[0], 30)
        self._skew('nova-compute-' + HOSTS_APART[0], 30)
        for number in range(2):
            name = self.wait_holder()
            other = CONDUCTORS[CONDUCTORS[0] == name]
            names = ['c%d%d' % (number, each) for each in range(8)]
            begun = time.monotonic()
            ids = [self.quick_create(each, '60s', host=host) for each, host
                   in zip(names, (*HOSTS_APART, *[None] * 6))]
            seen = self._watch(names, 'ACTIVE')
            say('8 servers started in %.1f s, by %s.' % (
                time.monotonic() - begun, name))
            trusts = self.query(
                'SELECT COUNT(*) FROM requests r JOIN leases l '
                'ON l.request_id = r.id WHERE r.trust_id IS NOT NULL '
                "AND l.state = 'ACTIVE'")
            self.assertEqual(((8,),), tuple(trusts))
            self.assertLessEqual(set(HOSTS_APART), self._hosts_of(ids))
            # On each host they have their time, by any clock.
            over = self._watch(names, 'EXPIRING', 'EXPIRED', timeout=120)
            seconds = {each: over[each] - seen[each] for each in names}
            self.assertGreater(min(seconds.values()), 60 - UNSEEN, seconds)
            self.assertLess(max(seconds.values()), 60 + 25, seconds)
            self.wait_leases(**dict.fromkeys(names, 'EXPIRED'))
            self.assert_each_once(ids)
            # The other one's clock is as good.
            self.cloud.stop(name, kill=True)
            self.wait_until(lambda: self.holder()[0] == other,
                            'the other one dispatches', TAKEOVER)
            self._skew(name, 30 * (name == CONDUCTORS[0]))
        self.wait_in_order()

    # The long one

    def test_many_requests_while_conductors_are_killed(self):
        say('MANY_SEED=%d MANY_REQUESTS=%d' % (SEED, REQUESTS))
        rng = random.Random(SEED)
        first = self.query('SELECT COALESCE(MAX(id), 0) FROM leases')[0][0]
        begun = time.monotonic()
        servers = [self.quick_create('m%03d' % number, '10s')
                   for number in range(REQUESTS)]
        # A cast whose conductor dies before it is written down is lost to
        # anybody: how that is found is another test's.
        self.wait_until(lambda: self.query(
            'SELECT COUNT(*) FROM leases WHERE id > %s', first)[0][0] ==
            REQUESTS, 'all are queued')
        say('%d requests queued after %.0f s.' % (
            REQUESTS, time.monotonic() - begun))
        kills = self._kill_until(rng, lambda: self.query(
            "SELECT COUNT(*) FROM leases WHERE id > %s AND "
            "state IN ('QUEUED', 'BUILDING')", first)[0][0] == 0)
        say('All had started after %.0f s and %d kills.' % (
            time.monotonic() - begun, kills))
        self._all_run()
        self.wait_until(lambda: self.query(
            'SELECT COUNT(*) FROM leases WHERE id > %s AND '
            'current_server_id IS NOT NULL', first)[0][0] == 0,
            'all are over', 180)
        say('All were over after %.0f s.' % (time.monotonic() - begun))
        look = self.wait_in_order()
        self.assertEqual(
            [('EXPIRED', 'deleted', REQUESTS)], self.query(
                'SELECT state, end_action, COUNT(*) FROM leases '
                'WHERE id > %s GROUP BY state, end_action', first))
        self.assert_each_once(servers)
        self._assert_order(first)
        self.assertEqual(HOSTS * GPUS, sum(
            status == 'available' for _, _, status, _ in look.devices))

    def _kill_until(self, rng, done):
        """Kill one of the conductors again and again until all is done.

        It is started again at once. The next kill is after KILL_EVERY
        seconds, or when it serves again if that is later, so that it is one
        of them that dies and never both.

        :returns: how many were killed.
        """
        kills, end = 0, time.monotonic() + 60 + 15 * REQUESTS
        while not done():
            if time.monotonic() > end:
                self.fail('%s after %d kills' % (self.states(), kills))
            begun = time.monotonic()
            name = rng.choice(CONDUCTORS)
            self.cloud.stop(name, kill=True)
            self.cloud.start(name)
            kills += 1
            self.assertEqual([], ledger.Ledger(self.cloud).shared_devices())
            if kills % 10 == 0:
                say('%d kills: %s' % (kills, self.states()))
            time.sleep(max(0, begun + KILL_EVERY - time.monotonic()))
        return kills

    def _assert_order(self, first):
        """They were all alike: they were begun in the order they came.

        That is the order of the requests; leases of requests that come at
        the same moment may be numbered otherwise.
        """
        begun = [row[0] for row in self.query(
            'SELECT l.request_id FROM history h JOIN leases l '
            "ON l.uuid = h.lease_uuid WHERE h.new_state = 'BUILDING' "
            'AND l.id > %s GROUP BY l.request_id ORDER BY MIN(h.id)', first)]
        self.assertEqual(sorted(begun), begun)
