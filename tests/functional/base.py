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

"""Boots a cloud with this package in its hooks; what tests ask of it."""

import functools
from importlib import metadata
import os
import threading
import time

import fixtures
from nova import context as nova_context
from nova import objects
from nova import service

from nova_gpu_lease.api import paste
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from tests import fixtures as lease_fixtures
from tests.functional import driver
from tests.functional import nova_fixtures

MANAGERS = {
    'nova-compute': 'nova_gpu_lease.compute.manager.GPULeaseComputeManager',
    'nova-conductor':
        'nova_gpu_lease.conductor.manager.GPULeaseConductorManager',
    'nova-scheduler':
        'nova_gpu_lease.scheduler.manager.GPULeaseSchedulerManager',
}

#: An image of Nova's Glance fixture.
IMAGE = '155d900f-4e14-4e4c-a73d-069cbf4541e6'

#: The longest time that anything here takes, in seconds.
TIMEOUT = 60


@functools.cache
def nova_paste_ini():
    """The path of the api-paste.ini that Nova installed."""
    path, = [path for path in metadata.files('nova')
             if path.name == 'api-paste.ini']
    return path.locate()


class HooksFixture(fixtures.Fixture):
    """Puts this package into the services that are started after it."""

    def _setUp(self):
        self.useFixture(lease_fixtures.DatabaseFixture())
        self.useFixture(fixtures.MockPatchObject(
            service, 'SERVICE_MANAGERS',
            dict(service.SERVICE_MANAGERS, **MANAGERS)))
        path = os.path.join(self.useFixture(fixtures.TempDir()).path,
                            'api-paste.ini')
        with open(path, 'w') as ini:
            ini.write(paste.insert_filter(nova_paste_ini().read_text()))
        filters = list(CONF.filter_scheduler.enabled_filters)
        if 'PciPassthroughFilter' in filters:
            filters.remove('PciPassthroughFilter')
        filters.append('GPULeaseFilter')
        for group, options in {
                'wsgi': {'api_paste_config': path},
                'filter_scheduler': {
                    'available_filters': [
                        'nova.scheduler.filters.all_filters',
                        'nova_gpu_lease.scheduler.filters.GPULeaseFilter'],
                    'enabled_filters': filters,
                    'weight_classes': [
                        'nova.scheduler.weights.all_weighers',
                        'nova_gpu_lease.scheduler.weights.GPULeaseWeigher']},
                # Only events drive the queue, and these at once.
                'gpu_lease': {
                    'poll_interval': 0.2, 'dispatch_interval': '1h',
                    'sync_interval': '1h', 'expiry_retry_interval': '1s'},
        }.items():
            for name, value in options.items():
                CONF.set_override(name, value, group=group)
                self.addCleanup(CONF.clear_override, name, group=group)


class CloudMixin:
    """What tests on a cloud need, whatever its virt driver.

    Subclasses set the class attributes.
    """

    #: Whether devices are inventories of Placement.
    PCI_IN_PLACEMENT = False
    #: Whether this package is in the services.
    HOOKS = True

    def setUp(self):
        self.useFixture(lease_fixtures.SQLitePoolFixture())
        self.useFixture(lease_fixtures.CompiledStatementsFixture())
        super().setUp()
        self.flavors = {}

    def _setup_services(self):
        # Nova's tests let a service end in the background, which then shuts
        # the thread pools of the next test.
        self.flags(rpc_response_timeout=10, manager_shutdown_timeout=10,
                   # A test may end while its scheduler is being asked.
                   long_rpc_timeout=15)
        self.flags(report_in_placement=self.PCI_IN_PLACEMENT, group='pci')
        self.flags(pci_in_placement=self.PCI_IN_PLACEMENT,
                   enabled_filters=CONF.filter_scheduler.enabled_filters + [
                       'PciPassthroughFilter'], group='filter_scheduler')
        self.flags(instances=-1, cores=-1, ram=-1, group='quota')
        # Nova is not asked to offload: expiry does.
        self.flags(shelved_offload_time=-1)
        self.flags(api_paste_config=str(nova_paste_ini()), group='wsgi')
        if self.HOOKS:
            self.useFixture(HooksFixture())
            # Before the database is gone, and after the services stopped.
            self.addCleanup(self._join_threads)
        super()._setup_services()

    @staticmethod
    def _join_threads():
        for thread in threading.enumerate():
            if thread.name.startswith('gpu-lease'):
                thread.join(TIMEOUT)

    # Servers

    def flavor(self, devices='gpu:1', **extra_specs):
        """The id of a flavor, made on first use.

        :param devices: as in pci_passthrough:alias; '' for no device.
        :param extra_specs: further ones; a double underscore is a colon.
        """
        specs = {name.replace('__', ':'): value
                 for name, value in extra_specs.items()}
        if devices:
            specs['pci_passthrough:alias'] = devices
        key = repr(sorted(specs.items()))
        if key not in self.flavors:
            self.flavors[key] = self._create_flavor(
                vcpu=1, memory_mb=1024, disk=1, extra_spec=specs)
        return self.flavors[key]

    def body(self, name, hints=None, flavor=None, **values):
        """The body of a request to create a server."""
        server = {'name': name, 'imageRef': IMAGE, 'networks': 'none',
                  'flavorRef': flavor or self.flavor()}
        server.update(values)
        body = {'server': server}
        if hints is not None:
            body['os:scheduler_hints'] = hints
        return body

    def create(self, name, hints=None, flavor=None, api=None, **values):
        """Create a server, with a lease of an hour unless hints are given.

        :returns: its id.
        """
        if hints is None:
            hints = {'gpu_lease': '1h'}
        return (api or self.api).post_server(
            self.body(name, hints, flavor, **values))['id']

    def create_gang(self, name, count, hints=None, flavor=None):
        """Create several servers that start together.

        :returns: their ids, by name.
        """
        self.create(name, hints, flavor, min_count=count, max_count=count)
        servers = {server['name']: server['id'] for server in
                   self.api.get_servers(False, {'name': '^%s-' % name})}
        self.assertEqual(count, len(servers))
        return [servers['%s-%d' % (name, number)]
                for number in range(1, count + 1)]

    def status(self, server_id):
        """The status of a server; None when it is gone."""
        try:
            return self.api.get_server(server_id)['status']
        except nova_fixtures.NotFound:
            return None

    def wait_for(self, what, check, timeout=TIMEOUT):
        """Wait until something holds.

        :param what: for the failure, a str or a function that returns one.
        :param check: a function; it holds when that returns something true.
        :returns: what check returned.
        """
        end = time.monotonic() + timeout
        pause = 0.05
        while True:
            began = time.monotonic()
            found = check()
            if found:
                return found
            now = time.monotonic()
            if now > end:
                self.fail('Timeout: %s' % (what() if callable(what)
                                           else what))
            # Services in the same process wait for the processor meanwhile.
            time.sleep(max(pause, min(4 * (now - began), 1)))
            pause = min(pause * 1.2, 0.5)

    def wait_for_status(self, server_ids, status, timeout=TIMEOUT):
        """Wait until a server, or each of a list, has a status."""
        if isinstance(server_ids, str):
            server_ids = [server_ids]
        for server_id in server_ids:
            self.wait_for(
                lambda: '%s is not %s but %s; its lease: %s' % (
                    server_id, status, self.api.get_server(server_id),
                    self.lease(server_id)),
                lambda: self.status(server_id) == status, timeout)

    def wait_for_lease(self, server_id, status, timeout=TIMEOUT):
        """Wait until the lease of a server has a status, and return it."""
        return self.wait_for(
            lambda: 'the lease is not %s but %s' % (
                status, self.lease(server_id)),
            lambda: (lambda lease: lease if lease and
                     lease['status'] == status else None)(
                         self.lease(server_id)), timeout)

    def wait_for_begin(self, server_id):
        """Wait until the lease of a server has begun.

        On a slow machine a short one is soon over: not by the slower API.
        """
        def began():
            try:
                return db.lease_get(server_id).started_at
            except exception.LeaseNotFound:
                return None

        self.wait_for('the lease to begin', began)

    def host_of(self, server_id):
        return self.admin_api.get_server(server_id)['OS-EXT-SRV-ATTR:host']

    def service(self, host, **values):
        """Change the compute service of a host."""
        service = self.admin_api.get_services(
            binary='nova-compute', host=host)[0]
        return self.admin_api.put_service(service['id'], values)

    def instance(self, server_id):
        """Nova's record of a server."""
        context = nova_context.get_admin_context()
        nova_context.set_target_cell(context, self.cell_mappings['cell1'])
        return objects.Instance.get_by_uuid(context, server_id)

    # Leases

    def lease(self, server_id, api=None):
        """The lease of a server as the API shows it; None without one."""
        try:
            return (api or self.api).api_get(
                '/os-gpu-leases/%s' % server_id).body['gpu_lease']
        except nova_fixtures.NotFound:
            return None

    def leases(self, query='', api=None):
        return (api or self.api).api_get(
            '/os-gpu-leases%s' % query).body['gpu_leases']

    def queue(self, query='', api=None):
        return (api or self.api).api_get(
            '/os-gpu-leases/queue%s' % query).body['gpu_queue']

    def look(self):
        """Have the dispatcher look at the queue, and wait until it did."""
        dispatcher = self.conductor.manager.gpu_lease_dispatcher
        real, done = dispatcher.run, threading.Event()

        def run(still_ours):
            try:
                return real(still_ours)
            finally:
                done.set()

        with fixtures.MockPatchObject(dispatcher, 'run', run):
            db.wake()
            self.assertTrue(done.wait(TIMEOUT))

    def waiting(self):
        """The names of the servers of each waiting request, in order."""
        return [request['server_names'] for request in self.queue()]

    # Devices

    def devices(self, host):
        """{address: server id or None} as the PCI tracker of a host has it."""
        tracker = self.computes[host].manager.rt.pci_tracker
        return {device.address: device.instance_uuid
                for device in tracker.pci_devs}

    def free_devices(self):
        return sum(server is None for host in self.computes
                   for server in self.devices(host).values())

    def assert_no_leaks(self):
        """Devices and allocations are held by existing servers only."""
        servers = {server['id'] for server in self.admin_api.get_servers(
            False, {'all_tenants': 1})}
        held = {server for host in self.computes
                for server in self.devices(host).values()} - {None}
        self.assertLessEqual(held, servers)
        for host in self.computes:
            provider = self._get_provider_uuid_by_host(host)
            self.assertLessEqual(
                set(self._get_allocations_by_provider_uuid(provider)),
                servers)


class CloudTestCase(CloudMixin, nova_fixtures.IntegratedTestBase):
    """Nova's services in this process, and hosts with GPUs but no guests."""

    #: {host: {PCI alias: number of devices}}
    GPUS = {'host1': {'gpu': 4}}

    def setUp(self):
        self.virt = self.useFixture(driver.GPUDriverFixture(self.GPUS))
        super().setUp()

    def _setup_services(self):
        self.flags(compute_driver='fake.GPUDriver')
        self.flags(device_spec=driver.DEVICE_SPEC, alias=driver.ALIAS,
                   group='pci')
        super()._setup_services()

    def _setup_compute_service(self):
        for host in self.GPUS:
            self._start_compute(host)
        return self.computes[next(iter(self.GPUS))]
