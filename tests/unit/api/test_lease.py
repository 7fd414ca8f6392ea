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
from urllib import parse

import fixtures as fixtures_
from testtools import matchers

from nova_gpu_lease.api.schemas import lease as schema
from nova_gpu_lease import clock
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import states
from tests import fixtures
from tests.unit.api import base

_NOW = datetime.datetime(2026, 11, 21, 19, 8, 7, 900000,
                         datetime.timezone.utc)


class LeaseTestCase(base.APITestCase):

    def setUp(self):
        super().setUp()
        self.clock = self.useFixture(fixtures.ClockFixture(_NOW))

    def start(self, request, **values):
        """Bring a request to leases that are ACTIVE."""
        request = db_api.request_transition(
            request, states.REQUEST_DISPATCHING, 'host',
            lease_state=states.LEASE_BUILDING)
        db_api.request_transition(request, states.REQUEST_PLACED, 'host')
        values = dict({
            'started_at': clock.now(), 'host': 'gpu1',
            'expires_at': clock.now() + datetime.timedelta(hours=2)},
            **values)
        return [db_api.lease_transition(
            lease, states.LEASE_ACTIVE, 'host', **values)
            for lease in db_api.leases_of(request.id)]

    def ids(self, query='', **kwargs):
        answer = self.send('/os-gpu-leases' + query, **kwargs)
        self.assertEqual(200, answer.status_int, answer.text)
        return [lease['server_name'] for lease in answer.json['gpu_leases']]


class ShowTestCase(LeaseTestCase):

    def test_show_queued(self):
        self.queue()
        request = self.queue(
            wait_until=_NOW + datetime.timedelta(minutes=5), attempts=2,
            credentials=states.CREDENTIALS_TRUST)
        db_api.request_set(
            request, reason='No free device', reason_code='devices',
            promised=True, expected_start=_NOW +
            datetime.timedelta(minutes=1, microseconds=1))
        lease, = db_api.leases_of(request.id)
        self.assertEqual({'gpu_lease': {
            'id': lease.uuid, 'server_id': lease.server_id,
            'server_name': 's1', 'project_id': base.PROJECT,
            'user_id': 'user', 'request_id': request.uuid, 'flavor': 'gpu',
            'devices': {'gpu': 1}, 'status': 'QUEUED', 'position': 2,
            'queued_at': '2026-11-21T19:08:07Z',
            'wait_until': '2026-11-21T19:13:07Z',
            'expected_start': '2026-11-21T19:09:07Z',
            'expected_start_promised': True, 'duration': 7200,
            'max_duration': None, 'on_expiry': 'shelve',
            'auto_extend': False, 'priority': 'normal', 'started_at': None,
            'expires_at': None, 'remaining': None, 'preempt_at': None,
            'ended_at': None,
            'end_action': None, 'attempts': 2, 'last_error': None,
            'credentials': 'trust', 'reason': 'No free device',
            'reason_code': 'devices',
            'created_at': '2026-11-21T19:08:07Z',
            'updated_at': '2026-11-21T19:08:07Z',
        }}, self.send('/os-gpu-leases/' + lease.uuid).json)

    def test_show_active(self):
        lease, = self.start(self.queue(
            wait_until=_NOW + datetime.timedelta(minutes=5)))
        self.clock.advance(61.5)
        shown = self.send('/os-gpu-leases/' + lease.uuid).json['gpu_lease']
        for key, value in {
                'status': 'ACTIVE', 'position': None, 'wait_until': None,
                'expected_start': None, 'expected_start_promised': None,
                'remaining': 7200 - 62,
                'started_at': '2026-11-21T19:08:07Z',
                'expires_at': '2026-11-21T21:08:07Z'}.items():
            self.assertEqual(value, shown[key], key)
        self.clock.advance(86400)
        self.assertEqual(0, self.send(
            '/os-gpu-leases/' + lease.uuid).json['gpu_lease']['remaining'])

    def test_show_preempted(self):
        lease, = self.start(self.queue(), preempt_at=_NOW)
        shown = self.send('/os-gpu-leases/' + lease.uuid).json['gpu_lease']
        self.assertEqual('2026-11-21T19:08:07Z', shown['preempt_at'])

    def test_show_failed_end(self):
        lease, = self.start(self.queue())
        lease = db_api.lease_transition(
            lease, states.LEASE_EXPIRING, 'host')
        db_api.lease_set(lease, attempts=3, outages=1, last_error='No.')
        shown = self.send('/os-gpu-leases/' + lease.uuid).json['gpu_lease']
        self.assertEqual((3, 'No.'), (shown['attempts'], shown['last_error']))

    def test_show_host_is_for_admins(self):
        lease, = self.start(self.queue())
        path = '/os-gpu-leases/' + lease.uuid
        self.assertNotIn('host', self.send(path).json['gpu_lease'])
        shown = self.send(path, context=self.admin()).json['gpu_lease']
        self.assertEqual('gpu1', shown['host'])

    def test_show_by_server(self):
        lease, = self.start(self.queue())
        self.assertEqual(lease.uuid, self.send(
            '/os-gpu-leases/' + lease.server_id).json['gpu_lease']['id'])
        db_api.lease_transition(lease, states.LEASE_RELEASED, 'host')
        shown = self.send('/os-gpu-leases/' + lease.server_id).json
        self.assertEqual('RELEASED', shown['gpu_lease']['status'])
        self.assertEqual('2026-11-21T19:08:07Z',
                         shown['gpu_lease']['ended_at'])

    def test_show_not_found(self):
        lease, = self.start(self.queue(project_id=base.OTHER_PROJECT))
        for id in ('nothing', lease.uuid, lease.server_id, '%00', 'x' * 999):
            self.assertEqual(
                'gpu_lease.not_found',
                self.error(self.send('/os-gpu-leases/' + id), 404,
                           'itemNotFound', 'could not be found'))
        foreign = self.error(self.send('/os-gpu-leases/' + lease.uuid),
                             404, 'itemNotFound')
        self.assertEqual('gpu_lease.not_found', foreign)


class CancelTestCase(LeaseTestCase):
    """What becomes of the server is in tests/functional/test_unshelve.py."""

    def setUp(self):
        super().setUp()
        #: The ids of servers that were freed.
        self.freed = []
        self.useFixture(fixtures_.MonkeyPatch(
            'nova_gpu_lease.conductor.records.find_instance',
            lambda context, server_id: server_id))
        self.useFixture(fixtures_.MonkeyPatch(
            'nova_gpu_lease.conductor.shelved.free',
            lambda server_id, request_id: self.freed.append(
                (server_id, request_id))))

    def waits(self, **values):
        return db_api.leases_of(self.queue(
            kind='unshelve', context={'request_id': 'req-1'},
            **values).id)[0]

    def cancel(self, id, **kwargs):
        return self.send('/os-gpu-leases/' + id, 'DELETE', **kwargs)

    def refused(self, id, *parts):
        return self.error(self.cancel(id), 409, 'conflictingRequest', *parts)

    def test_cancel(self):
        behind = self.waits()
        for id in ('uuid', 'server_id'):
            lease = self.waits()
            before = db_api.wake_value()
            answer = self.cancel(getattr(lease, id))
            self.assertEqual((204, b''), (answer.status_int, answer.body))
            self.assertGreater(db_api.wake_value(), before)
            lease = db_api.lease_get(lease.uuid)
            self.assertEqual(
                ('CANCELLED', 'cancelled', _NOW, None, 'CANCELLED'),
                (lease.state, lease.reason_code, lease.ended_at,
                 lease.current_server_id, lease.request.state))
            self.assertEqual([(lease.server_id, 'req-1')], self.freed)
            self.freed.clear()
        self.assertEqual({behind.request.uuid: 1},
                         db_api.requests_positions(lambda row: row.id))

    def test_cancel_again_changes_nothing(self):
        lease = self.waits()
        self.cancel(lease.uuid)
        cancelled = db_api.lease_get(lease.uuid)
        for id in (lease.uuid, lease.server_id):
            self.assertEqual(204, self.cancel(id).status_int)
        self.assertEqual(cancelled.generation,
                         db_api.lease_get(lease.uuid).generation)
        # The first call may have died before it freed the server.
        self.assertEqual(3, len(self.freed))

    def test_cancel_by_admin_of_another_project(self):
        lease = self.waits(project_id=base.OTHER_PROJECT)
        self.assertEqual(404, self.cancel(lease.uuid).status_int)
        self.assertEqual([], self.freed)
        self.assertEqual(204, self.cancel(
            lease.uuid, context=self.admin()).status_int)

    def test_cancel_new_server(self):
        for lease in db_api.leases_of(self.queue(3).id):
            self.assertEqual('gpu_lease.new_server', self.refused(
                lease.uuid, lease.server_id, 'delete the server'))
            self.assertEqual('QUEUED', db_api.lease_get(lease.uuid).state)

    def test_cancel_what_does_not_wait(self):
        request = db_api.request_transition(
            self.waits().request, states.REQUEST_DISPATCHING, 'host',
            lease_state=states.LEASE_BUILDING)
        lease, = db_api.leases_of(request.id)
        for state, advice in (
                (states.LEASE_BUILDING, 'when it runs'),
                (states.LEASE_ACTIVE, 'shelve or delete its server'),
                (states.LEASE_EXPIRING, 'already'),
                (states.LEASE_ERROR, 'shelve or delete its server'),
                (states.LEASE_EXPIRED, 'over')):
            if state != lease.state:
                lease = db_api.lease_transition(lease, state, 'host')
            self.assertEqual('gpu_lease.not_waiting', self.refused(
                lease.server_id, state, advice))
            self.assertEqual(state, db_api.lease_get(lease.uuid).state)
        self.assertEqual([], self.freed)

    def test_cancel_while_a_start_is_taken_back(self):
        lease = self.waits()
        # The leases go back one by one, the request last.
        db_api.request_transition(
            lease.request, states.REQUEST_DISPATCHING, 'host')
        self.assertEqual('gpu_lease.not_waiting', self.refused(
            lease.uuid, 'BUILDING'))

    def test_cancel_and_start_at_the_same_time(self):
        lease = self.waits()
        real = db_api.request_transition

        def starts_first(request, *args, **kwargs):
            if db_api.lease_get(lease.uuid).state == states.LEASE_QUEUED:
                real(request, states.REQUEST_DISPATCHING, 'host',
                     lease_state=states.LEASE_BUILDING)
            return real(request, *args, **kwargs)

        self.useFixture(fixtures_.MonkeyPatch(
            'nova_gpu_lease.db.api.request_transition', starts_first))
        self.refused(lease.uuid, 'BUILDING')
        self.assertEqual('DISPATCHING', db_api.request_get(
            lease.request.uuid).state)
        self.assertEqual([], self.freed)

    def test_cancel_is_done_though_the_cell_is_away(self):
        def away(context, server_id):
            raise OSError('cell1')

        self.useFixture(fixtures_.MonkeyPatch(
            'nova_gpu_lease.conductor.records.find_instance', away))
        lease = self.waits()
        self.assertEqual(204, self.cancel(lease.uuid).status_int)
        self.assertEqual(
            [lease.uuid], [one.uuid for one in db_api.leases_cancelled()])


class IndexTestCase(LeaseTestCase):

    def setUp(self):
        super().setUp()
        self.active = self.start(self.queue(2))
        self.clock.advance(10)
        self.queue(1)
        self.queue(1, project_id=base.OTHER_PROJECT, user_id='other')

    def test_index_own_project(self):
        self.assertEqual(['s2', 's1', 's0'], self.ids())
        self.assertEqual(['s3'], self.ids(context=self.make_context(
            base.OTHER_PROJECT)))
        self.assertEqual([], self.ids(context=self.make_context('cc')))

    def test_index_all_projects(self):
        admin = self.admin()
        self.assertEqual([], self.ids(context=admin))
        self.assertEqual(['s3', 's2', 's1', 's0'],
                         self.ids('?all_projects=true', context=admin))
        self.assertEqual(['s3'], self.ids(
            '?all_projects=true&project_id=' + base.OTHER_PROJECT,
            context=admin))

    def test_index_filters(self):
        self.assertEqual(['s1', 's0'], self.ids('?status=ACTIVE'))
        self.assertEqual([], self.ids('?status=EXPIRED'))
        self.assertEqual([], self.ids('?user_id=nobody'))
        self.assertEqual(['s0'], self.ids(
            '?server_id=' + self.active[0].server_id))
        for time, count in (('2026-11-21T21:08:07Z', 0),
                            ('2026-11-21T21:08:08Z', 2),
                            ('2026-11-21T22:08:08+01:00', 2),
                            ('2026-11-21T20:08:07.91-01:00', 2)):
            self.assertEqual(count, len(self.ids(
                '?expires_before=' + parse.quote(time))), time)

    def test_index_sort(self):
        self.assertEqual(['s0', 's1', 's2'], self.ids('?sort=server_name'))
        self.assertEqual(['s2', 's1', 's0'],
                         self.ids('?sort=server_name:desc'))
        self.assertEqual(['s1', 's0', 's2'],
                         self.ids('?sort=status:asc,server_name:desc'))
        self.assertEqual(['s1', 's0', 's2'],
                         self.ids('?sort=status&sort=server_name:desc'))
        for key in schema.SORT_KEYS:
            self.assertEqual(3, len(self.ids('?sort=%s:desc' % key)), key)

    def test_index_pages(self):
        seen, url = [], '/os-gpu-leases?limit=2&sort=started_at:desc'
        while url:
            page = self.send(url).json
            seen.append([lease['server_name']
                         for lease in page['gpu_leases']])
            links = page.get('gpu_leases_links')
            url = links and links[0]['href'].replace(
                'http://cloud.example/v2.1', '')
        self.assertEqual([['s1', 's0'], ['s2']], seen)
        self.assertNotIn('gpu_leases_links',
                         self.send('/os-gpu-leases?limit=3').json)

    def test_index_page_limit(self):
        self.flags(group='api', max_limit=1)
        page = self.send('/%s/os-gpu-leases' % base.PROJECT).json
        self.assertEqual(1, len(page['gpu_leases']))
        self.assertEqual(
            [{'rel': 'next', 'href': 'http://cloud.example/v2.1/%s/'
              'os-gpu-leases?marker=%s' % (
                  base.PROJECT, page['gpu_leases'][0]['id'])}],
            page['gpu_leases_links'])

    def test_index_link_behind_proxy(self):
        self.flags(group='api', compute_link_prefix='https://public/compute')
        links = self.send('/os-gpu-leases?limit=1').json['gpu_leases_links']
        self.assertThat(links[0]['href'], matchers.StartsWith(
            'https://public/compute/v2.1/os-gpu-leases?limit=1&marker='))

    def test_index_last_marker_gives_empty_page(self):
        self.assertEqual([], self.ids('?marker=' + self.active[0].uuid))

    def test_index_marker_unknown(self):
        foreign = db_api.leases_list({'project_id': base.OTHER_PROJECT})[0]
        for marker in ('x', foreign.uuid):
            self.assertEqual(
                'gpu_lease.marker_not_found',
                self.error(self.send('/os-gpu-leases?marker=' + marker),
                           400, 'badRequest', marker))

    def test_index_bad_values(self):
        for name, values, accepted in (
                ('limit', ('0', '-1', 'x', '1.5', '', '1e3', '9' * 99, '1\n'),
                 'whole number'),
                ('marker', ('', 'x' * 37), 'last item'),
                ('all_projects', ('', 'maybe', '2'), 'true or false'),
                ('status', ('', 'active', 'DONE'), 'ACTIVE'),
                ('expires_before', ('', 'soon', '1', '2026-11-21',
                                    '2026-11-21T19:08:07',
                                    '0001-01-01T00:00:00+23:00',
                                    '2026-13-01T00:00:00Z'), 'ISO 8601'),
                ('sort', ('', 'host', 'id', 'status:up', 'status,',
                          'status:asc:asc', 'uuid'), 'server_name'),
                ('server_id', ('', 'x' * 256), 'id')):
            for value in values:
                self.error(
                    self.send('/os-gpu-leases?%s=%s' % (
                        name, parse.quote(value))),
                    400, 'badRequest', name, accepted)
        self.error(self.send('/os-gpu-leases?limit=1&limit=2'), 400,
                   'badRequest', 'limit', 'once')
        self.error(self.send('/os-gpu-leases?a=%ff'), 400, 'badRequest')
