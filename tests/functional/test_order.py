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


"""Who starts next: backfill, promises, priority classes, preemption."""

from oslo_serialization import jsonutils
from oslo_utils import timeutils

from nova_gpu_lease import policy
from tests.functional import base

CLASSES = ['normal:0', 'urgent:10', 'spare:-10:preemptible']


class OrderCases:
    """One host with two GPUs, in both ways that Nova counts devices."""

    GPUS = {'host1': {'gpu': 2}}
    #: What is allowed for between two leases; far more than is needed.
    TURNOVER = 10

    def _setup_services(self):
        self.flags(group='gpu_lease', priorities=CLASSES,
                   turnover='%ds' % self.TURNOVER, preemption_grace='3s',
                   expiry_attempts=2)
        # The rules come from the option.
        policy.reset()
        self.addCleanup(policy.reset)
        super()._setup_services()

    def running(self, name, *args, **kwargs):
        server = self.create(name, *args, **kwargs)
        self.wait_for_lease(server, 'ACTIVE')
        return server

    def waits(self, name, *args, **kwargs):
        """A server that waits, and whose expected start is known."""
        server = self.create(name, *args, **kwargs)
        self.wait_for_lease(server, 'QUEUED')
        self.wait_for(lambda: self.lease(server),
                      lambda: self.lease(server)['expected_start'])
        return server

    def time(self, server, name):
        """One of the times of the lease of a server."""
        return timeutils.parse_isotime(self.lease(server)[name])

    def change(self, server, **values):
        return self.api.api_request(
            '/os-gpu-leases/%s' % server, method='PATCH',
            body=jsonutils.dumps({'gpu_lease': values}))

    def test_short_lease_slips_in_front_and_a_longer_one_does_not(self):
        first = self.running('first', {'gpu_lease': '50s'})
        both = self.waits('both', flavor=self.flavor('gpu:2'))
        promised = self.lease(both)
        self.assertTrue(promised['expected_start_promised'])
        start = self.time(both, 'expected_start')
        self.assertLess(abs((
            start - self.time(first, 'expires_at')
        ).total_seconds() - self.TURNOVER), 2)
        long = self.waits('long')
        self.assertFalse(self.lease(long)['expected_start_promised'])
        short = self.running('short', {'gpu_lease': '8s'})
        self.assertEqual([['both'], ['long']], self.waiting())
        self.wait_for_status(both, 'ACTIVE', 120)
        self.wait_for_lease(both, 'ACTIVE')
        self.assertLessEqual(self.time(both, 'started_at'), start)
        self.assertEqual('EXPIRED', self.lease(short)['status'])
        self.assertEqual([['long']], self.waiting())
        self.assert_no_leaks()

    def test_promise_moves_for_nobody_but_its_reasons(self):
        first = self.running('first')
        both = self.waits('both', flavor=self.flavor('gpu:2'))
        start = self.lease(both)['expected_start']
        for number in range(3):
            # Too long to slip in, before and after what is to come.
            self.waits('later-%d' % number, {'gpu_lease': '3h'})
        lease = self.lease(both)
        self.assertEqual((start, True, 1), (
            lease['expected_start'], lease['expected_start_promised'],
            lease['position']))
        # Its owner may go on; whoever waits is told.
        self.assertEqual(200, self.change(
            first, duration='+10m').status_code)
        before = timeutils.parse_isotime(start)
        self.wait_for(
            lambda: self.lease(both),
            lambda: self.time(both, 'expected_start') > before)
        self.assertEqual(600, (
            self.time(both, 'expected_start') - before).total_seconds())
        self.assertIn('promised', self.lease(both)['reason'])
        # An early end counts at once.
        self.api.delete_server(first)
        self.wait_for_status(both, 'ACTIVE')

    def test_higher_class_goes_first(self):
        first = self.running('first', flavor=self.flavor('gpu:2'))
        normal = self.waits('normal', flavor=self.flavor('gpu:2'))
        urgent = self.waits(
            'urgent', {'gpu_lease': '1h', 'gpu_lease_priority': 'urgent'},
            self.flavor('gpu:2'), self.admin_api)
        self.wait_for(lambda: self.queue(), lambda: [
            request['server_names'] for request in
            self.queue('?all_projects=1', self.admin_api)
        ] == [['urgent'], ['normal']])
        self.api.delete_server(first)
        self.wait_for_status(urgent, 'ACTIVE')
        self.assertEqual('QUEUED', self.lease(normal)['status'])
        self.admin_api.delete_server(urgent)
        self.wait_for_status(normal, 'ACTIVE')

    def spare(self, name, **hints):
        """A preemptible server that has all devices."""
        return self.running(
            name, {'gpu_lease': '1h', 'gpu_lease_priority': 'spare', **hints},
            self.flavor('gpu:2'))

    def test_preempted_server_comes_back(self):
        spare = self.spare('spare', gpu_lease_on_expiry='delete')
        old = self.lease(spare)
        normal = self.create('normal')
        self.wait_for(lambda: self.lease(spare),
                      lambda: self.lease(spare)['preempt_at'])
        self.assertIn('makes room', self.lease(spare)['reason'])
        self.wait_for_status(normal, 'ACTIVE')
        self.wait_for_status(spare, 'SHELVED_OFFLOADED')
        over, = [lease for lease in self.leases(
            '?server_id=%s' % spare) if lease['id'] == old['id']]
        self.assertEqual(('EXPIRED', 'shelved', 'preempted'), (
            over['status'], over['end_action'], over['reason_code']))
        lease = self.wait_for_lease(spare, 'QUEUED')
        self.assertNotEqual(old['id'], lease['id'])
        self.assertEqual(old['queued_at'], lease['queued_at'])
        self.assertLess(3000, lease['duration'])
        self.assertLess(lease['duration'], 3600)
        self.wait_for('the task', lambda: self.api.get_server(spare)[
            'OS-EXT-STS:task_state'] == 'unshelving')
        self.api.delete_server(normal)
        self.wait_for_status(spare, 'ACTIVE')
        self.assertEqual(lease['id'],
                         self.wait_for_lease(spare, 'ACTIVE')['id'])
        self.assert_no_leaks()


class OrderTest(OrderCases, base.CloudTestCase):

    def test_preemption_that_is_not_needed_any_more(self):
        self.flags(preemption_grace='1h', group='gpu_lease')
        spare = self.spare('spare', gpu_lease='3h')
        normal = self.create('normal')
        self.wait_for(lambda: self.lease(spare),
                      lambda: self.lease(spare)['preempt_at'])
        self.api.delete_server(normal)
        self.wait_for(lambda: self.lease(spare),
                      lambda: not self.lease(spare)['preempt_at'])
        lease = self.lease(spare)
        self.assertEqual(('ACTIVE', None), (lease['status'],
                                            lease['reason']))

    def test_server_that_cannot_be_shelved_goes_on(self):
        spare = self.spare('spare')
        self.api.post_server_action(spare, {'lock': None})
        normal = self.create('normal')
        self.wait_for(lambda: self.lease(spare), lambda: self.lease(spare)[
            'reason_code'] == 'preemption_failed')
        lease = self.lease(spare)
        self.assertIn('locked', lease['reason'])
        self.assertEqual(('ACTIVE', None), (lease['status'],
                                            lease['preempt_at']))
        self.assertEqual('QUEUED', self.lease(normal)['status'])

    def test_return_of_a_preempted_server_can_be_cancelled(self):
        spare = self.spare('spare')
        normal = self.running('normal', flavor=self.flavor('gpu:2'))
        self.wait_for_lease(spare, 'QUEUED')
        self.assertEqual(204, self.api.api_request(
            '/os-gpu-leases/%s' % spare, method='DELETE').status_code)
        self.wait_for('no task', lambda: self.api.get_server(spare)[
            'OS-EXT-STS:task_state'] is None)
        self.api.delete_server(normal)
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.assertEqual('SHELVED_OFFLOADED', self.status(spare))
        # It has all of its time when its owner wants it back.
        self.api.post_server_action(spare, {'unshelve': None})
        self.wait_for_status(spare, 'ACTIVE')
        self.assertEqual(3600, self.lease(spare)['duration'])


class OrderPlacementTest(OrderCases, base.CloudTestCase):
    PCI_IN_PLACEMENT = True
