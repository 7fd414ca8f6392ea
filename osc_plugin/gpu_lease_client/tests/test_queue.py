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

import datetime

import testtools

from gpu_lease_client.tests import base
from gpu_lease_client.tests import fakes
from gpu_lease_client.v1 import queue


class TestSecondsSince(testtools.TestCase):

    def test_elapsed(self):
        now = datetime.datetime(2026, 11, 21, 19, 8, 7, 999999,
                                tzinfo=datetime.timezone.utc)
        for time, seconds in (
                ('2026-11-21T19:08:07Z', 0), ('2026-11-21T19:07:57Z', 10),
                ('2026-11-21T20:07:57+01:00', 10),
                # The clock of the service is ahead of ours.
                ('2026-11-21T19:08:30Z', 0), (None, None)):
            self.assertEqual(seconds, queue.seconds_since(time, now))


class TestListQueue(base.ShellTestCase):

    def test_list_json_is_raw(self):
        queued = datetime.datetime.now(datetime.timezone.utc).replace(
            microsecond=0) - datetime.timedelta(hours=2)
        self.make_cloud(queue=[fakes.queue_entry(
            1, position=3, servers=2, devices={'gpu': 2},
            queued_at=queued.isoformat().replace('+00:00', 'Z'),
            wait_until='2026-11-22T19:07:57Z')])
        row, = self.json('gpu lease queue list')
        waiting = row.pop('Waiting')
        self.assertTrue(7200 <= waiting < 7300, waiting)
        self.assertEqual({
            'Position': 3, 'Servers': ['vm-1-1', 'vm-1-2'],
            'Devices': {'gpu': 2},
            'Queued At': queued.isoformat().replace('+00:00', 'Z'),
            'Expected Start': None, 'Estimate': None,
            'Give Up At': '2026-11-22T19:07:57Z',
            'Reason': 'no free gpu'}, row)
        self.assertIn(' 2h ', self.succeed('gpu lease queue list'))

    def test_list_table_of_a_large_gang(self):
        self.make_cloud(queue=[fakes.queue_entry(1, position=1, servers=9)])
        table = self.succeed('gpu lease queue list')
        self.assertIn('| vm-1-1, vm-1-2, vm-1-3 and 6 more | gpu=1 ', table)

    def test_list_long(self):
        entry = fakes.queue_entry(1, position=1, attempts=2)
        self.make_cloud(queue=[entry])
        row, = self.json('gpu lease queue list --long')
        self.assertEqual(
            [entry['id'], 'create', entry['server_ids'], 'normal', 2,
             fakes.RED, fakes.ALICE],
            [row[key] for key in (
                'Request ID', 'Kind', 'Server IDs', 'Priority', 'Attempts',
                'Project ID', 'User ID')])

    def test_list_server_that_is_to_be_unshelved(self):
        self.make_cloud(
            [fakes.queued_lease(1, 2, reason='1 gpu needed')],
            queue=[fakes.queue_entry(1, 2, kind='unshelve',
                                     expected_start='2026-11-21T20:00:00Z',
                                     expected_start_promised=True,
                                     reason='1 gpu needed')])
        row, = self.json('gpu lease queue list --long')
        self.assertEqual(
            ('unshelve', ['vm-1'], 2, '2026-11-21T20:00:00Z', '1 gpu needed'),
            tuple(row[key] for key in ('Kind', 'Servers', 'Position',
                                       'Expected Start', 'Reason')))
        shown = self.json('gpu lease show vm-1')
        self.assertEqual(
            ('QUEUED', 2, '1 gpu needed'),
            (shown['status'], shown['position'], shown['reason']))

    def test_list_promise_and_estimate(self):
        self.make_cloud(queue=[
            fakes.queue_entry(1, 1, expected_start='2026-11-21T20:00:00Z',
                              expected_start_promised=True),
            fakes.queue_entry(2, 2, expected_start='2026-11-21T21:00:00Z'),
            fakes.queue_entry(3, 3)])
        self.assertEqual(
            [('2026-11-21T20:00:00Z', None), (None, '2026-11-21T21:00:00Z'),
             (None, None)],
            [(row['Expected Start'], row['Estimate'])
             for row in self.json('gpu lease queue list')])

    def test_list_own_project_with_global_positions(self):
        self.make_cloud(queue=[
            fakes.queue_entry(1, position=1, project_id=fakes.BLUE),
            fakes.queue_entry(2, position=2)])
        self.assertEqual([2], self._positions(''))
        self.assertEqual([1, 2], self._positions('--all-projects',
                                                 user='admin'))
        self.refuse('gpu lease queue list --all-projects')

    def test_list_pages(self):
        self.make_cloud(page=3, queue=[
            fakes.queue_entry(each, position=each) for each in range(1, 8)])
        everything = list(range(1, 8))
        self.assertEqual(everything, self._positions(''))
        self.assertEqual(everything, self._positions('--limit 2'))
        self.assertEqual([1, 2, 3, 4], self._positions('--max-items 4'))
        self.assertEqual([6, 7], self._positions(
            '--marker ' + fakes.make_uuid('request-5')))

    def test_list_empty(self):
        self.make_cloud()
        self.assertEqual([], self.json('gpu lease queue list'))

    def test_list_without_leases_in_nova(self):
        self.make_cloud(installed=False)
        self.assertIn('The compute service of this cloud has no GPU leases',
                      self.refuse('gpu lease queue list'))

    def _positions(self, options, **kwargs):
        rows = self.json('gpu lease queue list ' + options, **kwargs)
        return [row['Position'] for row in rows]
