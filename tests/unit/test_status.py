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


import functools
import os
import tempfile

import fixtures
from keystoneauth1 import loading as ks_loading
from nova.pci import request as pci_request
from oslo_upgradecheck import upgradecheck

from nova_gpu_lease.cmd import status
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease.db import migration
from nova_gpu_lease import secrets
from tests import base
from tests import fixtures as lease_fixtures
from tests.unit.api import test_paste

_SUCCESS = upgradecheck.Code.SUCCESS
_WARNING = upgradecheck.Code.WARNING
_FAILURE = upgradecheck.Code.FAILURE

_NOVA_CONF = """
[filter_scheduler]
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_gpu_lease.scheduler.filters.GPULeaseFilter
enabled_filters = ComputeFilter,GPULeaseFilter
weight_classes = nova.scheduler.weights.all_weighers,\
nova_gpu_lease.scheduler.weights.GPULeaseWeigher
[pci]
alias = {"name": "gpu", "vendor_id": "10de", "product_id": "2330"}
[gpu_lease]
aliases = gpu
encryption_keys = %(key)s
[gpu_lease_database]
connection = %(database)s
[service_user]
send_service_user_token = true
auth_type = password
auth_url = http://127.0.0.1:1/v3
username = nova
password = secret
project_name = service
user_domain_name = Default
project_domain_name = Default
"""


@functools.cache
def _synced():
    """The bytes of an SQLite database at the latest revision."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'synced.db')
        with fixtures.Fixture() as fixture:
            lease_fixtures.use_database(fixture, 'sqlite:///' + path)
            migration.sync()
        with open(path, 'rb') as database:
            return database.read()


class StatusTestCase(base.TestCase):
    """One complete installation, and what is said when a piece is missing."""

    def setUp(self):
        super().setUp()
        self.folder = self.useFixture(fixtures.TempDir()).path
        with open(self.path('gpu_lease.db'), 'wb') as database:
            database.write(_synced())
        self.write('api-paste.ini',
                   test_paste.paste.insert_filter(test_paste.installed_ini()))
        self.text = _NOVA_CONF % {
            'key': secrets.generate_key(),
            'database': 'sqlite:///' + self.path('gpu_lease.db')}
        self.running = ['api1']
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.cmd.status.running_conductors',
            lambda: self.running))
        self.hosts = [], ['gpu01'], ['gpu01']
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.cmd.status.known_hosts', lambda: self.hosts))
        self.flavors = {'gpu': 'normal'}
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.cmd.status.flavor_priorities',
            lambda: self.flavors))
        self.clock = self.useFixture(lease_fixtures.ClockFixture())
        self.useFixture(fixtures.EnvironmentVariable('OS_NOVA_CONFIG_DIR'))
        self.useFixture(fixtures.EnvironmentVariable('OS_NOVA_CONFIG_FILES'))
        self.beating = [('api1', True)]
        # Nova keeps what it read first.
        pci_request.get_alias_from_config.cache_clear()
        self.addCleanup(pci_request.get_alias_from_config.cache_clear)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), 'w') as target:
            target.write(text)

    def leave_out(self, old, new=''):
        """Change the nova.conf."""
        self.assertIn(old, self.text)
        self.text = self.text.replace(old, new)

    def configure(self, *args):
        """Read nova.conf as the command does."""
        self.write('nova.conf', self.text)
        CONF.reset()
        CONF.register_cli_opts(status.CLI_OPTS)
        # The check of the service user registers them, as required ones.
        self.addCleanup(
            CONF.unregister_opts,
            ks_loading.get_auth_plugin_conf_options('password'),
            group='service_user')
        self.addCleanup(CONF.unregister_opts, status.CLI_OPTS)
        self.addCleanup(CONF.reset)
        CONF(['--config-file', self.path('nova.conf'), *args],
             project='nova')
        _engine.reset()
        self.addCleanup(_engine.reset)

    def results(self, *args):
        """{name of the check: result}"""
        self.configure(*args)
        if self.beating and CONF.gpu_lease_database.connection and \
                migration.version():
            for host, dispatches in self.beating:
                db_api.conductor_beat(host, '1', dispatches)
        checks = status.Checks()
        return {name: check(checks)
                for name, check in checks._upgrade_checks}

    def bad(self, name, *says, code=_FAILURE, also=(), args=()):
        """Only this check, and those in also, is not content."""
        results = self.results(*args)
        self.assertEqual(
            {name, *also}, {other for other, result in results.items()
                            if result.code != _SUCCESS})
        self.assertEqual(code, results[name].code)
        for text in says:
            self.assertIn(text, results[name].details)

    def test_complete(self):
        for name, result in self.results().items():
            self.assertEqual((_SUCCESS, None),
                             (result.code, result.details), name)

    def test_filter_not_enabled(self):
        self.leave_out(',GPULeaseFilter\n', '\n')
        self.bad('Enabled filters', 'GPULeaseFilter', 'enabled_filters')

    def test_stock_filter_enabled(self):
        self.leave_out('= ComputeFilter', '= PciPassthroughFilter')
        self.bad('Enabled filters', 'Take PciPassthroughFilter out')

    def test_filter_not_available(self):
        self.leave_out('available_filters = nova_gpu_lease.scheduler.filters.'
                       'GPULeaseFilter\n')
        self.bad('Available filters', 'nova_gpu_lease.scheduler.filters')

    def test_stock_filters_not_available(self):
        self.leave_out(
            'available_filters = nova.scheduler.filters.all_filters\n')
        self.bad('Available filters', 'ComputeFilter', 'all_filters')

    def test_available_filters_misspelt(self):
        self.leave_out('filters.GPULeaseFilter', 'filter.GPULeaseFilter')
        self.bad('Available filters', 'cannot be loaded')

    def test_weigher_missing(self):
        self.leave_out(',nova_gpu_lease.scheduler.weights.GPULeaseWeigher')
        self.bad('Weighers', 'GPULeaseWeigher')

    def test_stock_weighers_missing(self):
        self.leave_out('nova.scheduler.weights.all_weighers,')
        self.bad('Weighers', 'all_weighers', code=_WARNING)

    def test_weigher_misspelt(self):
        self.leave_out('GPULeaseWeigher', 'GPULeaseWeighter')
        self.bad('Weighers', 'cannot be loaded')

    def test_host_subset_size(self):
        self.leave_out('[filter_scheduler]',
                       '[filter_scheduler]\nhost_subset_size = 3')
        self.bad('Host subset size', 'host_subset_size is 3')

    def test_no_alias(self):
        self.leave_out('[pci]\nalias', '[pci]\n#')
        self.bad('PCI aliases', '[pci] alias is not set')

    def test_alias_invalid(self):
        self.leave_out('"vendor_id"', '"vendor"')
        self.bad('PCI aliases', '[pci] alias')

    def test_alias_unknown(self):
        self.leave_out('aliases = gpu', 'aliases = gpu,gqu')
        self.bad('PCI aliases', 'gqu')

    def test_no_encryption_key(self):
        self.leave_out('encryption_keys', '#')
        self.bad('Encryption keys', 'keys generate', code=_WARNING)

    def test_encryption_key_invalid(self):
        self.leave_out('encryption_keys = ', 'encryption_keys = x')
        self.bad('Encryption keys')

    def test_no_service_user(self):
        self.leave_out('auth_type', '#')
        self.bad('Service user', '[service_user]')

    def test_service_user_not_sent(self):
        self.leave_out('send_service_user_token', '#')
        self.bad('Service user', 'send_service_user_token')

    def test_service_user_incomplete(self):
        self.leave_out('auth_url', '#')
        self.bad('Service user', 'auth')

    def test_no_database(self):
        self.leave_out('connection', '#')
        self.bad('GPU lease database', '[gpu_lease_database] connection',
                 also=['Conductors', 'Priority classes'])

    def test_database_unreachable(self):
        self.beating = []
        self.leave_out('gpu_lease.db', 'no/where/gpu_lease.db')
        self.bad('GPU lease database', 'does not work',
                 also=['Conductors', 'Priority classes'])

    def test_database_url_nonsense(self):
        self.beating = []
        self.leave_out('connection = sqlite:', 'connection = sequel:')
        self.bad('GPU lease database', 'does not work',
                 also=['Conductors', 'Priority classes'])

    def test_database_not_synced(self):
        self.leave_out('gpu_lease.db', 'empty.db')
        self.bad('GPU lease database', 'db sync', 'none',
                 also=['Conductors', 'Priority classes'])

    def test_paste_missing(self):
        os.unlink(self.path('api-paste.ini'))
        self.bad('Filter in nova-api', self.path('api-paste.ini'),
                 '--api-paste')

    def test_paste_stock(self):
        self.write('api-paste.ini', test_paste.installed_ini())
        self.bad('Filter in nova-api', '[filter:gpu_lease]')

    def test_paste_of_option(self):
        self.write('other.ini', test_paste.installed_ini())
        self.bad('Filter in nova-api', 'other.ini',
                 args=['--api-paste', self.path('other.ini')])

    def test_paste_of_environment(self):
        self.useFixture(fixtures.EnvironmentVariable(
            'OS_NOVA_CONFIG_FILES', 'mine.ini;nova.conf'))
        self.useFixture(fixtures.EnvironmentVariable(
            'OS_NOVA_CONFIG_DIR', '/nowhere'))
        self.bad('Filter in nova-api', '/nowhere/mine.ini')

    def test_conductor_stock(self):
        self.running = ['api1', 'cell1', 'cell2']
        self.beating = [('api1', True), ('cell2', False)]
        self.bad('Conductors', 'cell1', 'nova-gpu-lease-conductor')

    def test_conductor_beat_too_old(self):
        self.configure()
        db_api.conductor_beat('api1', '1', True)
        self.beating = []
        self.clock.advance(CONF.service_down_time + status.SLACK + 1)
        self.bad('Conductors', 'api1')

    def test_conductor_none(self):
        self.running = []
        self.bad('Conductors', 'No nova-conductor', code=_WARNING)

    def test_conductor_none_dispatches(self):
        self.beating = [('api1', False)]
        self.bad('Conductors', '[api_database]')

    def priorities(self, value):
        self.leave_out('[gpu_lease]\n',
                       '[gpu_lease]\npriorities = %s\n' % value)

    def in_class(self, priority):
        self.configure()
        db_api.request_create({
            'kind': 'create', 'project_id': 'p', 'user_id': 'u',
            'priority': priority, 'devices': {'gpu': 1}, 'context': {}}, [{
                'server_id': 's', 'server_name': 's', 'flavor': 'gpu',
                'duration': 7200, 'on_expiry': 'shelve'}], 'host')

    def test_priorities_invalid(self):
        self.priorities('normal:much')
        self.bad('Priority classes', "'normal:much' is not accepted")

    def test_priorities_of_flavors_and_leases(self):
        self.priorities('normal:0, urgent:9')
        self.flavors = {'fast': 'urgent', 'gpu': 'normal'}
        self.in_class('urgent')
        self.assertEqual(
            _SUCCESS, self.results()['Priority classes'].code)

    def test_priority_of_flavor_is_gone(self):
        self.flavors = {'fast': 'urgent', 'gpu': 'normal'}
        self.bad('Priority classes', 'urgent of flavor fast')

    def test_priority_of_lease_is_gone(self):
        self.in_class('urgent')
        self.bad('Priority classes', 'does not have urgent', 'weight 0',
                 code=_WARNING)
        lease, = db_api.leases_list()
        db_api.request_transition(
            lease.request, 'CANCELLED', 'host', lease_state='CANCELLED')
        self.assertEqual(
            _SUCCESS, self.results()['Priority classes'].code)

    def topology(self, text):
        self.write('topology.yaml', text)
        self.leave_out('[gpu_lease]\n', '[gpu_lease]\ntopology_file = %s\n' %
                       self.path('topology.yaml'))

    def test_topology_invalid(self):
        self.topology('network:\n  s1: [gpu01]\n  s2: [gpu01]')
        self.bad('Network topology', 'topology.yaml, line 3: host "gpu01"')

    def test_topology_missing(self):
        self.topology('')
        os.unlink(self.path('topology.yaml'))
        self.bad('Network topology', 'cannot be read: No such file')

    def test_topology_of_other_hosts(self):
        self.topology('network:\n  s1: [gpu02]')
        self.bad('Network topology', 'far from all others: gpu01',
                 'such a name: gpu02', code=_WARNING)

    def test_topology_right(self):
        self.topology('network:\n  s1: [gpu01]')
        self.assertEqual(
            _SUCCESS, self.results()['Network topology'].code)
