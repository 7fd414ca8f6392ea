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

"""The hooks of nova-compute: the guard, the reports, the start-up check."""

import threading

import fixtures
from nova.compute import manager as nova_manager
from nova.compute import rpcapi as nova_rpcapi
from nova.compute import vm_states
import oslo_messaging as messaging

from nova_gpu_lease.compute import manager
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease import exception
from tests.functional import base


class ComputeTest(base.CloudTestCase):

    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        self.casts = []
        real = nova_rpcapi.ComputeAPI.build_and_run_instance

        def cast(api, context, **values):
            self.casts.append((context, values))
            return real(api, context, **values)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.rpcapi.ComputeAPI.build_and_run_instance', cast))

    def cast_again(self, host):
        """Let the last build arrive once more, on a host, and end."""
        context, values = self.casts[-1]
        ended = threading.Event()
        compute = self.computes[host].manager
        self.useFixture(fixtures.MockPatchObject(
            compute, '_build_ended', lambda *args: ended.set()))
        nova_rpcapi.ComputeAPI().build_and_run_instance(
            context, **dict(values, host=host, node=host))
        self.assertTrue(ended.wait(base.TIMEOUT))

    def test_stale_build_is_dropped_and_harms_nothing(self):
        server = self.create('one')
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_lease(server, 'ACTIVE')
        here = self.host_of(server)
        before = self._get_allocations_by_server_uuid(server)
        for host in self.GPUS:
            self.cast_again(host)
            self.assertIn('A build is dropped', self.stdlog.logger.output)
            self.assertEqual('ACTIVE', self.status(server))
            self.assertEqual(here, self.host_of(server))
            self.assertEqual(before,
                             self._get_allocations_by_server_uuid(server))
            self.assertEqual(1, self.free_devices())
            self.stdlog.delete_stored_logs()

    def test_stale_build_of_a_deleted_server_is_dropped(self):
        server = self.create('one')
        self.wait_for_status(server, 'ACTIVE')
        self.api.delete_server(server)
        self.wait_for_lease(server, 'RELEASED')
        self.cast_again('host2')
        self.wait_for('free devices', lambda: self.free_devices() == 2)
        self.assert_no_leaks()

    def test_build_without_lease_is_not_stopped(self):
        server = self.create('one', hints={})
        self.wait_for_status(server, 'ACTIVE')
        self.assertIsNone(self.lease(server))

    def test_build_waits_for_no_conductor_that_knows_leases(self):
        """A server without a device does not even ask."""
        def build_allowed(api, context, server_id, host, generation):
            raise messaging.MessagingTimeout('nobody is there')

        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.rpcapi.ConductorAPI.build_allowed',
            build_allowed))
        self.useFixture(fixtures.MockPatchObject(manager, 'ASK_PAUSE', 0))
        cpu = self.create('cpu', hints={}, flavor=self.flavor(''))
        self.wait_for_status(cpu, 'ACTIVE')
        leased = self.create('leased')
        self.wait_for_lease(leased, 'BUILDING')
        self.wait_for('the drop', lambda: 'nobody is there' in
                      self.stdlog.logger.output)
        self.assertEqual('BUILD', self.status(leased))
        self.assertEqual(2, self.free_devices())

    def test_server_that_a_starting_compute_ended_is_not_built(self):
        real = rpcapi.ConductorAPI.build_allowed

        def build_allowed(api, context, server_id, *args):
            # As nova-compute does with what it was to build when it died.
            instance = self.instance(server_id)
            instance.vm_state = vm_states.ERROR
            instance.save()
            return real(api, context, server_id, *args)

        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.conductor.rpcapi.ConductorAPI.build_allowed',
            build_allowed))
        server = self.create('one')
        self.wait_for_lease(server, 'CANCELLED')
        self.assertEqual('ERROR', self.status(server))
        self.assertEqual([], self.virt.driver.spawns)
        self.assertEqual(2, self.free_devices())

    def test_stop_waits_for_the_build_and_tells_its_end(self):
        self.flags(manager_shutdown_timeout=40)
        with self.virt.hold('host1'), self.virt.hold('host2'):
            server = self.create('one')
            self.wait_for('the claim', lambda: self.free_devices() == 1)
            host = self.host_of(server)
            stop = threading.Thread(target=self.computes[host].stop)
            stop.start()
            self.wait_for('the stop', lambda: 'Graceful shutdown initiated'
                          in self.stdlog.logger.output)
        stop.join(base.TIMEOUT)
        self.assertFalse(stop.is_alive())
        self.assertEqual('ACTIVE', self.lease(server)['status'])

    def test_unknown_nova_is_refused(self):
        def unshelve_instance(self, context, instance, something_new):
            pass

        for name, value in (('unshelve_instance', unshelve_instance),
                            ('target', messaging.Target(version='7.0'))):
            with fixtures.MockPatchObject(
                    nova_manager.ComputeManager, name, value):
                self.assertRaises(
                    exception.UnsupportedNova, self.start_service,
                    'compute', host='host3')
        self.assertIsNone(manager.check_supported())
        self.assertTrue(issubclass(manager.GPULeaseComputeManager,
                                   nova_manager.ComputeManager))
