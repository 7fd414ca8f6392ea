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


"""How leases that make room end, and what comes of their servers.

That Nova shelves and unshelves them is in the functional tests.
"""

import fixtures as fixtures_
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects

from nova_gpu_lease.conductor import endings
from nova_gpu_lease.conductor import preemption
from nova_gpu_lease.conductor import tries
from nova_gpu_lease.db import api
from tests import fixtures
from tests.unit.db import base

HOST = base.HOST


class _Instance(dict):
    """A nova Instance that is shelved."""

    uuid = 'server'
    task_state = None
    busy = False

    def __init__(self):
        super().__init__()
        self._context = nova_context.get_admin_context()

    def save(self, expected_task_state):
        if self.busy:
            raise nova_exception.UnexpectedTaskStateError(
                instance_uuid=self.uuid, expected='', actual='')


class PreemptionTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.clock = self.useFixture(fixtures.ClockFixture(base.NOW))
        self.actions = []
        objects.register_all()
        self.useFixture(fixtures_.MonkeyPatch(
            'nova.objects.InstanceAction.action_start',
            lambda cls, context, server, name, want_result: (
                self.actions.append((
                    context.user_id, context.project_id, context.request_id,
                    server, name)))))

    def ending(self, after=600, **lease):
        """A lease that is EXPIRING to make room after so many seconds."""
        one, = self.activate(
            'server', priority='spare', trust_id='trust', lease=lease,
            credentials='trust', payload={'image': 'x'})
        api.lease_set(one, preempt_at=base.NOW + base.seconds(after))
        self.clock.now = base.NOW + base.seconds(after - 1)
        preemption.begin_due(HOST)
        self.assertEqual('ACTIVE', api.lease_get(one.uuid).state)
        self.clock.now += base.seconds(1)
        preemption.begin_due(HOST)
        one = api.lease_get(one.uuid)
        self.assertEqual(('EXPIRING', 'preempting'),
                         (one.state, one.reason_code))
        return one

    def test_waits_again_for_what_was_left(self):
        lease = self.ending(max_duration=7200, on_expiry='delete')
        instance = _Instance()
        self.assertTrue(preemption.resume(lease, instance, HOST))
        self.assertEqual('unshelving', instance.task_state)
        over = api.lease_get(lease.uuid)
        self.assertEqual(('EXPIRED', 'preempted', 'shelved'), (
            over.state, over.reason_code, over.end_action))
        self.assertIn('for the 50m that are left', over.reason)
        request, = api.requests_in(['QUEUED'], with_payload=True)
        first = api.request_get(lease.request.uuid)
        self.assertEqual(
            ('unshelve', 'spare', first.id, first.queued_at, 'trust',
             'trust', None, 'preempted'),
            (request.kind, request.priority, request.resumes,
             request.queued_at, request.trust_id, request.credentials,
             request.wait_until, request.reason_code))
        self.assertEqual('user', request.context['user'])
        again = api.lease_current('server')
        self.assertEqual((3000, 6600, 'delete'), (
            again.duration, again.max_duration, again.on_expiry))
        # The owner sees an unshelve, that Nova's compute will end.
        self.assertEqual(
            [('user', 'project', request.context['request_id'], 'server',
              'unshelve')], self.actions)

    def test_withdrawn_at_the_last_moment(self):
        one, = self.activate('server', priority='spare',
                             lease={'on_expiry': 'delete'})
        api.lease_set(one, preempt_at=base.NOW)
        read = api.leases_preempting()
        self.clock.advance(1)
        api.lease_set(read[0], preempt_at=None)
        self.useFixture(fixtures_.MockPatchObject(
            api, 'leases_preempting', lambda: read))
        preemption.begin_due(HOST)
        self.assertEqual('ACTIVE', api.lease_get(one.uuid).state)

    def test_busy_meanwhile(self):
        instance = _Instance()
        instance.busy = True
        self.assertTrue(preemption.resume(self.ending(), instance, HOST))
        self.assertEqual('QUEUED', api.lease_current('server').state)

    def test_nobody_to_act_for(self):
        lease = self.ending()
        api.lease_set(lease, stand_in=True)
        self.assertFalse(preemption.resume(
            api.lease_get(lease.uuid), _Instance(), HOST))
        self.assertEqual('EXPIRING', api.lease_get(lease.uuid).state)
        self.assertEqual([], self.actions)

    def test_kept_whatever_was_agreed(self):
        self.flags(on_expiry_fallback='delete', expiry_attempts=1,
                   group='gpu_lease')
        lease = self.ending(on_expiry='delete')
        self.assertFalse(tries.deletes(lease))
        values, gives_up = tries.failed(lease, 'locked', False)
        self.assertTrue(gives_up)
        self.assertTrue(preemption.give_up(lease, values, HOST))
        lease = api.lease_get(lease.uuid)
        self.assertEqual(
            ('ACTIVE', 'preemption_failed', None, None, 0),
            (lease.state, lease.reason_code, lease.preempt_at,
             lease.next_attempt_at, lease.attempts))
        self.assertIn('locked', lease.reason)

    def test_own_end_comes_first(self):
        lease = self.ending(on_expiry='delete')
        self.assertIs(lease, preemption.or_end(lease))
        self.assertIn('made room', endings.why(lease)[1])
        self.clock.now = lease.expires_at
        lease = preemption.or_end(lease)
        self.assertIsNone(lease.preempt_at)
        self.assertTrue(tries.deletes(lease))
        self.assertEqual('the lease ended', endings.why(lease)[1])
        self.assertFalse(preemption.give_up(lease, {}, HOST))
