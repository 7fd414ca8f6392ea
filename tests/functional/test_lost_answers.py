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

"""Builds whose conductor dies with a question of theirs in its hands."""

import fixtures
from nova.compute import task_states
from nova.compute import vm_states
from nova import objects
import oslo_messaging as messaging

from nova_gpu_lease.compute import manager
from nova_gpu_lease.db import api as db
from tests.functional import base


class LostAnswerTest(base.CloudTestCase):

    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(manager, 'ASK_PAUSE', 0.1))
        self.lost = 0

    def lose(self, when, done, times=1):
        """Let saves of servers be asked for in vain.

        :param when: tells of an Instance whether this is such a save.
        :param done: whether it is done all the same, and only the answer
            is lost.
        """
        real = objects.Instance.save

        def save(instance, *args, **kwargs):
            hit = self.lost < times and when(instance, kwargs)
            if hit:
                self.lost += 1
                if done:
                    real(instance.obj_clone(), *args, **kwargs)
                raise messaging.MessagingTimeout('no answer')
            return real(instance, *args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.save', save))

    @staticmethod
    def _after_spawn(instance, kwargs):
        return (instance.vm_state == vm_states.ACTIVE and
                task_states.SPAWNING in (
                    kwargs.get('expected_task_state') or ()))

    @staticmethod
    def _before_build(instance, kwargs):
        return kwargs.get('expected_task_state') == (
            task_states.SCHEDULING, None)

    def assert_runs_once(self, server, spawns=1):
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        self.assertTrue(self.lost)
        self.assertEqual(spawns, len(self.virt.driver.spawns))
        guests = [host for host, compute in self.computes.items()
                  if server in compute.manager.driver.list_instance_uuids()]
        self.assertEqual([self.host_of(server)], guests)
        self.assertEqual(1, self.free_devices())
        self.assert_no_leaks()

    def test_guest_that_runs_is_told_of_again(self):
        self.lose(self._after_spawn, done=False)
        self.assert_runs_once(self.create('one'))

    def test_guest_that_was_told_of_is_told_of_again(self):
        self.lose(self._after_spawn, done=True)
        self.assert_runs_once(self.create('one'))

    def test_guest_that_its_user_reboots_meanwhile(self):
        rebooted = []

        def after_spawn(instance, kwargs):
            if not self._after_spawn(instance, kwargs):
                return False
            if rebooted:
                row = objects.Instance.get_by_uuid(
                    instance._context, instance.uuid)
                row.task_state = task_states.REBOOTING
                row.save(expected_task_state=[None])
            rebooted.append(instance.uuid)
            return len(rebooted) == 1

        self.lose(after_spawn, done=True, times=2)
        server = self.create('one')
        self.wait_for_status(server, 'REBOOT')
        self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual(2, len(rebooted))
        self.assertEqual(1, len(self.virt.driver.spawns))

    def test_guest_whose_event_cannot_be_written_is_left_alone(self):
        event = objects.InstanceActionEvent
        real = event.event_finish_with_failure

        def finish(context, instance_uuid, event_name, *args, **kwargs):
            real(context, instance_uuid, event_name, *args, **kwargs)
            if event_name.endswith('_do_build_and_run_instance'):
                self.lost += 1
                raise messaging.MessagingTimeout('no answer')

        self.useFixture(fixtures.MockPatchObject(
            event, 'event_finish_with_failure', finish))
        self.assert_runs_once(self.create('one'))

    def test_guest_that_nobody_is_told_of_is_removed(self):
        self.lose(self._after_spawn, done=False, times=manager.ASK_TRIES + 1)
        server = self.create('one')
        self.wait_for_status(server, 'ERROR')
        self.wait_for_lease(server, 'CANCELLED')
        for compute in self.computes.values():
            self.assertEqual([], compute.manager.driver.list_instance_uuids())

    def test_build_that_could_not_begin_is_queued_again(self):
        for done in (False, True):
            self.lost = 0
            del self.virt.driver.spawns[:]
            self.lose(self._before_build, done)
            server = self.create('begins')
            self.assert_runs_once(server)
            self.assertEqual(1, db.lease_current(server).build_attempts)
            self.api.delete_server(server)
            self.wait_for_status(server, None)
            self.wait_for('free devices', lambda: self.free_devices() == 2)

    def test_build_without_networks_is_queued_again(self):
        self.lose(lambda instance, kwargs:
                  instance.task_state == task_states.NETWORKING, done=True)
        server = self.create('one')
        self.assert_runs_once(server)
        self.assertEqual(1, db.lease_current(server).build_attempts)

    def test_unshelved_guest_is_told_of_again(self):
        server = self.create('one', hints={'gpu_lease': '2s'})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'EXPIRED')
        self.lose(lambda instance, kwargs:
                  instance.vm_state == vm_states.ACTIVE and
                  instance.host and instance.launched_at, done=False,
                  times=2)
        del self.virt.driver.spawns[:]
        self.api.post_server_action(server, {'unshelve': None})
        self.wait_for_status(server, 'ACTIVE')
        lease = self.wait_for('a lease that began', lambda: (
            lambda lease: lease['started_at'] and lease)(self.lease(server)))
        self.assertIn(lease['status'], ('ACTIVE', 'EXPIRING', 'EXPIRED'))
        self.assertEqual(1, len(self.virt.driver.spawns))
