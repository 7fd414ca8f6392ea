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


"""Who dispatches looks at once, whichever conductor an event came to."""

import threading
from unittest import mock

import fixtures
from nova import context as nova_context
from nova import rpc as nova_rpc
import oslo_messaging as messaging

from nova_gpu_lease.conductor import leases
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.db import api as db
from tests import base


class WakeTest(base.DatabaseTestCase):
    def setUp(self):
        super().setUp()
        self.context = nova_context.get_admin_context()
        transport = messaging.get_rpc_transport(self.conf.conf, 'fake://')
        self.addCleanup(transport.cleanup)
        self.useFixture(fixtures.MonkeyPatch(
            'nova.rpc.get_client',
            lambda target, serializer=None: messaging.get_rpc_client(
                transport, target, serializer=nova_rpc.
                RequestContextSerializer(serializer))))
        self.told = {}
        self.conductors = {name: self.serve(transport, name)
                           for name in ('one', 'two')}

    def serve(self, transport, name):
        self.told[name] = threading.Semaphore(0)
        endpoint = leases.LeaseEndpoint(
            name, mock.Mock(side_effect=lambda: self.look(name)))
        server = messaging.get_rpc_server(
            transport, messaging.Target(topic='conductor', server=name),
            [endpoint], executor='threading',
            serializer=nova_rpc.RequestContextSerializer(None))
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)
        return endpoint

    def look(self, name):
        self.told[name].release()
        return name == 'two'

    def test_the_one_that_dispatches_is_told(self):
        before = db.wake_value()
        self.conductors['one'].wake(self.context)
        self.assertTrue(self.told['two'].acquire(timeout=30))
        self.assertEqual(before + 1, db.wake_value())

    def test_nobody_else_is_told_by_the_one_that_dispatches(self):
        self.conductors['two'].wake(self.context)
        self.assertTrue(self.told['two'].acquire(timeout=30))
        self.assertFalse(self.told['one'].acquire(timeout=0.3))

    def test_message_bus_that_is_away(self):
        with mock.patch.object(rpcapi.ConductorAPI, 'woken',
                               side_effect=messaging.MessageDeliveryFailure):
            self.conductors['one'].wake(self.context)
        self.assertEqual(1, db.wake_value())

    def test_devices_that_changed(self):
        self.conductors['one'].sync_host(self.context, 'host', [], False)
        self.assertFalse(self.told['two'].acquire(timeout=0.3))
        self.conductors['one'].sync_host(self.context, 'host', [], True)
        self.assertTrue(self.told['two'].acquire(timeout=30))
