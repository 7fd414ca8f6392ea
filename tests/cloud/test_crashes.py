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


"""A service dies by kill -9 at each step: all start once, nothing is left.

Every step has a name in nova_gpu_lease/failpoints.py.
"""

from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import rest
from nova_gpu_lease import failpoints
from tests.cloud import base

_AT = failpoints.NAMES.index
#: From the moment a request is ours to the start of its lease.
START = failpoints.NAMES[_AT('queued'):_AT('due')]
#: From the end of a lease to the end of its server.
END = failpoints.NAMES[_AT('due'):]
#: What an end by deletion passes of it.
DELETED = tuple(name for name in END
                if name not in ('end-cast', 'guest-off', 'snapshot-taken'))
#: What an unshelve passes, from the moment its request is ours.
UNSHELVE = ('queued', 'trust-made', 'dispatching', 'claimed', 'cast',
            'cast-sent', 'placed', 'build-allowed', 'device-claimed',
            'spawning', 'build-told')
#: What a repeated build of a server that is in its cell passes by itself.
REPEATED = ('claimed', 'cast', 'cast-sent')
ON_COMPUTE = ('build-allowed', 'device-claimed', 'spawning',
              'guest-started', 'build-ended', 'guest-off',
              'snapshot-taken', 'guest-removed')


class CrashTest(base.CloudTestCase):

    UP = {'hosts': 1, 'gpus_per_host': 1}
    SET = ('gpu_lease.dispatch_interval=5s', 'gpu_lease.build_timeout=20s',
           'gpu_lease.outage_grace=0s')

    def setUp(self):
        super().setUp()
        self.nova = rest.client(self.cloud.state, base.ALICE)
        self.ids = {entry['name']: entry['id'] for entry in [
            *self.nova.get('nova', '/v2.1/flavors')['flavors'],
            *self.nova.get('glance', '/v2/images')['images'],
            *self.nova.get('neutron', '/v2.0/networks')['networks']]}
        self.addCleanup(self.cloud.arm)

    def post_server(self, name, lease, ports=(), **hints):
        """Create a server without the time the client takes to start.

        :param ports: ids of ports that it gets, besides one that Nova makes.
        :param hints: further hints.
        """
        self.nova.post('nova', '/v2.1/servers', {
            'server': {'name': name, 'flavorRef': self.ids['gpu'],
                       'imageRef': self.ids['tiny'], 'networks': [
                           {'uuid': self.ids['net']},
                           *({'port': port} for port in ports)]},
            'os:scheduler_hints': {'gpu_lease': lease, **hints}})

    def port(self):
        """A port that the user made; its id."""
        return self.nova.post('neutron', '/v2.0/ports', {
            'port': {'network_id': self.ids['net']}})['port']['id']

    def ports_of(self, name):
        """The ids of the ports of a server."""
        server = self.leases()[name]['server_id']
        return {port['id'] for port in self.nova.get(
            'neutron', '/v2.0/ports?device_id=%s' % server)['ports']}

    def delete(self, name):
        server = next(server for server in self.nova.get(
            'nova', '/v2.1/servers')['servers'] if server['name'] == name)
        self.nova.request('nova', 'DELETE', '/v2.1/servers/%s' % server['id'])
        self.wait_until(lambda: name not in self.statuses(),
                        '%s to be gone' % name)

    def die_at(self, name, what):
        """Kill the service that passes a failpoint while something is done."""
        self.cloud.arm(name)
        what()
        self.wait_until(lambda: not self.cloud.armed(),
                        'the failpoint %s to be passed' % name)
        if name in ON_COMPUTE:
            # A dead worker of a conductor is replaced by its parent.
            self.cloud.stop('nova-compute-host1', kill=True)
            self.cloud.start('nova-compute-host1')

    def assert_all_accounted_for(self):
        """The device, its allocation and the guest are one server's.

        Nova's compute is done with a server a little later than others see.
        """
        found = []

        def settled():
            running = {lease['server_id'] for lease in self.leases().values()
                       if lease['status'] == 'ACTIVE'}
            found[:] = [running, set(self.devices().values()), {
                row[0] for row in mariadb.query(
                    self.cloud.state, 'placement',
                    'select distinct c.uuid from allocations a '
                    'join consumers c on c.uuid = a.consumer_id')}, {
                path.stem for path in guests.glob('*.json')}]
            return all(each == running for each in found)

        guests = self.cloud.state.path('hosts', 'host1', 'guests')
        self.wait_until(settled, lambda: 'with a lease, in the tracker, in '
                        'Placement, guests: %s' % found, 30)

    def test_start(self):
        for number, name in enumerate(START):
            first, second = 'a%d' % number, 'b%d' % number
            with self.subTest(failpoint=name):
                port = self.port()
                self.die_at(
                    name, lambda: self.post_server(first, '1h', [port]))
                self.post_server(second, '1h')
                self.wait_until(
                    lambda: self.leases().get(first, {}).get('status') in (
                        'ACTIVE', 'CANCELLED'), '%s to be settled' % first,
                    timeout=90)
                self.assertEqual(
                    ('ACTIVE', 'ACTIVE'),
                    (self.statuses()[first], self.leases()[first]['status']))
                self.wait_leases(**{second: 'QUEUED'})
                self.assert_all_accounted_for()
                ports = self.ports_of(first)
                self.assertIn(port, ports)
                self.assertEqual(2, len(ports))
                self.delete(first)
                self.wait_leases(**{second: 'ACTIVE'})
                self.assert_all_accounted_for()
                self.delete(second)

    def test_unshelve(self):
        self.post_server('u', '1h', [self.port()])
        self.wait_leases(u='ACTIVE')
        server, ports = self.leases()['u']['server_id'], self.ports_of('u')
        for name in UNSHELVE:
            with self.subTest(failpoint=name):
                self.shelve('u')
                before = self.unshelves(server)
                self.die_at(name, lambda: self.act(server, 'unshelve'))
                self.wait_statuses(u='ACTIVE', timeout=90)
                self.wait_leases(u='ACTIVE')
                self.assert_all_accounted_for()
                self.assertEqual(ports, self.ports_of('u'))
                self.assertEqual({'host1'}, self.hosts_of(ports))
                self.assertEqual(before + 1, self.unshelves(server))
        self.delete('u')

    def test_unshelve_whose_guest_is_there(self):
        """It is kept, may be the last copy; its lease begins all the same."""
        self.post_server('u', '1h')
        self.wait_leases(u='ACTIVE')
        server = self.leases()['u']['server_id']
        self.shelve('u')
        self.die_at('guest-started', lambda: self.act(server, 'unshelve'))
        self.wait_statuses(u='ERROR')
        self.wait_leases(u='ACTIVE')
        self.assert_all_accounted_for()
        self.nova.post('nova', '/v2.1/servers/%s/action' % server,
                       {'reboot': {'type': 'HARD'}})
        self.wait_statuses(u='ACTIVE')
        self.assert_all_accounted_for()

    def test_unshelve_that_is_lost(self):
        self.post_server('u', '1h')
        self.wait_leases(u='ACTIVE')
        server = self.leases()['u']['server_id']
        self.shelve('u')
        self.die_at('cast-taken', lambda: self.act(server, 'unshelve'))
        self.wait_leases(u='CANCELLED', timeout=120)
        self.assertIn('lost', self.leases()['u']['reason'])
        self.assertEqual('SHELVED_OFFLOADED', self.statuses()['u'])
        self.assert_all_accounted_for()
        self.act(server, 'unshelve')
        self.wait_leases(u='ACTIVE')
        self.assertEqual(1, self.unshelves(server))
        self.assert_all_accounted_for()

    def shelve(self, name):
        self.act(self.leases()[name]['server_id'], 'shelve')
        self.wait_statuses(**{name: 'SHELVED_OFFLOADED'})
        self.wait_leases(**{name: 'RELEASED'})

    def unshelves(self, server):
        """How often a nova-compute has unshelved a server to the end."""
        return mariadb.query(
            self.cloud.state, 'nova',
            'select count(*) from instance_actions_events e '
            'join instance_actions a on a.id = e.action_id '
            "where e.event = 'compute_unshelve_instance' "
            "and e.result = 'Success' and a.instance_uuid = %s",
            server)[0][0]

    def hosts_of(self, ports):
        """The hosts to which ports are bound."""
        return {self.admin.get('neutron', '/v2.0/ports/%s' % port)['port'][
            'binding:host_id'] for port in ports}

    def act(self, server, action):
        self.nova.post('nova', '/v2.1/servers/%s/action' % server,
                       {action: None})

    def test_end(self):
        for number, name in enumerate(END):
            server = 'e%d' % number
            with self.subTest(failpoint=name):
                self.die_at(name, lambda: self.post_server(server, '3s'))
                # What was asked for may have died with it; it is waited for
                # before it is asked for again.
                self.wait_leases(180, **{server: 'EXPIRED'})
                self.assertEqual('SHELVED_OFFLOADED',
                                 self.statuses()[server])
                self.assert_all_accounted_for()
                images = [image for image in self.nova.get(
                    'glance', '/v2/images')['images']
                    if image['name'].startswith(server)]
                self.assertEqual(1, len(images), 'snapshots: %s' % images)
                self.delete(server)

    def test_end_by_delete(self):
        for number, name in enumerate(DELETED):
            server = 'd%d' % number
            with self.subTest(failpoint=name):
                self.die_at(name, lambda: self.post_server(
                    server, '3s', gpu_lease_on_expiry='delete'))
                self.wait_leases(180, **{server: 'EXPIRED'})
                self.assertNotIn(server, self.statuses())
                self.assertEqual([('deleted',)], self.query(
                    'SELECT end_action FROM leases WHERE server_id = %s',
                    self.leases()[server]['server_id']))
                self.assert_all_accounted_for()

    def test_repeated_build(self):
        for number, name in enumerate(REPEATED):
            server = 'r%d' % number
            with self.subTest(failpoint=name):
                self.die_at(name, self.build_to_fail(server))
                self.wait_leases(90, **{server: 'ACTIVE'})
                self.assertEqual('ACTIVE', self.statuses()[server])
                self.assert_each_once([self.leases()[server]['server_id']])
                self.assert_all_accounted_for()
                self.assertEqual(1, len(self.ports_of(server)))
                self.delete(server)

    def build_to_fail(self, name):
        """Create a server whose first build fails.

        :returns: a function that lets it fail; until then its host does not
            look at what was sent to it.
        """
        self.cloud.fail_next('spawn')
        go_on = self.freeze('nova-compute-host1')
        self.post_server(name, '1h')
        self.wait_until(lambda: self.query(
            'SELECT l.id FROM leases l JOIN requests r '
            'ON r.id = l.request_id WHERE l.server_name = %s '
            "AND r.state = 'PLACED'", name), '%s to be sent' % name)
        return go_on

    def test_cast_is_lost(self):
        self.die_at('cast-taken', lambda: self.post_server('lost', '1h'))
        self.post_server('after', '1h')
        self.wait_leases(after='ACTIVE')
        self.wait_statuses(lost='ERROR', timeout=120)
        fault = self.nova.get(
            'nova', '/v2.1/servers/detail?name=lost')['servers'][0]['fault']
        self.assertIn('lost', fault['message'])
