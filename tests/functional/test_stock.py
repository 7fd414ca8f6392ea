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

"""A server without a GPU lives as under stock Nova.

The same story is told with and without this package; what the API answered
and the rows that are left in Nova's databases are the same.
"""

import json
import re
import unittest

import fixtures
from nova import context as nova_context
from nova.db.api import api as api_db
from nova.db.main import api as main_db
import sqlalchemy as sa

from tests.functional import base

UUID = re.compile('[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}')
TIME = re.compile(r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?'
                  r'(Z|[+-]\d\d:\d\d)?')
RANDOM = re.compile('r-[0-9a-z]{8}|(?<="adminPass": ")[^"]+')
#: Columns that count how long the test took.
CLOCKS = {('services', 'report_count'), ('services', 'last_seen_up'),
          ('services', 'updated_at'), ('compute_nodes', 'updated_at')}


class Plain:
    """Replaces what differs from run to run by its order of appearance."""

    def __init__(self):
        self.names = {}

    def __call__(self, value):
        text = json.dumps(value, default=str, sort_keys=True)
        text = RANDOM.sub('RANDOM', TIME.sub('TIME', text))
        return UUID.sub(self._name, text)

    def _name(self, match):
        key = match.group().replace('-', '')
        return self.names.setdefault(key, 'uuid-%d' % len(self.names))


class Story(base.CloudTestCase):
    """Not a test by itself: see below."""

    GPUS = {'host1': {'gpu': 1}, 'host2': {}}

    def setUp(self):
        # A process remembers these ids and writes no second row.
        self.useFixture(fixtures.MonkeyPatch('nova.objects.ec2._CACHE', None))
        super().setUp()
        self.answers = []

    def ask(self, method, url, body=None):
        """Call the API as the tenant, and keep what it answers."""
        answer = self.api.api_request(
            url, method=method, body=body and json.dumps(body))
        self.answers.append((
            method, url, answer.status_code,
            {name: value for name, value in answer.headers.items()
             if name.lower() not in ('x-compute-request-id',
                                     'x-openstack-request-id',
                                     'content-length')},
            answer.json() if answer.content else None))
        return self.answers[-1][-1]

    def act(self, server, action, status):
        self.ask('POST', '/servers/%s/action' % server, action)
        self.reach(server, status)

    def reach(self, server, status):
        self.wait_for_status(server, status)
        self.wait_for('no task', lambda: self.api.get_server(server)[
            'OS-EXT-STS:task_state'] is None)
        self.ask('GET', '/servers/%s' % server)

    def tell(self):
        small, large = [self._create_flavor(
            id=name, name=name, vcpu=1, memory_mb=memory, disk=1)
            for name, memory in (('small', 512), ('large', 1024))]
        for wrong in ({'server': {'name': 'one'}}, {'server': []}, [], {}):
            self.ask('POST', '/servers', wrong)
        server = self.ask('POST', '/servers', self.body(
            'one', {'group_hint': 'x'}, small))['server']['id']
        self.reach(server, 'ACTIVE')
        self.ask('GET', '/servers/detail')
        self.act(server, {'resize': {'flavorRef': large}}, 'VERIFY_RESIZE')
        self.act(server, {'confirmResize': None}, 'ACTIVE')
        self.act(server, {'shelve': None}, 'SHELVED')
        self.api = self.admin_api
        self.act(server, {'shelveOffload': None}, 'SHELVED_OFFLOADED')
        self.api = self.api_fixture.api
        self.act(server, {'unshelve': None}, 'ACTIVE')
        self.ask('GET', '/servers/%s/os-instance-actions' % server)
        self.ask('DELETE', '/servers/%s' % server)
        self.wait_for_status(server, None)
        self.ask('GET', '/servers/%s' % server)
        # One that no host can hold.
        huge = self._create_flavor(id='huge', name='huge', vcpu=1000,
                                   memory_mb=512, disk=1)
        server = self.ask('POST', '/servers', self.body(
            'two', {}, huge))['server']['id']
        self.reach(server, 'ERROR')
        self.ask('DELETE', '/servers/%s' % server)
        self.wait_for_status(server, None)
        self.wait_for('allocations gone', lambda: not any(
            self._get_allocations_by_provider_uuid(
                self._get_provider_uuid_by_host(host))
            for host in self.computes))

    def rows(self):
        """Every row of Nova's databases: {database: {table: [row]}}."""
        context = nova_context.get_admin_context()
        engines = {'api': api_db.get_engine()}
        for name, cell in self.cell_mappings.items():
            with nova_context.target_cell(context, cell) as targeted:
                engines[name] = main_db.get_engine(context=targeted)
        return {name: self._tables(engine)
                for name, engine in engines.items()}

    @staticmethod
    def _tables(engine):
        metadata = sa.MetaData()
        metadata.reflect(engine)
        found = {}
        with engine.connect() as connection:
            for table in metadata.sorted_tables:
                rows = connection.execute(
                    sa.select(table).order_by(*table.primary_key)).mappings()
                found[table.name] = [
                    {name: value for name, value in row.items()
                     if (table.name, name) not in CLOCKS} for row in rows]
        return {name: rows for name, rows in found.items() if rows}

    def tell_and_keep(self):
        self.tell()
        plain = Plain()
        # Nova's base class removes public attributes at the end.
        self._manager = type(self.computes['host1'].manager).__name__
        self._result = (
            [plain(answer) for answer in self.answers],
            {'%s.%s' % (name, table): [plain(row) for row in rows]
             for name, tables in self.rows().items()
             for table, rows in tables.items()})


class StockStoryTest(unittest.TestCase):

    maxDiff = None

    def tell(self, hooks):
        story = Story('tell_and_keep')
        story.HOOKS = hooks
        outcome = unittest.TestResult()
        story.run(outcome)
        for _, text in outcome.errors + outcome.failures:
            self.fail(text)
        self.assertEqual('GPULeaseComputeManager' if hooks else
                         'ComputeManager', story._manager)
        return story._result

    def test_story_is_the_same_with_and_without_hooks(self):
        answers, rows = self.tell(hooks=False)
        ours, our_rows = self.tell(hooks=True)
        self.assertEqual(answers, ours)
        self.assertEqual(sorted(rows), sorted(our_rows))
        for table, expected in rows.items():
            self.assertEqual(expected, our_rows[table], table)
