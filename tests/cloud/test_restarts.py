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

"""Services that stop, and die, while requests wait and leases run."""

import time

from tests.cloud import base


class RestartTest(base.CloudTestCase):

    def _fill(self):
        for name in ('r1', 'r2', 'r3', 'r4'):
            self.create(name)
        self.wait_leases(r1='ACTIVE', r2='ACTIVE', r3='ACTIVE', r4='ACTIVE')

    def _assert_nothing_twice(self):
        """No GPU in two servers, and every running server has its own."""
        given = self.devices()
        active = {name for name, status in self.statuses().items()
                  if status == 'ACTIVE'}
        self.assertEqual(len(active), len(given))
        self.assertEqual(len(set(given.values())), len(given))

    def test_conductor_restarts(self):
        self._fill()
        self.create('w1')
        self.create('w2')
        self.wait_leases(w1='QUEUED', w2='QUEUED')
        self.cloud.restart('nova-conductor')
        self.assertEqual(
            (1, 2), tuple(self.leases()[name]['position']
                          for name in ('w1', 'w2')))
        self.openstack('server delete r1', parse=False)
        self.wait_statuses(w1='ACTIVE')
        self.wait_leases(w2='QUEUED')
        self._assert_nothing_twice()

    def test_compute_restarts(self):
        self.create('stays')
        ends = self.create('ends', lease='40s')
        self.wait_leases(ends='ACTIVE', stays='ACTIVE')
        host = self.leases()['ends']['host']
        self.cloud.restart('nova-compute-%s' % host)
        self.assertEqual('ACTIVE', self.leases()['ends']['status'])
        self.wait_leases(ends='EXPIRED', stays='ACTIVE', timeout=90)
        self.assertEqual('SHELVED_OFFLOADED', self.openstack(
            ['server', 'show', ends])['status'])

    def test_both_are_away_at_the_end(self):
        self.create('ends', lease='30s')
        self.wait_leases(ends='ACTIVE')
        host = self.leases()['ends']['host']
        self.cloud.stop('nova-compute-%s' % host)
        self.cloud.stop('nova-conductor')
        time.sleep(30)
        self.assertEqual('ACTIVE', self.leases()['ends']['status'])
        self.cloud.start('nova-conductor')
        self.cloud.start('nova-compute-%s' % host)
        self.wait_leases(ends='EXPIRED')

    def test_conductor_is_killed_while_it_dispatches(self):
        self._fill()
        names = ['k%d' % number for number in range(1, 9)]
        for name in names:
            self.create(name)
        self.wait_leases(**dict.fromkeys(names, 'QUEUED'))
        for number in range(1, 5):
            # Four times: a GPU comes free, and the dispatcher dies at it.
            victim = self._someone_active()
            self.openstack(['server', 'delete', victim], parse=False)
            time.sleep(0.3 * number)
            self.cloud.stop('nova-conductor', kill=True)
            self._assert_at_most_four()
            self.cloud.start('nova-conductor')
        self.wait_until(self._four_run, 'four running servers', 180)
        self._assert_nothing_twice()
        states = {name: lease['status']
                  for name, lease in self.leases().items() if name in names}
        self.assertEqual(set(names), set(states), 'a request was lost')
        self.assertLessEqual(set(states.values()),
                             {'ACTIVE', 'QUEUED', 'CANCELLED', 'RELEASED'})

    def _four_run(self):
        statuses = self.statuses()
        for name, status in statuses.items():
            if status == 'ERROR':
                # Nova gives a delete up whose conductor died in it; whoever
                # wanted it does it again.
                self.openstack(['server', 'delete', name], parse=False)
        # A lease begins a moment after its server runs.
        building = any(lease['status'] == 'BUILDING'
                       for lease in self.leases().values())
        return list(statuses.values()).count('ACTIVE') == 4 and not building

    def test_a_host_that_comes_up_starts_what_waits(self):
        self.cloud.stop('nova-compute-host2')
        self.wait_until(lambda: self._service('host2')['State'] == 'down',
                        'host2 down')
        self.create('here', flavor='gpu2')
        self.create('waits', flavor='gpu2')
        self.wait_leases(here='ACTIVE', waits='QUEUED')
        self.cloud.start('nova-compute-host2')
        self.wait_leases(waits='ACTIVE')

    def test_a_host_that_is_enabled_starts_what_waits(self):
        self._enable('--disable')
        self.addCleanup(self._enable, '--enable')
        self.create('here', flavor='gpu2')
        self.create('waits', flavor='gpu2')
        self.wait_leases(here='ACTIVE', waits='QUEUED')
        self._enable('--enable')
        self.wait_leases(waits='ACTIVE')

    def _enable(self, how):
        self.openstack(['compute', 'service', 'set', how, 'host2',
                        'nova-compute'], base.ADMIN, parse=False)

    def _service(self, host):
        return next(service for service in self.openstack(
            'compute service list --service nova-compute', base.ADMIN)
            if service['Host'] == host)

    def _someone_active(self):
        def find():
            return next((name for name, status in self.statuses().items()
                         if status == 'ACTIVE'), None)
        return self.wait_until(find, 'a running server', 120)

    def _assert_at_most_four(self):
        self.assertLessEqual(len(self.devices()), 4)
