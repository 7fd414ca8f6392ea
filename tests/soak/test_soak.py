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

"""Rounds of everything at once, and what has to hold after each.

``SOAK_SEED`` repeats the choices of a run (not its timing), ``SOAK_SECONDS``
is how long it goes on, ``CLOUD_KEEP`` is a directory that gets the services'
logs and the guests when it fails.
"""

import datetime
import os
import random
import sys
import time

from testtools import content

from tests.cloud import base
from tests.cloud import ledger
from tests.soak import actions

SEED = int(os.environ.get('SOAK_SEED') or random.SystemRandom().randrange(
    10 ** 6))
SECONDS = float(os.environ.get('SOAK_SECONDS') or 1800)
#: Seconds after the last action until all has to be in order: an RPC whose
#: server was killed is waited for, and then tried again.
SETTLE = 180
#: Seconds after which the operator clears away what Nova, and no lease, has
#: left busy for ever.
OPERATOR = 45


def say(text):
    print(time.strftime('%H:%M:%S'), text, file=sys.stderr, flush=True)


class SoakTest(base.CloudTestCase):

    UP = {'hosts': 3, 'gpus_per_host': 2, 'conductors': 2,
          'pci_in_placement': SEED % 2 == 1}
    SET = (
        # The net of the product, for events that die with a service.
        'gpu_lease.dispatch_interval=1m', 'gpu_lease.sync_interval=1m',
        'gpu_lease.build_timeout=40s', 'gpu_lease.expiry_retry_interval=2s',
        'gpu_lease.expiry_timeout=15s', 'gpu_lease.end_when_off=20s',
        'DEFAULT.rpc_response_timeout=15',
        'DEFAULT.long_rpc_timeout=60', 'conductor.workers=2',
        # Nova's own net for servers deleted while their host was down.
        'DEFAULT.running_deleted_instance_poll_interval=10')

    def test_soak(self):
        say('SOAK_SEED=%d' % SEED)
        self.rng = random.Random(SEED)
        self.actions = actions.Actions(self.cloud, self.rng)
        self.addOnException(self._report)
        end = time.monotonic() + SECONDS
        self.leaks = set()
        number, longest = 0, 0
        while number == 0 or time.monotonic() < end:
            number += 1
            longest = max(longest, self._round(number))
        say('%d rounds, %s; the longest took %.0f s to settle; %d '
            'allocations that Nova itself leaked were removed.' % (
                number, dict(self.actions.count), longest, len(self.leaks)))

    def _round(self, number):
        """Act, let it settle, and check.

        :returns: the seconds that it took to settle.
        """
        self.told = []
        for _ in range(self.rng.randint(15, 35)):
            self._tell(self.actions.one())
            self._check_now()
            time.sleep(self.rng.uniform(0, 1.5))
        for name in list(self.actions.down):
            self.actions.start_one()
            self._tell('started %s' % name)
        self.actions.finish_moves()
        self.cloud.fail_next('spawn', count=0)
        self.cloud.fail_next('snapshot', count=0)
        seconds = self._settle()
        say('Round %d: %d actions, settled in %.0f s, %d servers.' % (
            number, len(self.told), seconds,
            len(ledger.Ledger(self.cloud).servers)))
        return seconds

    def _tell(self, text):
        self.told.append('%s %s' % (
            datetime.datetime.now(datetime.timezone.utc).strftime('%H:%M:%S'),
            text))

    def _check_now(self):
        problems = ledger.Ledger(self.cloud).shared_devices()
        self.assertEqual([], problems)

    def _settle(self):
        begun = time.monotonic()
        cleared = set()
        back = datetime.datetime.now(
            datetime.timezone.utc).replace(tzinfo=None)
        while True:
            look = ledger.Ledger(self.cloud)
            self.assertEqual([], look.overdue(back))
            problems = look.all(back)
            if not problems:
                return time.monotonic() - begun
            is_time = time.monotonic() - begun > OPERATOR
            leaked = look.leaked_by_nova()
            if is_time:
                leaked += look.lost_by_nova()
            for server_id in leaked:
                if server_id not in self.leaks:
                    self.leaks.add(server_id)
                    self._tell('leaked by Nova, deleted: %s' %
                               self.actions.remove_leak(server_id))
            if is_time:
                for server in look.abandoned():
                    if server.id not in cleared:
                        cleared.add(server.id)
                        self._tell('cleared: %s' %
                                   self.actions.clear(server.id))
            if time.monotonic() - begun > SETTLE:
                self.fail('After %d seconds:\n%s' % (
                    SETTLE, '\n'.join(problems)))
            time.sleep(1)

    def _report(self, exc_info):
        try:
            found = ledger.Ledger(self.cloud).told()
        except Exception as exc:
            # Raised from here it would end the runner, and the test would
            # count as passed.
            found = 'The tables could not be read: %r' % exc
        text = '\n'.join([
            'SOAK_SEED=%d' % SEED, *getattr(self, 'told', ()),
            str(exc_info[1]), found])
        say(text)
        self.addDetail('soak', content.text_content(text))
