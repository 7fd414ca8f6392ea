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


import fixtures

from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import states
from tests.unit.api import base


class QueueTestCase(base.APITestCase):

    def setUp(self):
        super().setUp()
        self.first = self.queue(1, project_id=base.OTHER_PROJECT)
        self.gang = self.queue(3)
        self.other = self.queue(1, queue_group='nic')
        self.last = self.queue(1)

    def names(self, query='', **kwargs):
        answer = self.send('/os-gpu-leases/queue' + query, **kwargs)
        self.assertEqual(200, answer.status_int, answer.text)
        return [request['server_names']
                for request in answer.json['gpu_queue']]

    def test_queue_fields(self):
        db_api.request_set(self.gang, reason='No free device',
                           reason_code='devices')
        shown = self.send('/os-gpu-leases/queue').json['gpu_queue'][0]
        self.assertTrue(shown.pop('queued_at').endswith('Z'))
        self.assertEqual({
            'id': self.gang.uuid, 'position': 2, 'kind': 'create',
            'server_ids': ['5e%034d' % i for i in (1, 2, 3)],
            'server_names': ['s1', 's2', 's3'], 'num_servers': 3,
            'project_id': base.PROJECT, 'user_id': 'user',
            'devices': {'gpu': 1}, 'priority': 'normal', 'wait_until': None,
            'expected_start': None, 'expected_start_promised': False,
            'attempts': 0, 'reason': 'No free device',
            'reason_code': 'devices'}, shown)

    def test_queue_in_its_order(self):
        self.flags(priorities=['normal:0', 'urgent:9'])
        db_api.request_set(self.last, priority='urgent')
        db_api.request_set(self.other, promise={'start': None, 'nodes': {}})
        self.assertEqual([['s5'], ['s4'], ['s1', 's2', 's3']], self.names())
        self.assertEqual([['s1', 's2', 's3']],
                         self.names('?marker=' + self.other.uuid))
        shown = self.send('/os-gpu-leases/queue').json['gpu_queue']
        self.assertEqual([1, 1, 3], [r['position'] for r in shown])

    def test_queue_by_fair_share(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.shares.FairShare.factors',
            lambda share, now: {base.PROJECT: 0.3, base.OTHER_PROJECT: 0.2}))
        # It had more, so it is behind; a project that had nothing is first.
        self.queue(1, project_id='cc')
        self.assertEqual(
            [['s6'], ['s1', 's2', 's3'], ['s4'], ['s5'], ['s0']],
            self.names('?all_projects=true', context=self.admin()))
        shown = self.send('/os-gpu-leases/queue?all_projects=1').json
        self.assertEqual([1, 2, 1, 3, 4], [
            request['position'] for request in shown['gpu_queue']])

    def test_queue_positions_are_global_in_group(self):
        shown = self.send('/os-gpu-leases/queue').json['gpu_queue']
        self.assertEqual([2, 1, 3], [r['position'] for r in shown])

    def test_queue_projects(self):
        mine = [['s1', 's2', 's3'], ['s4'], ['s5']]
        self.assertEqual(mine, self.names())
        self.assertEqual([], self.names(context=self.admin()))
        self.assertEqual([['s0']] + mine, self.names('?all_projects=true'))

    def test_queue_leaves_out_what_started(self):
        db_api.request_transition(
            self.gang, states.REQUEST_DISPATCHING, 'host',
            lease_state=states.LEASE_BUILDING)
        self.assertEqual([['s4'], ['s5']], self.names())

    def test_queue_pages(self):
        page = self.send('/os-gpu-leases/queue?limit=1').json
        self.assertEqual(
            'http://cloud.example/v2.1/os-gpu-leases/queue?limit=1&marker=' +
            self.gang.uuid, page['gpu_queue_links'][0]['href'])
        query = '?limit=1&marker=' + self.gang.uuid
        self.assertEqual([['s4']], self.names(query))
        # Its place is still known when it has started in between.
        db_api.request_transition(
            self.gang, states.REQUEST_DISPATCHING, 'host')
        self.assertEqual([['s4']], self.names(query))
        query = '?marker=' + self.last.uuid
        self.assertEqual([], self.names(query))

    def test_queue_marker_unknown(self):
        for marker in ('x', self.first.uuid):
            self.assertEqual(
                'gpu_lease.marker_not_found',
                self.error(
                    self.send('/os-gpu-leases/queue?marker=' + marker),
                    400, 'badRequest', marker))
