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

"""What a request does while Keystone makes its trust, or does not."""

import threading

import fixtures

from nova_gpu_lease.conductor import endpoint
from nova_gpu_lease.db import api as db
from nova_gpu_lease import secrets
from tests.functional import base


class _Keystone:
    """A Keystone that makes no trust before it is told to."""

    def __init__(self):
        self.answers = threading.Event()
        self.asked = threading.Event()

    def configured(self):
        return True

    def create_trust(self, context, mark):
        self.asked.set()
        self.answers.wait(base.TIMEOUT)
        return 'trust'

    def trust_token(self, trust_id):
        return 'token of the trust'

    def is_accepted(self, token):
        return token == 'token of the call'

    def marked_trusts(self):
        return {}

    def delete_trust(self, trust_id):
        pass


class TrustTest(base.CloudTestCase):

    GPUS = {'host1': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        self.keystone = _Keystone()
        self.addCleanup(self.keystone.answers.set)
        self.conductor.manager.gpu_lease_creds.keystone = self.keystone
        real = endpoint.QueueEndpoint._enqueue

        def enqueue(endpoint, context, *args):
            # Nova's tests work without a Keystone, and so without tokens.
            context.auth_token = 'token of the call'
            real(endpoint, context, *args)

        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.endpoint.QueueEndpoint._enqueue',
            enqueue))

    def test_request_starts_while_its_trust_is_made(self):
        self.flags(encryption_keys=[secrets.generate_key()],
                   group='gpu_lease')
        server = self.create('one')
        self.wait_for_status(server, 'ACTIVE', timeout=30)
        self.assertTrue(self.keystone.asked.is_set())
        self.assertIsNone(self.lease(server)['credentials'])
        self.keystone.answers.set()
        self.wait_for('the trust', lambda: self.lease(
            server)['credentials'] == 'trust')
        request = db.request_get(db.lease_current(server).request.uuid)
        self.assertEqual(('trust', None), (request.trust_id, request.token))

    def test_request_without_a_token_waits_for_its_trust(self):
        server = self.create('one')
        self.assertTrue(self.keystone.asked.wait(base.TIMEOUT))
        self.look()
        self.assertEqual('QUEUED', self.lease(server)['status'])
        self.assertEqual([], self.virt.driver.spawns)
        # Nor is that a try which failed.
        self.assertEqual(0, db.lease_current(server).request.attempts)
        self.keystone.answers.set()
        self.wait_for_status(server, 'ACTIVE')
