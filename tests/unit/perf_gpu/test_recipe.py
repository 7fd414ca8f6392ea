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


"""The recipe for a leased guest: its form, and its script, run."""

from http import server
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import threading

import fixtures
from oslotest import base
import yaml

from perf.gpu import console
from perf.gpu import schema
from tests.unit.perf_gpu import helpers

ROOT = pathlib.Path(__file__).parents[3]
RECIPE = ROOT / 'etc' / 'cloud-init' / 'gpu-benchmark.yaml'


class Store(server.BaseHTTPRequestHandler):
    """An object store that keeps what is put."""

    def do_PUT(self):
        size = int(self.headers['Content-Length'])
        self.server.kept[self.path] = self.rfile.read(size)
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_arguments):
        """Say nothing."""


class RecipeTest(helpers.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.recipe = yaml.safe_load(RECIPE.read_text())
        self.files = {one['path']: one for one in self.recipe['write_files']}

    def test_form_is_that_of_cloud_init(self):
        # Nova and cloud-init take a file for what its first line says.
        self.assertEqual('#cloud-config',
                         RECIPE.read_text().splitlines()[0])
        # User data may have 64 KiB when encoded.
        self.assertLess(RECIPE.stat().st_size, 48 << 10)
        self.assertEqual({'packages', 'package_update', 'write_files',
                          'runcmd', 'power_state'}, set(self.recipe))
        for one in self.files.values():
            self.assertIsInstance(one['permissions'], str)
        for command in self.recipe['runcmd']:
            self.assertEqual('0755', self.files[command[0]]['permissions'])
        self.assertEqual('poweroff', self.recipe['power_state']['mode'])
        self.assertIs(True, self.recipe['power_state']['condition'])

    def test_schema_of_cloud_init(self):
        if not shutil.which('cloud-init'):
            self.skipTest('cloud-init is not installed')
        done = subprocess.run(
            ['cloud-init', 'schema', '-c', str(RECIPE)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(0, done.returncode, done.stdout)

    def _source(self):
        """The archive that a guest would fetch."""
        path = self.folder / 'source.tar'
        with tarfile.open(path, 'w') as archive:
            for found in sorted((ROOT / 'perf').rglob('*')):
                if found.is_file() and found.suffix != '.pyc':
                    archive.add(found, 'nova-gpu-lease-1.0/%s' % (
                        found.relative_to(ROOT)))
        return path.as_uri()

    def _run(self, **values):
        """Run the recipe's script.

        :returns: (status, what it wrote to the console).
        """
        script = self.folder / 'script'
        script.write_text(self.files['/usr/local/sbin/gpu-benchmark'][
            'content'])
        config = self.folder / 'config'
        config.write_text(
            self.files['/etc/default/gpu-benchmark']['content'] +
            ''.join('%s="%s"\n' % one for one in {
                'PYTHON': sys.executable, **values}.items()))
        log = self.folder / 'console'
        log.write_text('[    0.0] Linux\n')
        done = subprocess.run(['bash', str(script)], env={
            'PATH': os.environ['PATH'], 'CONFIG': str(config),
            'WORK': str(self.folder / 'work'), 'CONSOLE': str(log)},
            timeout=120)
        return done.returncode, log.read_text()

    def test_script_measures_and_tells(self):
        store = server.HTTPServer(('127.0.0.1', 0), Store)
        store.kept = {}
        thread = threading.Thread(target=store.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(store.server_close)
        self.addCleanup(store.shutdown)
        status, log = self._run(
            SOURCE_URL=self._source(),
            PUT_URL='http://127.0.0.1:%d/lab/guest.json' % store.server_port,
            RUN_OPTIONS='--backend cpu --only cpu/pipe --only cpu/hash '
            '--rounds 3 --max-rounds 3 --time-limit 2s')
        self.assertEqual(0, status, log)
        self.assertIn('gpu-benchmark: done, the run\'s status was 0', log)
        result = schema.parse(console.extract(log), 'the console')
        self.assertEqual('guest', result['label'])
        self.assertEqual(['cpu/hash', 'cpu/pipe'], sorted(result['tests']))
        self.assertEqual(
            result, json.loads(store.kept['/lab/guest.json']))

    def test_script_tells_why_it_failed(self):
        for values, text in (
                ({}, 'SOURCE_URL is empty'),
                ({'SOURCE_URL': 'file:///nowhere.tar'}, 'No such file')):
            status, log = self._run(**values)
            self.assertNotEqual(0, status)
            self.assertIn(text, log)
            self.assertIn('gpu-benchmark: FAILED with status', log)


class RequirementsTest(base.BaseTestCase):
    """A guest installs from files of their own, for it has no Nova."""

    def _lines(self, path):
        return {line.partition(' #')[0] for line in
                path.read_text().splitlines() if line[:1] not in ('#', '')}

    def test_extras_are_those_files(self):
        text = (ROOT / 'setup.cfg').read_text()
        extras = {}
        for line in text.partition('[extras]')[2].partition(
                '\n[')[0].splitlines():
            if line.endswith(' ='):
                extra = extras.setdefault(line[:-2], set())
            elif line.strip():
                extra.add(line.strip())
        folder = ROOT / 'perf' / 'gpu'
        run = self._lines(folder / 'requirements.txt')
        self.assertLessEqual(run, extras['perf'])
        self.assertEqual(self._lines(folder / 'requirements-gpu.txt'),
                         extras['gpu'])

    def test_run_needs_no_more_than_its_file(self):
        names = {'matplotlib', 'scipy', 'markdown_it', 'nova', 'oslo_utils'}
        program = (
            'import sys\n'
            'from perf.gpu import cli, progress, runner, worker\n'
            'print(*sorted({name.partition(".")[0] for name in '
            'sys.modules}))')
        done = subprocess.run([sys.executable, '-c', program], cwd=ROOT,
                              text=True, check=True, stdout=subprocess.PIPE)
        loaded = set(done.stdout.split())
        # rich draws on markdown-it only when it is asked for Markdown.
        self.assertEqual(set(), names & loaded)
        self.assertIsNotNone(importlib.util.find_spec('psutil'))
        self.assertIn('jsonschema', loaded)
