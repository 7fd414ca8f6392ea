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

"""Two cells whose conductors cannot read the API database."""

import configparser

from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import nova
from tests.cloud import base
from tests.cloud import ledger


class CellsTest(base.CloudTestCase):

    UP = {'hosts': 2, 'gpus_per_host': 2, 'cells': 2}
    # Hosts whose cell conductor is away cannot report; on a slow machine they
    # would be down before the client has asked for a server.
    SET = ('DEFAULT.service_down_time=300',)
    CELLS = {'host1': 'nova', 'host2': 'nova_cell2'}

    def _fill(self, **leases):
        """Servers of all four GPUs; their names by host.

        :param leases: {name: duration} of some of them.
        """
        names = ['f%d' % number for number in range(1, 5)]
        for name in names:
            self.create(name, leases.get(name, '1h'))
        self.wait_leases(**dict.fromkeys(names, 'ACTIVE'))
        hosts = {'host1': [], 'host2': []}
        for name, lease in self.leases().items():
            if name in names and lease['status'] == 'ACTIVE':
                hosts[lease['host']].append(name)
        self.assertEqual([2, 2], [len(each) for each in hosts.values()])
        return hosts

    def _assert_in_order(self):
        def look():
            back = ledger.Ledger(self.cloud)
            return not back.all(back.now)
        self.wait_until(look, 'all in order')

    def test_cell_conductors_have_no_api_database(self):
        """What this file is about is so, and they note that they live."""
        for cell in ('cell1', 'cell2'):
            parser = configparser.RawConfigParser(strict=False)
            parser.read(nova.cell_config_file(self.cloud.state, cell))
            self.assertNotIn('api_database', parser.sections())
            self.assertIn('gpu_lease_database', parser.sections())
        self.assertEqual(
            [('conductor-cell1', 0), ('conductor-cell2', 0),
             ('conductor1', 1)],
            mariadb.query(self.cloud.state, 'gpu_lease', 'SELECT host, '
                          'dispatches FROM conductors ORDER BY host'))
        pid = int(mariadb.query(self.cloud.state, 'gpu_lease',
                                'SELECT owner FROM locks'
                                )[0][0].split(':')[1])
        self.assertIn(pid, [process.pid for process in
                            self.cloud.processes.find('nova-conductor')])

    def test_queue_and_ends_in_both_cells(self):
        hosts = self._fill()
        for name in ('w1', 'w2'):
            self.create(name, '15s')
        self.wait_leases(w1='QUEUED', w2='QUEUED')
        for host, name in (('host2', 'w1'), ('host1', 'w2')):
            self.openstack(['server', 'delete', hosts[host][0]], parse=False)
            self.wait_statuses(**{name: 'ACTIVE'})
            self.assertEqual(host, self.leases()[name]['host'])
            rows = mariadb.query(
                self.cloud.state, self.CELLS[host], 'SELECT COUNT(*) FROM '
                'instances WHERE display_name = %s AND host = %s', name, host)
            self.assertEqual([(1,)], rows)
        # Their ends: the work is kept, in both cells.
        self.wait_leases(w1='EXPIRED', w2='EXPIRED')
        self.wait_statuses(w1='SHELVED_OFFLOADED', w2='SHELVED_OFFLOADED')
        # And back, each in the cell where it is.
        for name, host in (('w1', 'host2'), ('w2', 'host1')):
            self.openstack(['server', 'unshelve', name], parse=False)
            self.wait_leases(**{name: 'ACTIVE'})
            self.assertEqual(host, self.leases()[name]['host'])
        self.wait_leases(w1='EXPIRED', w2='EXPIRED')
        self._assert_in_order()

    def test_unshelve_waits_for_its_own_cell(self):
        hosts = self._fill()
        mine, other = hosts['host2']
        self.openstack(['server', 'shelve', '--offload', mine], parse=False)
        self.wait_statuses(**{mine: 'SHELVED_OFFLOADED'})
        self.wait_leases(**{mine: 'RELEASED'})
        self.create('next')
        self.wait_leases(next='ACTIVE')
        self.openstack(['server', 'unshelve', mine], parse=False)
        self.wait_leases(**{mine: 'QUEUED'})
        self.openstack(['server', 'delete', hosts['host1'][0]], parse=False)
        self.create('later')
        self.wait_leases(later='ACTIVE')
        self.assertEqual('QUEUED', self.leases()[mine]['status'])
        self.openstack(['server', 'delete', other], parse=False)
        self.wait_leases(**{mine: 'ACTIVE'})
        self._assert_in_order()

    def test_build_that_fails_in_the_second_cell(self):
        hosts = self._fill()
        for name in hosts['host2']:
            self.openstack(['server', 'delete', name], parse=False)
            self.wait_until(lambda gone=name: gone not in self.statuses(),
                            '%s deleted' % name)
        self.cloud.fail_next('spawn', host='host2')
        self.create('again')
        self.wait_leases(again='ACTIVE')
        self.assertEqual('host2', self.leases()['again']['host'])
        self._assert_in_order()

    def test_cell_conductor_dies(self):
        """Its computes tell what they have to once it is back."""
        self.create('stays')
        self.create('ends', '20s')
        self.wait_leases(ends='ACTIVE', stays='ACTIVE')
        for cell in ('cell1', 'cell2'):
            self.cloud.stop('nova-conductor-%s' % cell, kill=True)
        self.create('waits')
        self.wait_leases(waits='BUILDING')
        for cell in ('cell1', 'cell2'):
            self.cloud.start('nova-conductor-%s' % cell)
        self.wait_leases(90, ends='EXPIRED', stays='ACTIVE', waits='ACTIVE')
        self._assert_in_order()
