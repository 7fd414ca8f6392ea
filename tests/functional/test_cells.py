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

"""Leases on hosts of two cells.

One process has one configuration, so that both cells share a conductor here;
``tests/cloud/test_cells.py`` has conductors of cells without an API database.
"""

import threading

import fixtures
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_db import exception as db_exception

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import leases
from nova_gpu_lease.db import api as db
from nova_gpu_lease import failpoints
from nova_gpu_lease import states
from tests.functional import base


class CellsTest(base.CloudTestCase):

    NUMBER_OF_CELLS = 2
    CELLS = {'host1': 'cell1', 'host2': 'cell2'}
    GPUS = {'host1': {'gpu': 1}, 'host2': {'gpu': 1}}

    def _setup_compute_service(self):
        for host, cell in self.CELLS.items():
            self._start_compute(host, cell)
        return self.computes['host1']

    def leased(self, names, duration='1h', **hints):
        """Servers on both hosts: {host: server id}."""
        found = {}
        for name in names:
            server = self.create(name, dict({'gpu_lease': duration}, **hints))
            self.wait_for_status(server, 'ACTIVE')
            self.wait_for_lease(server, 'ACTIVE')
            found[self.host_of(server)] = server
        self.assertEqual({'host1', 'host2'}, set(found))
        return found

    def cell_of(self, server):
        return objects.InstanceMapping.get_by_instance_uuid(
            nova_context.get_admin_context(), server).cell_mapping.name

    def test_queue_serves_both_cells(self):
        first = self.leased(['one', 'two'])
        waiting = [self.create(name) for name in ('three', 'four')]
        for server in waiting:
            self.wait_for_lease(server, 'QUEUED')
        # The host of the second cell is given back first.
        for host, server in zip(('host2', 'host1'), waiting):
            self.api.delete_server(first[host])
            self.wait_for_lease(server, 'ACTIVE')
            self.assertEqual(host, self.host_of(server))
            self.assertEqual(self.CELLS[host], self.cell_of(server))
        self.assert_no_leaks()

    def test_gang_over_both_cells(self):
        servers = self.create_gang('gang', 2)
        for server in servers:
            self.wait_for_lease(server, 'ACTIVE')
        self.assertEqual({'cell1', 'cell2'},
                         {self.cell_of(server) for server in servers})

    def test_gang_that_fails_starts_again_in_both_cells(self):
        self.virt.driver.fail_spawn.update(self.GPUS)
        with self.virt.hold('host1'), self.virt.hold('host2'):
            gang = self.create_gang('gang', 2)
            self.wait_for('both builds',
                          lambda: len(self.virt.driver.holds) == 2)
            for host in self.GPUS:
                self.service(host, status='disabled')
        for server in gang:
            self.wait_for_lease(server, 'QUEUED')
        self.virt.driver.fail_spawn.clear()
        in_cell = {self.cell_of(server): server for server in gang}
        # Neither waits for the host of the other one.
        for host in ('host2', 'host1'):
            self.service(host, status='enabled')
            server = in_cell.pop(self.CELLS[host])
            self.wait_for_lease(server, 'ACTIVE')
            self.assertEqual(host, self.host_of(server))
            for other in in_cell.values():
                self.wait_for_lease(other, 'QUEUED')
        self.assert_no_leaks()

    def test_disabled_cell_gets_no_new_servers(self):
        servers = self.leased(['one', 'two'])
        self.api.post_server_action(servers['host1'], {'shelve': None})
        self.wait_for_status(servers['host1'], 'SHELVED')
        self.admin_api.post_server_action(
            servers['host1'], {'shelveOffload': None})
        self.wait_for_lease(servers['host1'], 'RELEASED')
        cell = self.cell_mappings['cell1']
        cell.disabled = True
        cell.save()
        self.scheduler.manager.host_manager.refresh_cells_caches()
        waits = self.create('waits')
        self.wait_for_lease(waits, 'QUEUED')
        self.look()
        request, = self.queue()
        self.assertEqual(0, request['attempts'])
        # Those that are in it may still start there.
        self.wait_for('no task', lambda: self.instance(
            servers['host1']).task_state is None)
        self.api.post_server_action(servers['host1'], {'unshelve': None})
        self.wait_for_lease(servers['host1'], 'ACTIVE')
        self.assertEqual('host1', self.host_of(servers['host1']))
        self.api.delete_server(servers['host2'])
        self.wait_for_lease(waits, 'ACTIVE')
        self.assertEqual('host2', self.host_of(waits))

    def test_cell_that_is_away_stops_no_other(self):
        real = objects.InstanceList.get_by_filters

        def get_by_filters(context, filters, **kwargs):
            if context.cell_uuid == self.cell_mappings['cell2'].uuid:
                raise db_exception.DBConnectionError('away')
            return real(context, filters, **kwargs)

        self.useFixture(fixtures.MockPatchObject(
            objects.InstanceList, 'get_by_filters', get_by_filters))
        manager = self.conductor.manager
        manager._gpu_lease_swept_at = None
        # Its own loop may run it meanwhile.
        runs = []
        with fixtures.MockPatchObject(
                manager.gpu_lease_dispatcher, 'run', lambda still_ours:
                runs.append(threading.current_thread())):
            manager._gpu_lease_dispatch(True)
        self.assertEqual(1, runs.count(threading.current_thread()))

    def test_leases_of_both_cells_end(self):
        kept = self.leased(['one', 'two'], '6s')
        for server in kept.values():
            self.wait_for_status(server, 'SHELVED_OFFLOADED')
            self.wait_for_lease(server, 'EXPIRED')
        gone = self.leased(['three', 'four'], '6s',
                           gpu_lease_on_expiry='delete')
        for server in gone.values():
            self.wait_for_status(server, None)
            self.wait_for_lease(server, 'EXPIRED')
        self.assert_no_leaks()

    def test_unshelve_waits_for_its_own_cell(self):
        servers = self.leased(['one', 'two'])
        self.api.post_server_action(servers['host2'], {'shelve': None})
        self.wait_for_status(servers['host2'], 'SHELVED')
        self.admin_api.post_server_action(
            servers['host2'], {'shelveOffload': None})
        self.wait_for_status(servers['host2'], 'SHELVED_OFFLOADED')
        other = self.create('other')
        self.wait_for_lease(other, 'ACTIVE')
        self.assertEqual('host2', self.host_of(other))
        self.wait_for('its lease is over', lambda: self.lease(
            servers['host2'])['status'] == 'RELEASED')
        self.api.post_server_action(servers['host2'], {'unshelve': None})
        self.wait_for_lease(servers['host2'], 'QUEUED')
        # A device of the other cell does not help it, but helps others.
        self.api.delete_server(servers['host1'])
        later = self.create('later')
        self.wait_for_lease(later, 'ACTIVE')
        self.assertEqual('QUEUED', self.lease(servers['host2'])['status'])
        self.api.delete_server(other)
        self.wait_for_lease(servers['host2'], 'ACTIVE')
        self.assertEqual('host2', self.host_of(servers['host2']))
        self.assert_no_leaks()

    def test_delete_while_it_waits_and_runs(self):
        servers = self.leased(['one', 'two'])
        waits = self.create('waits')
        self.wait_for_lease(waits, 'QUEUED')
        self.api.delete_server(waits)
        self.wait_for_lease(waits, 'CANCELLED')
        for server in servers.values():
            self.api.delete_server(server)
            self.wait_for_lease(server, 'RELEASED')
        self.assert_no_leaks()

    def test_conductor_without_api_database(self):
        """What such a conductor is asked by its computes, it can answer."""
        # The default database here is that of the first cell.
        server = self.leased(['one', 'two'])['host1']
        endpoint = leases.LeaseEndpoint('cell-conductor')
        lease = db.lease_current(server)
        instance = self.instance(server)
        context = nova_context.get_admin_context()
        self.flags(connection=None, group='api_database')
        found = endpoint.sync_host(context, 'host1', [{
            'id': server, 'vm_state': vm_states.ACTIVE, 'task_state': None,
            'launched_at': instance.launched_at.isoformat()}], True)
        self.assertEqual([(server, states.LEASE_ACTIVE)],
                         [(each['server_id'], each['state'])
                          for each in found])
        self.assertFalse(endpoint.build_allowed(context, server, 'host1'))
        db.lease_set(lease, expires_at=clock.now())
        answer = endpoint.lease_due(context, lease.uuid, lease.generation)
        self.assertEqual(states.LEASE_EXPIRING, answer['state'])

    def test_conductor_of_a_cell_where_a_server_is_not_yet(self):
        claimed, goes_on = threading.Event(), threading.Event()
        self.addCleanup(goes_on.set)

        def hit(name):
            if name == 'claimed':
                claimed.set()
                goes_on.wait(base.TIMEOUT)

        self.useFixture(fixtures.MockPatchObject(failpoints, 'hit', hit))
        server = self.create('one')
        self.assertTrue(claimed.wait(base.TIMEOUT))
        host = db.lease_current(server).host
        endpoint = leases.LeaseEndpoint('cell-conductor')
        with fixtures.MockPatchObject(
                leases.worker, 'dispatches', lambda: False), \
                fixtures.MockPatchObject(
                    leases.records, 'find_instance', self.not_here):
            found = endpoint.sync_host(
                nova_context.get_admin_context(), host, [], True)
        self.assertEqual([(server, states.LEASE_BUILDING)],
                         [(each['server_id'], each['state'])
                          for each in found])
        goes_on.set()
        self.wait_for_lease(server, 'ACTIVE')

    @staticmethod
    def not_here(context, server_id, attrs=None):
        """What the database of a cell says of a server that is not in it."""
        raise nova_exception.InstanceNotFound(instance_id=server_id)
