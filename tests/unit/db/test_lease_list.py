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


"""The list of leases: filters, order, pages."""

import itertools

from nova_gpu_lease.db import api
from nova_gpu_lease import exception
from tests.unit.db import base


class ListTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.queue('s0', lease={'duration': 60})
        self.queue('s1', project_id='other', lease={'duration': 60})
        # Equal in everything but the id.
        self.activate('s2', 's3', lease={'host': 'h1'})
        self.activate('s4', duration=10, lease={'host': 'h0'})
        ended, = self.activate('s5', duration=7200, user_id='another')
        self.end(ended, base.NOW)

    def names(self, *args, **kwargs):
        return [lease.server_id
                for lease in api.leases_list(*args, **kwargs)]

    def test_all(self):
        self.assertEqual(['s5', 's4', 's3', 's2', 's1', 's0'], self.names())

    def test_filters(self):
        due = base.NOW + base.seconds(3600)
        for expected, filters in (
                ('01', {'status': 'QUEUED'}),
                ('015', {'status': ['QUEUED', 'RELEASED']}),
                ('', {'status': []}),
                ('1', {'project_id': 'other'}),
                ('5', {'user_id': 'another'}),
                ('3', {'server_id': 's3'}),
                ('4', {'expires_before': due}),
                ('234', {'expires_before': due + base.seconds(1e-6)}),
                ('24', {'project_id': 'project', 'status': 'ACTIVE',
                        'expires_before': due + base.seconds(1)}),
                ('', {'project_id': 'other', 'status': 'ACTIVE'})):
            names = self.names(filters, [('server_id', 'asc')])
            if filters.get('status') == 'ACTIVE':
                names = [name for name in names if name != 's3']
            self.assertEqual(['s' + n for n in expected], names, filters)

    def test_unknown_key(self):
        for filters, sort, bad in (
                ({'colour': 'x'}, [], 'colour'), ({}, [('id_', 'asc')], 'id_'),
                ({}, [('host', 'up')], 'up')):
            error = self.assertRaises(exception.InvalidInput,
                                      api.leases_list, filters, sort)
            self.assertIn(bad, str(error))

    def test_sort_null_last(self):
        self.assertEqual(
            ['s4', 's2', 's3', 's5', 's0', 's1'],
            self.names(sort=[('expires_at', 'asc')]))
        self.assertEqual(
            ['s5', 's3', 's2', 's4', 's1', 's0'],
            self.names(sort=[('expires_at', 'desc')]))

    def test_sort_two_keys(self):
        self.assertEqual(
            ['s4', 's3', 's2', 's1', 's0', 's5'],
            self.names(sort=[('status', 'asc'), ('expires_at', 'asc'),
                             ('server_id', 'desc')]))

    def test_pages(self):
        """Pages of one lease each make up the whole list in every order."""
        directions = itertools.cycle(('asc', 'desc'))
        sorts = [[]] + [[pair] for pair
                        in zip(api.LEASE_SORT_KEYS, directions)]
        sorts += [[('host', a), ('expires_at', b), ('status', 'asc')]
                  for a, b in itertools.product(('asc', 'desc'), repeat=2)]
        for sort in sorts:
            whole = self.names(sort=sort)
            self.assertEqual(6, len(set(whole)))
            pages, marker = [], None
            while page := api.leases_list(sort=sort, limit=1,
                                          marker=marker):
                self.assertEqual(1, len(page))
                pages.append(page[0].server_id)
                marker = page[0].uuid
            self.assertEqual(whole, pages, sort)

    def test_page_size(self):
        first = api.leases_list(limit=4)
        self.assertEqual(['s5', 's4', 's3', 's2'],
                         [lease.server_id for lease in first])
        self.assertEqual(['s1', 's0'],
                         self.names(limit=4, marker=first[-1].uuid))

    def test_limit_zero(self):
        self.assertEqual([], self.names(limit=0))

    def test_marker_missing(self):
        self.assertRaises(exception.MarkerNotFound, api.leases_list,
                          marker='nobody')

    def test_marker_of_another_project(self):
        marker = api.lease_get('s1').uuid
        self.assertEqual(['s0'], self.names(marker=marker))
        self.assertRaises(exception.MarkerNotFound, api.leases_list,
                          {'project_id': 'project'}, marker=marker)
