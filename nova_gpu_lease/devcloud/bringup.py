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

"""The steps that bring a devcloud up, and what each of them waits for.

Two cores are busy for most of the time, so that what others wait for goes
first and nothing waits for more than it needs.
"""

import sys

import keystoneauth1.exceptions

from nova_gpu_lease.devcloud import bootstrap
from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import glance
from nova_gpu_lease.devcloud import keystone
from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import neutron
from nova_gpu_lease.devcloud import nova
from nova_gpu_lease.devcloud import nova_services
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import placement
from nova_gpu_lease.devcloud import rabbitmq
from nova_gpu_lease.devcloud import steps

_CONFIGURE = (mariadb, rabbitmq, keystone, placement, glance, neutron, nova)

# Tables of fresh databases: name, function, what must be there before.
_TABLES = (
    ('neutron tables', neutron.sync),
    ('nova_api tables', nova_services.sync_api),
    ('keystone tables', keystone.sync),
    ('nova cell0', nova_services.sync_cell0, 'nova_api tables'),
    ('nova tables', nova_services.sync_cells, 'nova cell0'),
    ('nova cell1', nova_services.create_cell, 'nova_api tables'),
    ('glance tables', glance.sync),
    ('placement tables', placement.sync),
)

# What is created once, with what must be there before.
_CONTENTS = (
    ('administrator', keystone.bootstrap, 'databases'),
    ('identity', bootstrap.identity, 'administrator', 'keystone'),
    ('image', bootstrap.image, 'identity', 'glance'),
    ('network', bootstrap.network, 'identity', 'neutron'),
    ('flavors', bootstrap.flavors, 'identity', 'nova'),
)


class BringUp:
    """One run of ``up`` for a cloud whose state directory is there.

    :ivar failed: called at the first error, while other steps may still run
    """

    def __init__(self, cloud):
        self.cloud = cloud
        self.state = cloud.state
        self.steps = steps.Steps()
        self.failed = lambda: None

    def run(self):
        """Do all steps; the first error is raised."""
        self.state.make('logs')
        if packages.missing():
            print('Installing ' + ', '.join(packages.missing()) + '…',
                  file=sys.stderr, flush=True)
            packages.install(self.state.path('logs', 'apt.log'))
        if not self.state.is_done('databases'):
            # An "up" that was killed left something half done.
            self.cloud.processes.kill()
        fresh = not mariadb.prepare(self.state)
        for module in _CONFIGURE:
            module.configure(self.state)
        self._add_databases(fresh)
        self._add_services()
        for name, function, *needs in _CONTENTS:
            if not self.state.is_done(name):
                self.steps.add(name, lambda n=name, f=function:
                               self._once(n, f), *needs)
        self.steps.add('hosts', lambda: self._content(
            'hosts', bootstrap.hosts), *self.cloud.services())
        self.steps.failed = self.failed
        self.steps.run()

    def _add_databases(self, fresh):
        after = ['mariadb']
        for name, function, *needs in _TABLES if fresh else ():
            self.steps.add(name, lambda f=function: f(self.state),
                           'mariadb', *needs)
            after.append(name)
        self.steps.add('databases', lambda: self._databases(fresh), *after)
        if cells.separate(self.state) and not self.state.is_done('cells'):
            self.steps.add('cells', lambda: self._once(
                'cells', nova_services.create_cells), 'databases')
        if not self.state.option('stock'):
            self.steps.add(
                'gpu_lease tables',
                lambda: nova_services.sync_leases(self.state), 'databases')

    def _databases(self, fresh):
        """Keep fresh databases as a template, with the server stopped."""
        if self.state.is_done('databases'):
            return
        if fresh:
            self.cloud.processes.stop(mariadb.service(self.state))
            mariadb.save_template(self.state)
            self.cloud.start_and_wait('mariadb')
        self.state.done('databases')

    def _add_services(self):
        names = list(self.cloud.services())
        conductors = [name for name in names
                      if name.startswith('nova-conductor')]
        bus = ('databases', 'cells', 'gpu_lease tables', 'rabbitmq')
        for name in names:
            if name.startswith('nova-compute-'):
                # Without a conductor it waits ten seconds for one.
                needs = conductors
            elif name.startswith('nova-'):
                # These ask Placement at once, with a token.
                needs = (*bus, 'identity', 'placement')
            else:
                needs = {'mariadb': (), 'epmd': (), 'rabbitmq': ('epmd',),
                         'neutron': bus, 'nova': bus}.get(
                             name, ('databases',))
            self.steps.add(
                name, lambda n=name: self.cloud.start_and_wait(n), *needs)

    def _once(self, name, function):
        self._content(name, function)
        self.state.done(name)

    def _content(self, name, function):
        try:
            function(self.state)
        except keystoneauth1.exceptions.ClientException as exc:
            raise exceptions.CommandFailed(
                f'Making "{name}" failed: {exc}. The logs of the services '
                f'are in {self.state.path("logs")}.') from exc
