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


"""Leases that are changed by their owners, and who may use which class."""

import datetime
import json

from nova_gpu_lease import exception
from nova_gpu_lease import policy
from tests.functional import base


class ChangeTest(base.CloudTestCase):
    """The only GPU is taken."""

    GPUS = {'host1': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        self.flags(priorities=['normal:0', 'urgent:9'], group='gpu_lease')
        # The rules come from the option.
        policy.reset()
        self.addCleanup(policy.reset)

    def change(self, server_id, api=None, **values):
        return (api or self.api).api_request(
            '/os-gpu-leases/' + server_id, method='PATCH',
            body=json.dumps({'gpu_lease': values}))

    @staticmethod
    def time(lease, name):
        return datetime.datetime.fromisoformat(lease[name])

    def test_extended_lease_goes_on(self):
        """Its compute hears of it when it says that the lease is over."""
        server = self.create('one', {'gpu_lease': '8s'})
        before = self.wait_for_lease(server, 'ACTIVE')
        response = self.change(server, duration='+6s', on_expiry='delete')
        self.assertEqual(200, response.status_code, response.text)
        now = response.json()['gpu_lease']
        self.assertEqual(14, now['duration'])
        self.assertEqual(
            datetime.timedelta(seconds=6),
            self.time(now, 'expires_at') - self.time(before, 'expires_at'))
        over = self.wait_for_lease(server, 'EXPIRED')
        self.assertEqual('deleted', over['end_action'])
        self.assertGreaterEqual(self.time(over, 'ended_at'),
                                self.time(now, 'expires_at'))
        self.assertEqual(409, self.change(
            server, duration='+1h').status_code)

    def test_extended_lease_delays_who_waits(self):
        first = self.create('first', {'gpu_lease': '1h'})
        self.wait_for_lease(first, 'ACTIVE')
        second = self.create('second')
        # At first it is not in the queue, then it is and was not planned yet.
        before = self.time(self.wait_for('an expected start', lambda: next(
            (request for request in self.queue()
             if request['expected_start']), None)), 'expected_start')
        self.assertTrue(self.lease(second)['expected_start_promised'])
        self.assertEqual(200, self.change(
            first, duration='+30m').status_code)
        self.wait_for('a later start', lambda: self.time(
            self.lease(second), 'expected_start') ==
            before + datetime.timedelta(minutes=30))

    def test_priority_of_a_waiting_request(self):
        first = self.create('first')
        self.wait_for_lease(first, 'ACTIVE')
        second, third = self.create('second'), self.create('third')
        self.wait_for('both wait', lambda: self.waiting() == [
            ['second'], ['third']])
        response = self.change(third, priority='urgent')
        self.assertEqual(403, response.status_code)
        fault = response.json()['forbidden']
        self.assertEqual('gpu_lease.priority.forbidden',
                         fault['gpu_lease_code'])
        self.assertIn('os_compute_api:os-gpu-leases:priority:urgent',
                      fault['message'])
        response = self.change(third, self.admin_api, priority='urgent')
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual([['third'], ['second']], self.waiting())
        self.assertEqual(1, self.lease(third)['position'])
        self.api.delete_server(first)
        self.wait_for_lease(third, 'ACTIVE')
        self.assertEqual('QUEUED', self.lease(second)['status'])

    def test_conductor_with_wrong_classes_does_not_start(self):
        self.flags(priorities=['normal:0', 'urgent'], group='gpu_lease')
        error = self.assertRaises(
            exception.InvalidPriorities, self.start_service, 'conductor',
            host='another')
        self.assertIn("'urgent' is not accepted", str(error))

    def test_create_in_a_class_that_is_not_for_all(self):
        body = self.body('one', {'gpu_lease': '1h',
                                 'gpu_lease_priority': 'urgent'})
        response = self.api.api_request(
            '/servers', method='POST', body=json.dumps(body))
        self.assertEqual(403, response.status_code)
        self.assertIn("'urgent'", response.json()['forbidden']['message'])
        self.assertEqual([], self.api.get_servers())
        server = self.create('one', body['os:scheduler_hints'],
                             api=self.admin_api)
        self.assertEqual('urgent', self.wait_for_lease(
            server, 'ACTIVE')['priority'])
