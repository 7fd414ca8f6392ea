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

"""When a build that failed is tried again."""

from nova_gpu_lease.conductor import again
from nova_gpu_lease.db import api
from nova_gpu_lease import exception
from tests.unit.db import base


class RequeueTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.flags(max_build_attempts=2)
        self.placed, = self.place('server', lease={'host': 'host1'})

    def test_failed_build_waits_again_as_often_as_is_allowed(self):
        api.lease_set(self.placed, attempt_started_at=base.NOW)
        lease = api.lease_get(self.placed.uuid)
        self.assertTrue(again.requeue(lease, 'it broke', base.HOST))
        lease = api.lease_get(self.placed.uuid)
        self.assertEqual(('QUEUED', 1, None), (
            lease.state, lease.build_attempts, lease.attempt_started_at))
        self.assertIn('Try 1 of 2 to build it failed on host1: it broke',
                      lease.reason)
        lease = api.lease_transition(lease, 'BUILDING', base.HOST)
        self.assertFalse(again.requeue(lease, 'it broke', base.HOST))
        self.assertEqual(lease.generation,
                         api.lease_get(lease.uuid).generation)

    def test_build_that_a_compute_has_just_begun_is_left_alone(self):
        api.lease_set(self.placed, attempt_started_at=base.NOW)
        self.assertRaises(exception.StaleState, again.requeue, self.placed,
                          'nobody began it', base.HOST)
        self.assertEqual('BUILDING', api.lease_get(self.placed.uuid).state)
