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


"""PATCH /os-gpu-leases/{id}, and who may use which priority class."""

import datetime

import fixtures as fixtures_

from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import exception
from nova_gpu_lease import policy
from nova_gpu_lease import states
from tests.unit.api import base
from tests.unit.api import test_lease

CLASSES = ['normal:0', 'urgent:9', 'spare:-9:preemptible']


class ChangeTestCase(test_lease.LeaseTestCase):

    def setUp(self):
        super().setUp()
        self.flags(priorities=CLASSES)

    def change(self, lease, headers=None, context=None, **values):
        return self.send('/os-gpu-leases/' + lease.uuid, 'PATCH',
                         {'gpu_lease': values}, headers, context)

    def changed(self, lease, **values):
        answer = self.change(lease, **values)
        self.assertEqual(200, answer.status_int, answer.text)
        return answer.json['gpu_lease']

    def waiting(self, **values):
        return db_api.leases_of(self.queue(**values).id)[0]

    def test_extend(self):
        lease, = self.start(self.queue())
        woken = db_api.wake_value()
        shown = self.changed(lease, duration='+30m')
        self.assertEqual(
            (9000, '2026-11-21T21:38:07Z', 9000),
            (shown['duration'], shown['expires_at'], shown['remaining']))
        now = db_api.lease_get(lease.uuid)
        self.assertEqual(lease.generation + 1, now.generation)
        self.assertEqual(lease.expires_at + datetime.timedelta(minutes=30),
                         now.expires_at)
        self.assertGreater(db_api.wake_value(), woken)

    def test_extend_by_server(self):
        lease, = self.start(self.queue())
        answer = self.send('/os-gpu-leases/' + lease.server_id, 'PATCH',
                           {'gpu_lease': {'duration': '3h'}})
        self.assertEqual(10800, answer.json['gpu_lease']['duration'])

    def test_extend_refused(self):
        lease, = self.start(self.queue(), max_duration=7200)
        self.assertEqual('gpu_lease.length.refused', self.error(
            self.change(lease, duration='+1m'), 400, 'badRequest',
            'longest', '2h'))

    def test_change_several_or_none(self):
        lease, = self.start(self.queue())
        shown = self.changed(lease, on_expiry='delete', auto_extend=True,
                             duration='3h')
        self.assertEqual(
            ('delete', True, 10800),
            (shown['on_expiry'], shown['auto_extend'], shown['duration']))
        self.error(self.change(lease, on_expiry='shelve', duration='1h'),
                   400, 'badRequest')
        self.assertEqual('delete', db_api.lease_get(lease.uuid).on_expiry)

    def test_change_priority(self):
        request = self.queue(2)
        db_api.request_set(request, promised=True, promise={'nodes': {}})
        lease = db_api.leases_of(request.id)[1]
        shown = self.changed(lease, priority='spare')
        self.assertEqual(('spare', False), (
            shown['priority'], shown['expected_start_promised']))
        now = db_api.request_get(request.uuid)
        self.assertEqual((1, 'spare', None),
                         (now.generation, now.priority, now.promise))

    def test_change_priority_of_admins(self):
        lease = self.waiting()
        self.assertEqual('gpu_lease.priority.forbidden', self.error(
            self.change(lease, priority='urgent'), 403, 'forbidden',
            "'urgent'", 'os_compute_api:os-gpu-leases:priority:urgent'))
        shown = self.changed(lease, priority='urgent', context=self.admin())
        self.assertEqual('urgent', shown['priority'])

    def test_change_priority_unknown_or_running(self):
        lease = self.waiting()
        self.error(self.change(lease, priority='vip'), 400, 'badRequest',
                   "'vip'", 'normal or urgent or spare')
        lease, = self.start(self.queue())
        self.assertEqual('gpu_lease.not_waiting', self.error(
            self.change(lease, priority='normal'), 409,
            'conflictingRequest'))

    def test_change_what_is_over(self):
        lease, = self.start(self.queue())
        lease = db_api.lease_transition(lease, states.LEASE_EXPIRING, 'host')
        self.assertEqual('gpu_lease.not_changeable', self.error(
            self.change(lease, duration='+1h'), 409, 'conflictingRequest',
            'EXPIRING', 'already'))

    def test_change_bad_body(self):
        lease = self.waiting()
        path = '/os-gpu-leases/' + lease.uuid
        for body, says in (
                (b'', 'not JSON'), (b'{', 'not JSON'), (b'[]', 'gpu_lease'),
                ({}, 'gpu_lease'), ({'gpu_lease': []}, 'gpu_lease'),
                ({'gpu_lease': {}}, 'Nothing'),
                ({'gpu_lease': {'auto_extend': True}, 'x': 1}, 'nothing else'),
                ({'gpu_lease': {'status': 'ACTIVE'}}, "'status' cannot"),
                ({'gpu_lease': {'duration': 60}}, '+30m'),
                ({'gpu_lease': {'duration': None}}, '+30m'),
                ({'gpu_lease': {'duration': ''}}, '+30m'),
                ({'gpu_lease': {'on_expiry': 'keep'}}, 'shelve or delete'),
                ({'gpu_lease': {'auto_extend': 'yes'}}, 'true or false'),
                ({'gpu_lease': {'priority': ['x']}}, 'priority class')):
            self.assertEqual('gpu_lease.invalid_value', self.error(
                self.send(path, 'PATCH', body), 400, 'badRequest', says))

    def test_change_of_others(self):
        lease = self.waiting(project_id=base.OTHER_PROJECT)
        self.assertEqual(404, self.change(
            lease, auto_extend=True).status_int)
        self.assertTrue(self.changed(
            lease, auto_extend=True, context=self.admin())['auto_extend'])

    def test_extend_needs_its_rule(self):
        self._deny('os_compute_api:os-gpu-leases:extend')
        lease = self.waiting()
        self.error(self.change(lease, duration='3h'), 403, 'forbidden',
                   'os-gpu-leases:extend')
        self.changed(lease, auto_extend=True)

    def _deny(self, rule):
        path, = self.create_tempfiles(
            [('policy', '"%s": "!"' % rule)], '.yaml')
        policy.get_enforcer()
        self.flags(group='oslo_policy', policy_file=path)
        policy.reset()

    def test_change_at_the_same_time(self):
        """Both extensions count."""
        lease, = self.start(self.queue())
        self._before_a_change(lambda: db_api.lease_set(
            db_api.lease_get(lease.uuid), expires_at=lease.expires_at +
            datetime.timedelta(minutes=5)), times=1)
        self.assertEqual(7200 + 300 + 1800,
                         self.changed(lease, duration='+30m')['duration'])

    def test_change_and_end_at_the_same_time(self):
        lease, = self.start(self.queue())
        self._before_a_change(lambda: db_api.lease_transition(
            lease, states.LEASE_EXPIRING, 'host'), times=1)
        self.error(self.change(lease, duration='+30m'), 409,
                   'conflictingRequest', 'EXPIRING')

    def test_change_gives_up(self):
        lease, = self.start(self.queue())
        self._before_a_change(lambda: db_api.lease_set(
            db_api.lease_get(lease.uuid), attempts=1), times=99)
        self.error(self.change(lease, duration='+30m'), 409,
                   'conflictingRequest', 'try again')

    def _before_a_change(self, call, times):
        real = db_api.lease_change
        left = [times]

        def change(*args, **kwargs):
            if left[0]:
                left[0] -= 1
                self.clock.advance(1)
                call()
            return real(*args, **kwargs)

        self.useFixture(fixtures_.MonkeyPatch(
            'nova_gpu_lease.db.api.lease_change', change))


class CreateTestCase(base.APITestCase):
    """Who may ask for which class."""

    def setUp(self):
        super().setUp()
        self.flags(priorities=CLASSES)
        self.flavors['fast'] = {**base.GPU, 'gpu_lease:priority': 'urgent'}

    def test_create_in_a_class_of_members(self):
        for priority in ('normal', 'spare'):
            self.assertEqual(202, self.create(
                {'gpu_lease': '1h', 'gpu_lease_priority': priority}
            ).status_int)

    def test_create_in_a_class_of_admins(self):
        for hints, flavor in (
                ({'gpu_lease': '1h', 'gpu_lease_priority': 'urgent'}, 'gpu'),
                ({'gpu_lease': '1h'}, 'fast')):
            self.context = self.make_context()
            self.assertEqual('gpu_lease.priority.forbidden', self.error(
                self.create(hints, flavor), 403, 'forbidden', "'urgent'",
                'os_compute_api:os-gpu-leases:priority:urgent'))
            self.context = self.admin()
            self.assertEqual(202, self.create(hints, flavor).status_int)

    def test_create_in_an_unknown_class(self):
        self.assertEqual('gpu_lease.hint.invalid', self.error(
            self.create({'gpu_lease': '1h', 'gpu_lease_priority': 'vip'}),
            400, 'badRequest', "'vip'", 'normal or urgent or spare'))

    def test_wrong_classes_do_not_start(self):
        self.flags(priorities=['normal:much'])
        error = self.assertRaises(exception.InvalidPriorities,
                                  lambda: self.app)
        self.assertIn("'normal:much'", str(error))
