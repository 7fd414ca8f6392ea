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

"""A devcloud for user stories, and the real ``openstack`` command."""

import collections
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from oslotest import base

from nova_gpu_lease.devcloud import cloud as devcloud
from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import rest

#: Settings of every cloud here: only events drive the queue.
SETTINGS = ('gpu_lease.dispatch_interval=1h', 'gpu_lease.sync_interval=1h')

ALICE, BOB, ADMIN = 'alice-lab', 'bob-lab', 'admin'

_SPAWNED = re.compile(
    r'\[instance: ([0-9a-f-]{36})\] Took [0-9.]+ seconds to spawn')


class CommandFailed(Exception):
    """The client exited with an error; the text is what it printed."""


class CloudTestCase(base.BaseTestCase):
    """One cloud for each class, with everything of ours in its hooks."""

    #: Further arguments of Cloud.up().
    UP = {}
    #: Further GROUP.OPTION=VALUE settings.
    SET = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.state_dir = tempfile.mkdtemp(prefix='gpu-lease-cloud-')
        cls.addClassCleanup(shutil.rmtree, cls.state_dir, True)
        cls.cloud = devcloud.Cloud(cls.state_dir)
        cls.addClassCleanup(cls.cloud.down)
        cls.cloud.up(settings=[*SETTINGS, *cls.SET], **cls.UP)

    def setUp(self):
        super().setUp()
        # Every poll would be in the log of a failure, tokens and all.
        logging.getLogger('keystoneauth').setLevel(logging.WARNING)
        logging.getLogger('urllib3').setLevel(logging.WARNING)
        logging.getLogger('amqp').setLevel(logging.WARNING)
        # One token for all polls of a test: each new one is work for Keystone
        # and for whoever it is shown to.
        self.admin = rest.client(self.cloud.state)
        self.addCleanup(self._delete_servers)
        self.addOnException(self._keep)

    def _keep(self, exc_info):
        """Copy logs and guests to $CLOUD_KEEP, if that is set."""
        keep = os.environ.get('CLOUD_KEEP')
        for name in ('logs', 'hosts') if keep else ():
            try:
                shutil.copytree(self.cloud.state.path(name),
                                os.path.join(keep, name), dirs_exist_ok=True)
            except OSError as exc:
                # Guests go meanwhile. Raised from here it would end the
                # runner, and the test would count as passed.
                logging.warning('Not all of %s is kept: %s', name, exc)

    def _delete_servers(self):
        def gone():
            servers = self.admin.get(
                'nova', '/v2.1/servers/detail?all_tenants=1')
            for server in servers['servers']:
                # Nova gives a deletion up whose conductor died in it.
                if server['OS-EXT-STS:task_state'] != 'deleting':
                    self.admin.session.delete(
                        self.cloud.state.url('nova', '/v2.1/servers/%s' %
                                             server['id']), raise_exc=False)
            return not servers['servers']
        self.wait_until(gone, 'all servers deleted', 150)

    def freeze(self, name):
        """Have a service stand still; a function that lets it go on."""
        processes = self.cloud.processes
        frozen = processes.find(name)
        processes.signal(frozen, signal.SIGSTOP)
        self.addCleanup(processes.signal, frozen, signal.SIGCONT)
        return lambda: processes.signal(frozen, signal.SIGCONT)

    def query(self, sql, *parameters):
        """The rows of a query in our own database."""
        return mariadb.query(self.cloud.state, 'gpu_lease', sql, *parameters)

    def spawns(self):
        """{server id: how often a hypervisor started it}, from the logs."""
        found = collections.Counter()
        for path in self.cloud.state.path('logs').glob('nova-compute-*.log'):
            found.update(_SPAWNED.findall(path.read_text()))
        return found

    def assert_each_once(self, servers):
        """Each server was built to its end once, an unshelve not counted."""
        spawns = self.spawns()
        self.assertEqual({}, {server: spawns[server] for server in servers
                              if spawns[server] != 1})

    def openstack(self, command, project=ALICE, parse=True):
        """Run the client as the member of a project.

        :param command: what follows ``openstack``: a str that is split at
            blanks, or a list.
        :param parse: whether it prints something: as JSON, and parsed.
        :raises: CommandFailed
        """
        words = command.split() if isinstance(command, str) else list(command)
        if parse:
            words += ['-f', 'json']
        environ = {name: value for name, value in os.environ.items()
                   if not name.startswith('OS_')}
        environ.update({
            'OS_' + name.upper(): value for name, value in
            self.cloud.state.credentials(project).items()})
        environ.update(OS_COMPUTE_API_VERSION='2.latest',
                       OS_IDENTITY_API_VERSION='3', no_proxy='127.0.0.1')
        client = os.path.join(os.path.dirname(sys.executable), 'openstack')
        done = subprocess.run(
            [client, *words], env=environ, text=True, timeout=180,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise CommandFailed(done.stderr)
        return json.loads(done.stdout) if parse else done.stdout

    def create(self, name, lease='1h', project=ALICE, flavor='gpu', hints=(),
               image='tiny', extra=()):
        """Create a server and return its id.

        :param lease: the hint gpu_lease, or None.
        :param hints: further hints, as NAME=VALUE.
        :param extra: further arguments of the command.
        """
        words = ['server', 'create', '--flavor', flavor, '--image', image,
                 '--nic', 'none', *extra]
        for hint in (*(['gpu_lease=%s' % lease] if lease else ()), *hints):
            words += ['--hint', hint]
        return self.openstack([*words, name], project)['id']

    def statuses(self):
        """{name: status} of all servers, without the client's start-up."""
        answer = self.admin.get(
            'nova', '/v2.1/servers/detail?all_tenants=1')
        return {server['name']: server['status']
                for server in answer['servers']}

    def lease(self, server, project=ADMIN):
        """The lease of a server as ``gpu lease show`` has it."""
        return self.openstack(['gpu', 'lease', 'show', server], project)

    def leases(self):
        """{server name: its newest lease}, without the client's start-up."""
        answer = self.admin.get(
            'nova', '/v2.1/os-gpu-leases?all_projects=true'
            '&sort=created_at:asc')
        return {lease['server_name']: lease
                for lease in answer['gpu_leases']}

    def wait_until(self, function, what, timeout=60):
        """Wait until a function returns something true, and return it.

        :param what: for the failure, a str or a function that returns one.
        """
        end = time.monotonic() + timeout
        while True:
            result = function()
            if result:
                return result
            if time.monotonic() > end:
                self.fail('%s: not within %d seconds; servers %s, leases %s'
                          % (what() if callable(what) else what, timeout,
                             self.statuses(), self.leases()))
            time.sleep(0.2)

    def wait_statuses(self, timeout=60, **expected):
        """Wait until servers have these statuses, by their names."""
        def check():
            found = self.statuses()
            return all(found.get(name) == status
                       for name, status in expected.items())
        self.wait_until(check, 'expected servers %s' % expected, timeout)

    def wait_leases(self, timeout=60, **expected):
        """Wait until the newest leases of servers have these statuses."""
        def check():
            found = self.leases()
            return all(name in found and found[name]['status'] == status
                       for name, status in expected.items())
        self.wait_until(check, 'expected leases %s' % expected, timeout)

    def devices(self):
        """{PCI address on its host: server id} of what Nova has given out.

        Read from Nova's own table; an address given twice fails the test.
        """
        rows = mariadb.query(
            self.cloud.state, 'nova',
            "select concat(c.host, ' ', p.address), p.instance_uuid "
            'from pci_devices p join compute_nodes c '
            'on c.id = p.compute_node_id '
            'where p.deleted = 0 and p.instance_uuid is not null')
        self.assertEqual(len(rows), len(dict(rows)), rows)
        return dict(rows)
