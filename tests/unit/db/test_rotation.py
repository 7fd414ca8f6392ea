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

"""What is kept gets the first key, while services run."""

import fixtures

from nova_gpu_lease.db import api
from nova_gpu_lease import secrets
from tests.unit.db import base


class RotationTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.old, self.new = (secrets.generate_key() for _ in range(2))
        self.flags(encryption_keys=[self.old])

    def counts(self, **expected):
        self.assertEqual(
            dict({'rotated': 0, 'current': 0, 'changed': 0, 'unreadable': 0},
                 **expected), api.secrets_rotate())

    def test_rotate_in_batches(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.db.rotation.BATCH', 2))
        requests = [self.queue(
            'server%d' % number, secrets=secrets.encrypt({'s': number}),
            token=secrets.encrypt({'t': number})) for number in range(5)]
        self.queue('bare')
        self.flags(encryption_keys=[self.new, self.old])
        self.counts(rotated=10)
        self.counts(current=10)
        self.flags(encryption_keys=[self.new])
        for number, request in enumerate(requests):
            row = api.request_get(request.uuid)
            self.assertEqual({'s': number}, secrets.decrypt(row.secrets))
            self.assertEqual({'t': number}, secrets.decrypt(row.token))

    def test_change_of_a_service_is_not_undone(self):
        request = self.queue('s', secrets=secrets.encrypt({'a': 1}))
        self.flags(encryption_keys=[self.new, self.old])
        rotate = secrets.rotate

        def wiped_meanwhile(text):
            api.request_set(request, secrets=None)
            return rotate(text)

        with fixtures.MonkeyPatch('nova_gpu_lease.secrets.rotate',
                                  wiped_meanwhile):
            self.counts(changed=1)
        self.assertIsNone(api.request_get(request.uuid).secrets)

    def test_unreadable_is_left_alone(self):
        request = self.queue('s', secrets=secrets.encrypt({'a': 1}),
                             token='x')
        self.counts(current=1, unreadable=1)
        self.assertEqual('x', api.request_get(request.uuid).token)
