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


"""Each local flake8 check, against code that it accepts and code it refuses.

A rule is run the way flake8 runs it: from the syntax tree and a file name.
"""

import ast
import configparser
import inspect
import pathlib
import re
import textwrap

from oslotest import base

from nova_gpu_lease.hacking import checks

ROOT = pathlib.Path(__file__).parents[3]


class ChecksTest(base.BaseTestCase):

    def lines(self, check, code, filename='nova_gpu_lease/terms.py'):
        """The line numbers that a check complains about."""
        tree = ast.parse(textwrap.dedent(code))
        found = sorted(check(tree, filename).run(), key=lambda e: e[:2])
        for _line, column, message, _type in found:
            self.assertIsInstance(column, int)
            self.assertRegex(message, r'^G3\d\d \S')
        return [error[0] for error in found]

    def test_nova_import_by_file(self):
        code = 'from nova import objects\n'
        for filename in ('nova_gpu_lease/api/wsgi.py',
                         './nova_gpu_lease/api/handlers/lease.py',
                         '/src/x/nova_gpu_lease/policy.py',
                         'nova_gpu_lease/policies/base.py',
                         'nova_gpu_lease/conductor/builder.py',
                         'nova_gpu_lease/scheduler/manager.py',
                         'nova_gpu_lease/scheduler/filters.py',
                         'nova_gpu_lease/scheduler/weights.py',
                         'nova_gpu_lease/compute/manager.py',
                         'nova_gpu_lease/cmd/compute.py',
                         'nova_gpu_lease/devcloud/driver.py',
                         'tests/functional/test_queue.py'):
            self.assertEqual(
                [], self.lines(checks.NovaImport, code, filename), filename)
        for filename in ('nova_gpu_lease/terms.py',
                         'nova_gpu_lease/conf/gpu_lease.py',
                         'nova_gpu_lease/db/api.py',
                         'nova_gpu_lease/planner/planning.py',
                         'osc_plugin/gpuleaseclient/plugin.py',
                         'host_prep/cli.py'):
            self.assertEqual(
                [1], self.lines(checks.NovaImport, code, filename), filename)

    def test_nova_import_by_form(self):
        self.assertEqual([1, 2, 3, 5], self.lines(checks.NovaImport, '''\
            import nova
            import nova.context as nova_context
            from nova.objects import instance
            def late():
                from nova import exception
            '''))
        self.assertEqual([], self.lines(checks.NovaImport, '''\
            import nova_gpu_lease
            from nova_gpu_lease import states
            import novaclient
            from . import nova
            # import nova
            TEXT = """
            import nova
            """
            '''))

    def test_nova_tests_import(self):
        code = 'from nova.tests import fixtures\n'
        self.assertEqual([1], self.lines(
            checks.NovaTestsImport, code, 'tests/functional/test_queue.py'))
        self.assertEqual([], self.lines(
            checks.NovaTestsImport, code,
            'tests/functional/nova_fixtures.py'))
        self.assertEqual([], self.lines(
            checks.NovaTestsImport, 'from nova import test_helpers\n',
            'tests/functional/test_queue.py'))

    def test_sql_import(self):
        code = '''\
            import sqlalchemy as sa
            from sqlalchemy import orm
            from oslo_db.sqlalchemy import enginefacade
            from alembic import op
            from oslo_db import options
            '''
        self.assertEqual([1, 2, 3, 4], self.lines(
            checks.SQLImport, code, 'nova_gpu_lease/conductor/endpoint.py'))
        self.assertEqual([], self.lines(
            checks.SQLImport, code, 'nova_gpu_lease/db/api.py'))
        self.assertEqual([], self.lines(
            checks.SQLImport, code, 'tests/unit/db/test_api.py'))

    def test_per_host_query_direct(self):
        self.assertEqual([5, 6, 7, 9, 13], self.lines(
            checks.PerHostQuery, '''\
            from nova_gpu_lease.db import api as db_api
            from nova import objects
            class GPULeaseFilter:
                def host_passes(self, host_state, spec):
                    db_api.lease_current(spec.instance_uuid)
                    objects.Instance.get_by_uuid(None, spec.instance_uuid)
                    if spec.refresh():
                        return False
                    return self.client.call(None, 'survey')
                def filter_all(self, hosts, spec):
                    return db_api.scheduling_view(spec.instance_uuid)
                def _weigh_object(self, host_state, weight_properties):
                    return db_api.wake_value()
            '''))

    def test_per_host_query_in_a_helper(self):
        self.assertEqual([9, 11], self.lines(checks.PerHostQuery, '''\
            import nova_gpu_lease.db.api as db
            class GPULeaseWeigher:
                def _weigh_object(self, host_state, spec):
                    return self._rank(host_state) + _free(host_state)
                def _rank(self, host_state):
                    return self._deep(host_state)
                def _deep(self, host_state):
                    self._rank(host_state)
                    return db.lease_current(host_state.uuid)
            def _free(host_state):
                return db.plan_get()
            def unrelated():
                return db.plan_get()
            '''))

    def test_per_host_query_absent(self):
        self.assertEqual([], self.lines(checks.PerHostQuery, '''\
            from nova_gpu_lease.db import api as db_api
            class GPULeaseFilter:
                def host_passes(self, host_state, spec):
                    return host_state.pci_stats.support_requests(
                        spec.pci_requests.requests)
            def sync():
                db_api.scheduling_view(None)
            '''))
        self.assertEqual([], self.lines(
            checks.PerHostQuery,
            'def run(db):\n    return db.query()\n'))

    def test_naive_time(self):
        code = '''\
            datetime.datetime.utcnow()
            datetime.utcnow()
            datetime.datetime.now()
            datetime.datetime.utcfromtimestamp(1)
            datetime.datetime.fromtimestamp(1)
            datetime.date.today()
            time.time()
            timeutils.utcnow()
            datetime.datetime.now(datetime.timezone.utc)
            datetime.datetime.fromtimestamp(1, tz=datetime.timezone.utc)
            time.monotonic()
            timeutils.parse_isotime(text)
            clock.now()
            lease.time.time()
            '''
        self.assertEqual([1, 2, 3, 4, 5, 6, 7, 8], self.lines(
            checks.NaiveTime, code, 'nova_gpu_lease/compute/timer.py'))
        self.assertEqual([], self.lines(
            checks.NaiveTime, code, 'nova_gpu_lease/clock.py'))
        self.assertEqual([], self.lines(
            checks.NaiveTime, code, 'tests/unit/test_clock.py'))

    def test_log_formatting(self):
        self.assertEqual([1, 2, 3, 4, 5], self.lines(
            checks.LogFormatting, '''\
            LOG.info(f'lease {lease}')
            LOG.warning('lease {}'.format(lease))
            self.log.error(_('lease'))
            LOG.log(logging.INFO, f'{lease}')
            LOG.exception(f'lease {lease} failed')
            LOG.info('lease %s of {}', lease)
            LOG.debug(text.format)
            print(f'lease {lease}')
            click.error(f'lease {lease}')
            LOG.log(level, 'lease %s', f'{lease}')
            '''))

    def test_pure_module(self):
        code = '''\
            import time
            import nova.objects
            from oslo_config import cfg
            from nova_gpu_lease.conf import CONF
            from nova_gpu_lease.db import api
            from nova_gpu_lease import clock
            from oslo_utils import timeutils
            import socket
            from nova_gpu_lease import states
            from oslo_utils import strutils
            import dataclasses
            '''
        for filename in ('nova_gpu_lease/planner/planning.py',
                         'nova_gpu_lease/scheduler/room.py',
                         './nova_gpu_lease/states.py'):
            self.assertEqual([1, 2, 3, 4, 5, 6, 7, 8], self.lines(
                checks.PureModule, code, filename), filename)
        self.assertEqual([], self.lines(
            checks.PureModule, code, 'nova_gpu_lease/scheduler/manager.py'))

    def test_swallowed_failure(self):
        self.assertEqual([3, 8, 14], self.lines(
            checks.SwallowedFailure, '''\
            try:
                work()
            except Exception:
                pass
            for item in items:
                try:
                    work(item)
                except (ValueError, Exception):
                    """Never mind."""
                    continue
            try:
                work()
            # Bare.
            except:
                pass
            '''))
        self.assertEqual([], self.lines(checks.SwallowedFailure, '''\
            try:
                work()
            except exception.LeaseNotFound:
                pass
            except Exception:
                LOG.exception('work failed')
            except Exception:
                raise
            '''))


class RegistrationTest(base.BaseTestCase):
    """tox.ini and HACKING.rst name every check, under its own number."""

    def setUp(self):
        super().setUp()
        self.classes = {
            cls.message.split()[0]: name
            for name, cls in inspect.getmembers(checks, inspect.isclass)
            if issubclass(cls, checks.Check) and cls is not checks.Check}

    def test_every_check_is_registered(self):
        tox = configparser.ConfigParser(interpolation=None)
        tox.read(ROOT / 'tox.ini')
        registered = dict(re.findall(
            r'(G3\d\d) = checks:(\w+)',
            tox['flake8:local-plugins']['extension']))
        self.assertEqual(registered, self.classes)

    def test_every_check_is_documented(self):
        text = (ROOT / 'HACKING.rst').read_text()
        self.assertEqual(sorted(self.classes),
                         re.findall(r'^- \[(G3\d\d)\]', text, re.MULTILINE))
