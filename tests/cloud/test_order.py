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


"""Who starts next, seen through the client."""

import datetime

from tests.cloud import base


def time(lease, name):
    """One of the times of a lease."""
    return datetime.datetime.fromisoformat(lease[name])


class OrderTest(base.CloudTestCase):
    """One host with two GPUs."""

    UP = {'hosts': 1, 'gpus_per_host': 2}
    SET = ('gpu_lease.turnover=20s', 'gpu_lease.preemption_grace=5s',
           'gpu_lease.priorities=normal:0,urgent:10,spare:-10:preemptible')

    def wait_expected(self, name):
        """Wait until the start of a waiting server is known; its lease."""
        return self.wait_until(
            lambda: (lambda lease: lease and lease['expected_start'] and
                     lease)(self.leases().get(name)),
            'the expected start of %s' % name)

    def test_short_lease_slips_in_front_of_a_blocked_request(self):
        self.create('first', '120s')
        self.wait_leases(first='ACTIVE')
        both = self.create('both', flavor='gpu2')
        start = time(self.wait_expected('both'), 'expected_start')
        shown = self.lease(both)
        self.assertTrue(shown['expected_start_promised'])
        self.assertIn('gpu', shown['reason'])
        self.assertEqual(
            self.leases()['first']['expires_at'][:16],
            (start - datetime.timedelta(seconds=20)).isoformat()[:16])
        # A GPU is idle for two minutes: too short for one, not for the other.
        self.create('long', project=base.BOB)
        self.create('short', '10s', project=base.BOB)
        self.wait_leases(short='ACTIVE')
        self.assertEqual({'both': 'QUEUED', 'long': 'QUEUED'}, {
            name: self.leases()[name]['status'] for name in ('both', 'long')})
        self.assertEqual(
            [(1, ['both']), (2, ['long'])],
            [(request['Position'], request['Servers'])
             for request in self.openstack(
                 'gpu lease queue list --all-projects', base.ADMIN)])
        # The printed start is met, and was not moved.
        self.wait_leases(180, both='ACTIVE')
        leases = self.leases()
        self.assertEqual('EXPIRED', leases['short']['status'])
        self.assertEqual('QUEUED', leases['long']['status'])
        self.assertLessEqual(time(leases['both'], 'started_at'), start)

    def test_preempted_server_comes_back_by_itself(self):
        spare = self.create('spare', flavor='gpu2',
                            hints=['gpu_lease_priority=spare'])
        self.wait_leases(spare='ACTIVE')
        first = self.lease(spare)
        self.create('normal', project=base.BOB)
        self.wait_until(lambda: self.leases()['spare']['preempt_at'],
                        'the owner is told')
        self.wait_leases(90, normal='ACTIVE', spare='QUEUED')
        self.assertEqual('SHELVED_OFFLOADED', self.statuses()['spare'])
        again = self.lease(spare)
        self.assertNotEqual(first['id'], again['id'])
        self.assertEqual(first['queued_at'], again['queued_at'])
        self.assertLess(again['duration'], 3600)
        over = self.openstack(['gpu', 'lease', 'show', first['id']])
        self.assertEqual(('EXPIRED', 'preempted'),
                         (over['status'], over['reason_code']))
        self.openstack('server delete normal', base.BOB, parse=False)
        self.wait_statuses(90, spare='ACTIVE')
        self.wait_leases(spare='ACTIVE')

    def test_extension_moves_a_promise_and_says_so(self):
        first = self.create('first')
        self.wait_leases(first='ACTIVE')
        self.create('both', flavor='gpu2')
        before = self.wait_expected('both')
        self.create('later', '3h', project=base.BOB)
        self.wait_expected('later')
        self.assertEqual(before['expected_start'],
                         self.leases()['both']['expected_start'])
        self.openstack(['gpu', 'lease', 'extend', first, '+30m'])
        after = self.wait_until(
            lambda: (lambda lease: lease['expected_start'] !=
                     before['expected_start'] and lease)(
                         self.leases()['both']), 'a later start')
        self.assertEqual(
            datetime.timedelta(minutes=30),
            time(after, 'expected_start') - time(before, 'expected_start'))
        self.assertIn('promised', after['reason'])
        self.openstack('server delete first', parse=False)
        self.wait_leases(90, both='ACTIVE')
