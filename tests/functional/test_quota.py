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

"""A request over quota waits, blocks nobody, and starts when it may."""

import threading

import fixtures
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects

from nova_gpu_lease.conductor import quota
from nova_gpu_lease.db import api as db
from tests.functional import base
from tests.functional import nova_fixtures


class QuotaCases:
    """One host with more devices than the quota of the project allows."""

    GPUS = {'host1': {'gpu': 5}}

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(quota, 'RETRY', 1))
        self.useFixture(fixtures.MockPatchObject(quota, 'TRUSTED', 0.5))
        self.other = self.client_of('other', 'other-project')

    def limit(self, servers=-1, cores=-1):
        """Set the quota of the project."""
        self.admin_api.api_put(
            '/os-quota-sets/%s' % self.api.project_id,
            {'quota_set': {'instances': servers, 'cores': cores,
                           'force': True}})

    def limited(self, server_id):
        """Wait until a server waits for quota; its reason."""
        def waits():
            lease = db.lease_current(server_id)
            return lease and lease.request.reason_code == 'quota'

        self.wait_for(lambda: '%s does not wait for quota' %
                      self.lease(server_id), waits)
        return self.lease(server_id)['reason']

    def create_in_parallel(self, count):
        """Create servers at the same time; the ids of those accepted."""
        accepted, refused = [], []
        flavor = self.flavor()

        def create(number):
            api = self.client_of('user', self.api.project_id)
            try:
                accepted.append(self.create(
                    'parallel-%d' % number, flavor=flavor, api=api))
            except nova_fixtures.ApiException as exc:
                refused.append(exc.response.status_code)

        threads = [threading.Thread(target=create, args=(number,))
                   for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(base.TIMEOUT)
        self.assertEqual(count, len(accepted) + len(refused))
        self.assertLessEqual(set(refused), {403})
        return accepted

    def started(self, servers):
        """How many of them are, or will be, on a host."""
        return sum(lease['status'] in ('BUILDING', 'ACTIVE') for lease in (
            self.lease(server) for server in servers) if lease)

    def taken_while_scheduled(self):
        """Have a server take one core while the next request is scheduled.

        :returns: a list that gets the id of that server.
        """
        manager = self.conductor.manager.compute_task_mgr
        schedule = type(manager)._schedule_instances
        taken = []

        def slow(task_mgr, context, spec, *args, **kwargs):
            if not taken and spec.scheduler_hints:
                taken.append(None)
                taken[0] = self.create('quick', hints={},
                                       flavor=self.flavor(''))
                self.wait_for_status(taken[0], 'ACTIVE')
            return schedule(task_mgr, context, spec, *args, **kwargs)

        self.useFixture(fixtures.MockPatchObject(
            type(manager), '_schedule_instances', slow))
        return taken

    def test_parallel_creates_do_not_pass_the_quota(self):
        self.limit(servers=3)
        servers = self.create_in_parallel(50)
        self.assertGreaterEqual(len(servers), 3)
        most = []

        def three_run():
            most.append(self.started(servers))
            return [self.status(server)
                    for server in servers].count('ACTIVE') == 3

        self.wait_for(lambda: most[-1], three_run)
        # Two devices are free, and nobody but the quota keeps them.
        for server in servers:
            if self.lease(server)['status'] == 'QUEUED':
                self.assertIn('3 of 3 used', self.limited(server))
        most.append(self.started(servers))
        self.assertEqual(3, max(most))
        # They keep no device from the project of somebody else.
        free = self.create('other', api=self.other)
        self.wait_for_lease_of(self.other, free)
        self.assertEqual({'ERROR': 0, 'ACTIVE': 3}, {
            status: [self.status(server) for server in servers].count(status)
            for status in ('ERROR', 'ACTIVE')})
        self.assert_no_leaks()

    def wait_for_lease_of(self, api, server):
        self.wait_for('a lease', lambda: (
            self.lease(server, api=api) or {}).get('status') == 'ACTIVE')

    def test_freed_or_raised_quota_starts_the_next(self):
        self.limit(servers=4)
        full = [self.create('full-%d' % number, api=self.other)
                for number in range(5)]
        for server in full:
            self.wait_for_lease_of(self.other, server)
        servers = [self.create('mine-%d' % number) for number in range(4)]
        self.wait_for_lease(servers[3], 'QUEUED')
        self.limit(servers=2)
        for server in full[:4]:
            self.other.delete_server(server)
        self.wait_for_status(servers[:2], 'ACTIVE')
        for position, server in enumerate(servers[2:], start=1):
            self.assertIn('2 of 2 used, 1 more needed', self.limited(server))
            self.assertEqual(position, self.lease(server)['position'])
        self.api.delete_server(servers[0])
        self.wait_for_status(servers[2], 'ACTIVE')
        self.limited(servers[3])
        self.limit(servers=3)
        self.wait_for_status(servers[3], 'ACTIVE')
        self.assert_no_leaks()

    def test_plan_that_starts_several_does_not_pass_the_quota(self):
        # Nor where Nova is told to check it at the API only.
        self.flags(recheck_quota=False, group='quota')
        self.service('host1', status='disabled')
        servers = [self.create('mine-%d' % number) for number in range(4)]
        for server in servers:
            self.wait_for_lease(server, 'QUEUED')
        self.limit(servers=2)
        self.service('host1', status='enabled')
        self.wait_for_status(servers[:2], 'ACTIVE')
        for server in servers[2:]:
            self.assertIn('2 of 2 used, 1 more needed', self.limited(server))
        self.assert_no_leaks()

    def test_quota_taken_while_it_is_scheduled_leaks_nothing(self):
        self.limit(cores=2)
        first = self.create('first')
        self.wait_for_status(first, 'ACTIVE')
        taken = self.taken_while_scheduled()
        late = self.create('late')
        self.wait_for('the race', lambda: taken and taken[0])
        self.assertIn('2 of 2 used, 1 more needed', self.limited(late))
        self.assertEqual('BUILD', self.status(late))
        self.assertEqual({}, self._get_allocations_by_server_uuid(late))
        context = nova_context.get_admin_context()
        nova_context.set_target_cell(context, self.cell_mappings['cell1'])
        context = context.elevated(read_deleted='yes')
        self.assertRaises(nova_exception.InstanceNotFound,
                          objects.Instance.get_by_uuid, context, late)
        self.api.delete_server(taken[0])
        self.wait_for_status(late, 'ACTIVE')
        self.assert_no_leaks()


class UnshelveQuotaMixin:
    """Where shelved servers use nothing, and what comes back counts again."""

    #: What the cores are called.
    CORES = 'cores'

    def shelved(self, name):
        server = self.create(name)
        self.wait_for_lease(server, 'ACTIVE')
        self.api.post_server_action(server, {'shelve': {}})
        self.wait_for_status(server, 'SHELVED')
        self.admin_api.post_server_action(server, {'shelveOffload': {}})
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.wait_for_lease(server, 'RELEASED')
        return server

    def unshelve(self, server):
        self.api.post_server_action(server, {'unshelve': None})

    def test_unshelve_waits_for_quota(self):
        self.limit(cores=2)
        server = self.shelved('shelved')
        full = [self.create('full-%d' % number, api=self.other)
                for number in range(5)]
        for other in full:
            self.wait_for_lease_of(self.other, other)
        self.unshelve(server)
        self.wait_for_lease(server, 'QUEUED')
        cpu = self.create('cpu', hints={}, flavor=self._create_flavor(
            vcpu=2, memory_mb=512, disk=1))
        self.wait_for_status(cpu, 'ACTIVE')
        self.other.delete_server(full[0])
        self.assertIn('%s: 2 of 2 used, 1 more needed' % self.CORES,
                      self.limited(server))
        self.api.delete_server(cpu)
        self.wait_for_status(server, 'ACTIVE')
        self.assert_no_leaks()

    def test_quota_taken_while_an_unshelve_is_scheduled_leaks_nothing(self):
        self.limit(cores=2)
        late = self.shelved('late')
        first = self.create('first')
        self.wait_for_status(first, 'ACTIVE')
        taken = self.taken_while_scheduled()
        self.unshelve(late)
        self.wait_for('the race', lambda: taken and taken[0])
        self.assertIn('%s: 2 of 2 used, 1 more needed' % self.CORES,
                      self.limited(late))
        self.assertEqual({}, self._get_allocations_by_server_uuid(late))
        self.assertEqual(4, self.free_devices())
        instance = self.instance(late)
        self.assertEqual(('shelved_offloaded', 'unshelving', None), (
            instance.vm_state, instance.task_state, instance.host))
        self.assertEqual('QUEUED', self.lease(late)['status'])
        self.api.delete_server(taken[0])
        self.wait_for_status(late, 'ACTIVE')
        self.wait_for_lease(late, 'ACTIVE')
        self.assert_no_leaks()


class LegacyQuotaTest(QuotaCases, base.CloudTestCase):
    """Nova's default: what is in a cell counts."""


class PlacementQuotaTest(UnshelveQuotaMixin, QuotaCases,
                         base.CloudTestCase):
    """``[quota] count_usage_from_placement``."""

    def setUp(self):
        super().setUp()
        self.flags(count_usage_from_placement=True, group='quota')


class UnifiedLimitsTest(UnshelveQuotaMixin, QuotaCases, base.CloudTestCase):
    """``[quota] driver = nova.quota.UnifiedLimitsDriver``."""

    CORES = 'class:VCPU'

    def setUp(self):
        super().setUp()
        self.flags(driver='nova.quota.UnifiedLimitsDriver', group='quota')
        self.registered = dict.fromkeys(
            ('class:VCPU', 'class:MEMORY_MB', 'class:DISK_GB', 'servers'),
            10 ** 6)
        self.project = {}
        self.useFixture(nova_fixtures.LimitFixture(
            self.registered, {self.api.project_id: self.project}))

    def limit(self, servers=-1, cores=-1):
        self.project.update({
            name: value for name, value in (
                ('servers', servers), ('class:VCPU', cores)) if value >= 0})
