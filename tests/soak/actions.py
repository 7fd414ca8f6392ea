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

"""What users, administrators and bad luck do to a cloud, one thing at a time.

Each action returns a sentence on what it did, for the report of a failure.
Which one is next, and with what, comes from one seeded generator.
"""

import collections
import signal
import time

from keystoneauth1 import exceptions as ks_exc

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import rest

#: More servers than this, and one is deleted instead of created.
MANY = 14
#: Seconds that a frozen service stands still: longer than anybody waits
#: for a dispatcher that gives no beat.
FREEZE = 12

TENANTS = ('alice-lab', 'bob-lab')


class Actions:
    """Acts on one cloud."""

    #: Name of a method: how often, relative to the others.
    WEIGHTS = {
        'create': 30, 'delete': 10, 'shelve': 4, 'unshelve': 10, 'stop': 3,
        'power_off': 2, 'start': 3, 'reboot': 2, 'migrate': 4, 'fault': 2,
        'kill': 10, 'kill_conductors': 1, 'restart': 3, 'freeze': 1}

    def __init__(self, cloud, rng):
        """:param cloud: a devcloud Cloud that is up.

        :param rng: a random.Random.
        """
        self.cloud = cloud
        self.rng = rng
        self.admin = rest.client(cloud.state)
        self.tenants = {}
        for name in TENANTS:
            client = rest.client(cloud.state, name)
            self.tenants[client.session.get_project_id()] = client
        self.image = self.admin.get(
            'glance', '/v2/images?name=tiny')['images'][0]['id']
        self.down = []
        self.count = collections.Counter()

    def one(self):
        """Do something, and tell what."""
        name = self.rng.choices(list(self.WEIGHTS),
                                list(self.WEIGHTS.values()))[0]
        self.count[name] += 1
        try:
            return '%s: %s' % (name, getattr(self, name)())
        except ks_exc.ClientException as exc:
            # A server that is busy or gone by now, a service that is away.
            return '%s was refused: %s' % (name, exc)

    # Users

    def servers(self, *statuses):
        """The servers as the API lists them, in a stable order."""
        found = self.admin.get(
            'nova', '/v2.1/servers/detail?all_tenants=1')['servers']
        return sorted((server for server in found if
                       not statuses or server['status'] in statuses),
                      key=lambda server: server['name'])

    def create(self):
        if len(self.servers()) >= MANY:
            return self.delete()
        flavor, count = self.rng.choices(
            [('gpu', 1), ('gpu2', 1), ('gpu', 2)], [7, 2, 1])[0]
        hints = {'gpu_lease': '%ds' % self.rng.randint(10, 60),
                 'gpu_lease_on_expiry': self.rng.choice(
                     ['shelve', 'delete'])}
        if self.rng.random() < 0.1:
            hints['gpu_lease_wait'] = '%ds' % self.rng.randint(5, 40)
        if self.rng.random() < 0.05:
            hints = {}
        name = 's%03d' % self.count['create']
        tenant = self.rng.choice(list(self.tenants.values()))
        tenant.post('nova', '/v2.1/servers', {
            'server': {'name': name, 'imageRef': self.image,
                       'flavorRef': flavor, 'networks': 'none',
                       'min_count': count, 'max_count': count},
            'os:scheduler_hints': hints})
        return '%s, %d of %s with %s' % (name, count, flavor, hints)

    def _some(self, *statuses):
        servers = self.servers(*statuses)
        return self.rng.choice(servers) if servers else None

    def _act(self, server, body, client=None):
        if server is None:
            return 'nobody to do it to'
        client = client or self.tenants[server['tenant_id']]
        client.post('nova', '/v2.1/servers/%s/action' % server['id'], body)
        return '%s %s' % (server['name'], server['id'])

    def delete(self):
        server = self._some()
        if server is None:
            return 'nobody to delete'
        self.tenants[server['tenant_id']].request(
            'nova', 'DELETE', '/v2.1/servers/%s' % server['id'])
        return '%(name)s %(id)s, which was %(status)s' % server

    def shelve(self):
        return self._act(self._some('ACTIVE', 'SHUTOFF'), {'shelve': None})

    def unshelve(self):
        return self._act(self._some('SHELVED_OFFLOADED'), {'unshelve': None})

    def stop(self):
        return self._act(self._some('ACTIVE'), {'os-stop': None})

    def power_off(self):
        """A guest powers itself off."""
        server = self._some('ACTIVE')
        if server is None:
            return 'nobody to do it to'
        try:
            self.cloud.guest_power_off(server['id'])
        except (KeyError, exceptions.DevcloudError) as exc:
            return 'it has no guest by now: %s' % exc
        return '%(name)s %(id)s' % server

    def start(self):
        return self._act(self._some('SHUTOFF'), {'os-start': None})

    def reboot(self):
        return self._act(self._some('ACTIVE'), {'reboot': {'type': 'HARD'}})

    # Administrators

    def migrate(self):
        # Nova leaves a migration whose service dies for the operator to
        # clear away, so that none is begun while a service is down.
        self.start_all()
        told = self._act(self._some('ACTIVE', 'SHUTOFF'), {'migrate': None},
                         self.admin)
        self.finish_moves()
        return told

    def finish_moves(self, timeout=40):
        """Wait for moves and confirm, or take back, what was moved."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            moved = [server for server in self.servers() if
                     server['status'] in ('RESIZE', 'VERIFY_RESIZE')]
            if not moved:
                return
            for server in moved:
                if (server['status'] == 'VERIFY_RESIZE' and
                        not server['OS-EXT-STS:task_state']):
                    how = self.rng.choice(['confirmResize', 'revertResize'])
                    self._act(server, {how: None}, self.admin)
            time.sleep(0.5)

    def clear(self, server_id):
        """Delete a server that Nova has left busy, as an operator would."""
        path = '/v2.1/servers/%s' % server_id
        try:
            self.admin.post('nova', path + '/action', {
                'os-resetState': {'state': 'error'}})
            self.admin.request('nova', 'DELETE', path)
        except ks_exc.NotFound:
            return '%s is gone' % server_id
        return server_id

    def remove_leak(self, server_id):
        """Delete a server that Nova lost or buried, and its allocation."""
        for service, path in (('nova', '/v2.1/servers/%s'),
                              ('placement', '/allocations/%s')):
            try:
                self.admin.request(service, 'DELETE', path % server_id)
            except ks_exc.NotFound:
                # The one goes with the other, or its owner was quicker.
                continue
        return server_id

    def restart(self):
        name = self._service()
        while name.startswith('nova-compute') and self._unanswered():
            self.start_one()
        self.cloud.restart(name)
        return name

    def _unanswered(self):
        """Whether no conductor runs: a nova-compute waits for one."""
        return all(name in self.down for name in self.cloud.services()
                   if name.startswith('nova-conductor'))

    # Bad luck

    def fault(self):
        kind = self.rng.choice(['spawn', 'snapshot'])
        self.cloud.fail_next(kind)
        return kind

    def _service(self):
        self.finish_moves()
        kinds = ['conductor', 'conductor', 'scheduler', 'compute']
        kind = self.rng.choice(kinds)
        return self.rng.choice([
            name for name in self.cloud.services()
            if name.startswith('nova-' + kind)])

    def kill(self):
        """kill -9; it comes back a few actions later."""
        if len(self.down) >= 2:
            return 'started %s' % self.start_one()
        name = self._service()
        self.cloud.stop(name, kill=True)
        if name not in self.down:
            self.down.append(name)
        return name

    def kill_conductors(self):
        self.finish_moves()
        names = [name for name in self.cloud.services()
                 if name.startswith('nova-conductor')]
        for name in names:
            self.cloud.stop(name, kill=True)
        self.down += [name for name in names if name not in self.down]
        return ' and '.join(names)

    def freeze(self):
        """A conductor stands still for so long that it counts as dead."""
        name = self.rng.choice([
            name for name in self.cloud.services()
            if name.startswith('nova-conductor')])
        processes = self.cloud.processes
        processes.signal(processes.find(name), signal.SIGSTOP)
        try:
            time.sleep(FREEZE)
        finally:
            processes.signal(processes.find(name), signal.SIGCONT)
        return name

    def start_one(self):
        """Start the service that has been down for longest."""
        if not self.down:
            return 'nothing'
        name = self.down[0]
        if self._unanswered():
            name = next(name for name in self.down
                        if name.startswith('nova-conductor'))
        self.down.remove(name)
        self.cloud.start(name)
        return name

    def start_all(self):
        """Start all that was killed."""
        while self.down:
            self.start_one()
