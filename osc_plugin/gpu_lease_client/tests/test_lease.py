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

from gpu_lease_client.tests import base
from gpu_lease_client.tests import fakes


class TestListLease(base.ShellTestCase):

    def test_list_table(self):
        self.make_cloud([fakes.lease(1), fakes.queued_lease(
            2, position=1, expected_start='2026-11-21T20:00:00Z')])
        table = self.succeed('gpu lease list')
        self.assertEqual(
            ['ID', 'Server', 'Status', 'Position', 'Expected Start',
             'Estimate', 'Started', 'Expires', 'Remaining', 'On Expiry'],
            _cells(table, 1))
        self.assertEqual(
            [fakes.make_uuid('lease-1'), 'vm-1', 'ACTIVE', '', '', '',
             '2026-11-21T19:08:07Z', '2026-11-21T21:08:07Z', '1h 59m',
             'shelve'], _cells(table, 3))
        self.assertEqual(
            [fakes.make_uuid('lease-2'), 'vm-2', 'QUEUED', '1', '',
             '2026-11-21T20:00:00Z', '', '', '', 'shelve'], _cells(table, 4))

    def test_list_json_is_raw(self):
        self.make_cloud([fakes.lease(1), fakes.queued_lease(
            2, position=1, expected_start='2026-11-21T20:00:00Z',
            expected_start_promised=True)])
        self.assertEqual([
            {'ID': fakes.make_uuid('lease-1'), 'Server': 'vm-1',
             'Status': 'ACTIVE', 'Position': None,
             'Expected Start': None, 'Estimate': None,
             'Started': '2026-11-21T19:08:07Z',
             'Expires': '2026-11-21T21:08:07Z', 'Remaining': 7190,
             'On Expiry': 'shelve'},
            {'ID': fakes.make_uuid('lease-2'), 'Server': 'vm-2',
             'Status': 'QUEUED', 'Position': 1,
             'Expected Start': '2026-11-21T20:00:00Z', 'Estimate': None,
             'Started': None,
             'Expires': None, 'Remaining': None, 'On Expiry': 'shelve'},
        ], self.json('gpu lease list'))

    def test_list_empty(self):
        self.make_cloud()
        self.assertEqual([], self.json('gpu lease list'))
        self.assertEqual('\n', self.succeed('gpu lease list'))

    def test_list_long(self):
        self.make_cloud([
            fakes.lease(1, host='gpu-host-1', devices={'a100': 2})])
        row, = self.json('gpu lease list --long')
        self.assertEqual({
            'Server ID': fakes.make_uuid('server-1'), 'Flavor': 'gpu',
            'Priority': 'normal', 'Preempted At': None,
            'Devices': {'a100': 2}, 'Host': 'gpu-host-1', 'Reason': None,
            'Project ID': fakes.RED, 'User ID': fakes.ALICE,
        }, {key: value for key, value in row.items()
            if key not in self.json('gpu lease list')[0]})
        self.assertIn('a100=2', self.succeed('gpu lease list --long'))

    def test_list_all_projects(self):
        self.make_cloud([fakes.lease(1),
                         fakes.lease(2, project_id=fakes.BLUE)])
        self.assertEqual([], self.json('gpu lease list', user='admin'))
        rows = self.json('gpu lease list --all-projects', user='admin')
        self.assertEqual([('vm-1', fakes.RED), ('vm-2', fakes.BLUE)],
                         [(row['Server'], row['Project ID'])
                          for row in rows])
        # A column of the same name comes once.
        table = self.succeed('gpu lease list --all-projects --long',
                             user='admin')
        self.assertEqual(1, table.count('Project ID'))

    def test_list_all_projects_refused(self):
        self.make_cloud([fakes.lease(1)])
        errors = self.refuse('gpu lease list --all-projects')
        self.assertIn('Policy does not allow all_projects.', errors)

    def test_list_filters_reach_the_service(self):
        self.make_cloud()
        self.succeed('gpu lease list --status active --sort '
                     'expires_at:desc,created_at --expires-before '
                     '2026-11-21T19:08:07+01:00')
        self.assertEqual([{
            'status': 'ACTIVE', 'sort': 'expires_at:desc,created_at',
            'expires_before': '2026-11-21T19:08:07+01:00'},
        ], self.cloud.lease_queries())

    def test_list_filters(self):
        self.make_cloud([
            fakes.lease(1, expires_at='2026-11-21T20:00:00Z'),
            fakes.lease(2, expires_at='2026-11-21T22:00:00Z'),
            fakes.queued_lease(3, position=1),
        ])
        self.assertEqual(['vm-3'], self._names('--status QUEUED'))
        self.assertEqual(['vm-1'], self._names(
            '--expires-before 2026-11-21T21:00:00Z'))
        self.assertEqual(['vm-3', 'vm-2', 'vm-1'], self._names(
            '--sort server_name:desc'))

    def test_list_sort_column_with_missing_values(self):
        self.make_cloud([fakes.queued_lease(1, position=2),
                         fakes.lease(2), fakes.queued_lease(3, position=1)])
        self.assertEqual(['vm-3', 'vm-1', 'vm-2'],
                         self._names('--sort-column Position'))

    def test_list_server_by_name(self):
        self.make_cloud([fakes.lease(1), fakes.lease(2)])
        self.assertEqual(['vm-2'], self._names('--server vm-2'))
        self.assertEqual([{'server_id': fakes.make_uuid('server-2')}],
                         self.cloud.lease_queries())

    def test_list_server_by_id_that_is_deleted(self):
        self.make_cloud([fakes.lease(1, status='EXPIRED')], servers={})
        self.assertEqual(['vm-1'], self._names(
            '--server ' + fakes.make_uuid('server-1')))

    def test_list_server_unknown(self):
        self.make_cloud([fakes.lease(1)])
        self.assertIn('No server with a name or ID of "vm-9" exists.',
                      self.refuse('gpu lease list --server vm-9'))
        self.assertEqual([], self.cloud.lease_queries())

    def test_list_server_name_twice(self):
        self.make_cloud([fakes.lease(1, server_name='same'),
                         fakes.lease(2, server_name='same')])
        self.assertIn("More than one Server exists with the name 'same'",
                      self.refuse('gpu lease list --server same'))

    def test_list_server_of_another_project(self):
        self.make_cloud([fakes.lease(1)])
        self.assertEqual(['vm-1'], self._names(
            '--all-projects --server vm-1', user='admin'))

    def test_list_own_project_and_user_by_name(self):
        # Keystone does not let members look these up.
        self.make_cloud([fakes.lease(1)])
        self.assertEqual(['vm-1'], self._names('--project red --user alice'))
        self.assertEqual([{'project_id': fakes.RED,
                           'user_id': fakes.ALICE}],
                         self.cloud.lease_queries())

    def test_list_other_project_by_name(self):
        self.make_cloud([fakes.lease(1), fakes.lease(2, user_id='bob'),
                         fakes.lease(3, project_id=fakes.BLUE)])
        self.assertEqual(['vm-3'], self._names(
            '--project blue --project-domain Default', user='admin'))
        self.assertEqual(['vm-1'], self._names(
            '--project red --user alice --user-domain default',
            user='admin'))

    def test_list_unknown_project(self):
        self.make_cloud([fakes.lease(1)])
        self.assertIn('No Project found for nope', self.refuse(
            'gpu lease list --project nope', user='admin'))
        self.assertIn('No User found for nope', self.refuse(
            'gpu lease list --user nope', user='admin'))

    def test_list_without_leases_in_nova(self):
        self.make_cloud(installed=False)
        self.assertIn('The compute service of this cloud has no GPU leases',
                      self.refuse('gpu lease list'))

    def _names(self, options, **kwargs):
        rows = self.json('gpu lease list ' + options, **kwargs)
        return [row['Server'] for row in rows]


class TestListLeasePages(base.ShellTestCase):

    def setUp(self):
        super().setUp()
        self.make_cloud([fakes.lease(each) for each in range(7)], page=3)

    def _names(self, options):
        rows = self.json('gpu lease list ' + options)
        return [row['Server'] for row in rows]

    def test_pages_of_the_service_are_followed(self):
        self.assertEqual(['vm-%d' % each for each in range(7)],
                         self._names(''))
        self.assertEqual(
            [None, fakes.make_uuid('lease-2'), fakes.make_uuid('lease-5')],
            [query.get('marker') for query in self.cloud.lease_queries()])

    def test_pages_keep_the_filters(self):
        self.cloud.leases[1]['status'] = 'EXPIRED'
        self.assertEqual(['vm-%d' % each for each in (0, 2, 3, 4, 5, 6)],
                         self._names('--status ACTIVE --sort server_name'))
        for query in self.cloud.lease_queries():
            self.assertEqual('ACTIVE', query['status'])
            self.assertEqual('server_name', query['sort'])

    def test_limit_is_the_size_of_a_page(self):
        self.assertEqual(7, len(self._names('--limit 2')))
        self.assertEqual(
            {'2'}, {query['limit'] for query in self.cloud.lease_queries()})

    def test_limit_above_that_of_the_service(self):
        self.assertEqual(7, len(self._names('--limit 100')))

    def test_limit_that_fits_exactly(self):
        del self.cloud.leases[4:]
        self.assertEqual(4, len(self._names('--limit 2')))

    def test_marker(self):
        self.assertEqual(['vm-5', 'vm-6'], self._names(
            '--marker ' + fakes.make_uuid('lease-4')))
        self.assertEqual([], self._names(
            '--marker ' + fakes.make_uuid('lease-6')))

    def test_marker_unknown(self):
        self.assertIn('marker not found', self.refuse(
            'gpu lease list --marker ' + fakes.make_uuid('lease-9')))

    def test_max_items(self):
        self.assertEqual(['vm-%d' % each for each in range(5)],
                         self._names('--max-items 5'))
        self.assertEqual(['vm-0', 'vm-1'], self._names('--max-items 2'))
        self.assertEqual(
            ['vm-0', 'vm-1', 'vm-2'], self._names('--max-items 3 --limit 2'))

    def test_limit_negative(self):
        self.assertIn('limit', self.refuse('gpu lease list --limit -1'))


class TestCancelLease(base.ShellTestCase):

    def setUp(self):
        super().setUp()
        self.leases = [fakes.queued_lease(each, each) for each in (1, 2, 3)]
        self.running = fakes.lease(4)
        self.make_cloud(self.leases + [self.running])

    def _statuses(self):
        return [lease['status'] for lease in self.leases]

    def test_cancel_several(self):
        self.assertEqual('', self.succeed('gpu lease cancel vm-1 %s %s' % (
            self.leases[1]['id'], self.leases[2]['server_id'])))
        self.assertEqual(['CANCELLED'] * 3, self._statuses())
        # A server may have another lease by the time of the second call.
        self.assertEqual(
            ['DELETE ' + lease['id'] for lease in self.leases],
            [path for path, _ in self.cloud.asked if 'DELETE' in path])

    def test_cancel_tries_all(self):
        nothing = fakes.make_uuid('nothing')
        errors = self.refuse('gpu lease cancel vm-4 vm-1 vm-9 %s vm-3' %
                             nothing)
        self.assertEqual(['CANCELLED', 'QUEUED', 'CANCELLED'],
                         self._statuses())
        self.assertIn("'vm-4' could not be cancelled", errors)
        self.assertIn('it is ACTIVE', errors)
        for wanted in ('vm-9', nothing):
            self.assertIn('No lease or server with a name or ID of "%s" '
                          'exists.' % wanted, errors)
        self.assertIn('3 of 5 GPU leases could not be cancelled.', errors)
        self.assertEqual('ACTIVE', self.running['status'])

    def test_cancel_again(self):
        for _ in range(2):
            self.succeed('gpu lease cancel vm-1')

    def test_cancel_of_another_project(self):
        self.leases[0]['project_id'] = fakes.BLUE
        self.refuse('gpu lease cancel ' + self.leases[0]['id'])
        self.assertEqual(['QUEUED'] * 3, self._statuses())
        self.succeed('gpu lease cancel ' + self.leases[0]['id'],
                     user='admin')
        self.assertEqual('CANCELLED', self.leases[0]['status'])

    def test_cancel_nothing(self):
        self.assertIn('<lease>', self.refuse('gpu lease cancel'))


class TestChangeLease(base.ShellTestCase):

    def setUp(self):
        super().setUp()
        self.lease = fakes.lease(1)
        self.waiting = fakes.queued_lease(2, 1)
        self.make_cloud([self.lease, self.waiting,
                         fakes.lease(3, status='EXPIRED')])

    def _asked(self):
        return [(path, body['gpu_lease']) for path, body in self.cloud.asked
                if path.startswith('PATCH')]

    def test_extend(self):
        for wanted in ('vm-1', self.lease['id'], self.lease['server_id']):
            shown = self.json('gpu lease extend %s +30m' % wanted)
            self.assertEqual(9000, shown['duration'])
        self.assertEqual(
            [('PATCH ' + self.lease['id'], {'duration': '+30m'})] * 3,
            self._asked())

    def test_extend_refused(self):
        self.assertIn('it is EXPIRED', self.refuse(
            'gpu lease extend vm-3 +30m'))
        self.assertIn('No lease or server', self.refuse(
            'gpu lease extend vm-9 +30m'))

    def test_extend_without_duration(self):
        self.assertIn('<duration>', self.refuse('gpu lease extend vm-1'))

    def test_set(self):
        self.assertEqual('', self.succeed(
            'gpu lease set --priority urgent --on-expiry delete '
            '--auto-extend vm-2'))
        self.succeed('gpu lease set --no-auto-extend vm-1')
        self.assertEqual(
            [('PATCH ' + self.waiting['id'],
              {'priority': 'urgent', 'on_expiry': 'delete',
               'auto_extend': True}),
             ('PATCH ' + self.lease['id'], {'auto_extend': False})],
            self._asked())

    def test_set_refused(self):
        self.assertIn('it is EXPIRED', self.refuse(
            'gpu lease set --auto-extend vm-3'))
        self.refuse('gpu lease set --on-expiry keep vm-1')
        self.refuse('gpu lease set --auto-extend --no-auto-extend vm-1')

    def test_set_nothing(self):
        self.assertIn('Nothing is to be changed',
                      self.refuse('gpu lease set vm-1'))
        self.assertEqual([], self._asked())


class TestShowLease(base.ShellTestCase):

    def setUp(self):
        super().setUp()
        self.lease = fakes.lease(1)
        self.make_cloud([self.lease])

    def test_show_by_lease_id(self):
        self.assertEqual(self.lease, self.json(
            'gpu lease show ' + self.lease['id']))
        self.assertEqual(1, len(self.cloud.asked))

    def test_show_by_server_id(self):
        self.assertEqual(self.lease, self.json(
            'gpu lease show ' + self.lease['server_id']))

    def test_show_by_server_id_that_is_deleted(self):
        self.cloud.servers.clear()
        self.assertEqual(self.lease, self.json(
            'gpu lease show ' + self.lease['server_id']))

    def test_show_by_server_name(self):
        self.assertEqual(self.lease, self.json('gpu lease show vm-1'))

    def test_show_server_that_is_named_as_a_part_of_the_api(self):
        self.lease['server_name'] = 'queue'
        self.cloud.servers = {self.lease['server_id']: ('queue', fakes.RED)}
        self.assertEqual(self.lease, self.json('gpu lease show queue'))

    def test_show_table(self):
        self.lease.update(duration=5405, devices={'gpu': 2})
        table = self.succeed('gpu lease show vm-1')
        rows = dict(_cells(table, line) for line
                    in range(3, table.count('\n') - 1))
        self.assertEqual('1h 30m 5s', rows['duration'])
        self.assertEqual('1h 59m', rows['remaining'])
        self.assertEqual('gpu=2', rows['devices'])
        self.assertEqual('', rows['reason'])
        self.assertNotIn('host', rows)

    def test_show_expected_start(self):
        time = '2026-11-21T20:00:00Z'
        for promised, word in ((True, 'promised'), (False, 'estimate')):
            self.lease.update(status='QUEUED', expected_start=time,
                              expected_start_promised=promised)
            self.assertIn('%s (%s)' % (time, word),
                          self.succeed('gpu lease show vm-1'))
            shown = self.json('gpu lease show vm-1')
            self.assertEqual((time, promised), (
                shown['expected_start'], shown['expected_start_promised']))

    def test_show_host_where_the_service_tells_it(self):
        self.lease['host'] = 'gpu-host-1'
        self.assertEqual('gpu-host-1',
                         self.json('gpu lease show vm-1')['host'])

    def test_show_unknown(self):
        for wanted in ('vm-9', fakes.make_uuid('nothing')):
            self.assertIn(
                'No lease or server with a name or ID of "%s" exists.'
                % wanted, self.refuse('gpu lease show ' + wanted))

    def test_show_lease_of_another_project(self):
        self.lease['project_id'] = fakes.BLUE
        self.cloud.servers = {self.lease['server_id']: ('vm-1', fakes.BLUE)}
        for wanted in (self.lease['id'], self.lease['server_id'], 'vm-1'):
            self.assertIn('No lease or server',
                          self.refuse('gpu lease show ' + wanted))

    def test_show_server_without_lease(self):
        server_id = fakes.make_uuid('cpu')
        self.cloud.servers = {server_id: ('cpu-vm', fakes.RED)}
        for wanted in ('cpu-vm', server_id):
            self.assertIn(
                'Server "cpu-vm" (%s) has no GPU lease.' % server_id,
                self.refuse('gpu lease show ' + wanted))


def _cells(table, line):
    """Cut one line of a printed table into its cells."""
    return [cell.strip() for cell in table.splitlines()[line].split('|')[1:-1]]
