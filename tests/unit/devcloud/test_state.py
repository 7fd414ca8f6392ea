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

"""The state directory, its ports and its lock."""

import os
import socket
import stat
import subprocess

import fixtures
from oslotest import base

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import options
from nova_gpu_lease.devcloud import ports
from nova_gpu_lease.devcloud import state
from tests.unit.devcloud import fixture


class StateTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.state = self.useFixture(fixture.StateFixture()).state

    def test_ports_are_distinct_and_remembered(self):
        chosen = self.state.data['ports']
        self.assertEqual(len(chosen), len(set(chosen.values())))
        self.assertEqual(chosen, state.State(self.state.dir).data['ports'])

    def test_clouds_share_no_port(self):
        other = state.State(str(self.state.dir) + '2')
        with other.lock():
            other.create(*options.new({}))
        self.assertEqual(set(), set(self.state.data['ports'].values()) &
                         set(other.data['ports'].values()))

    def test_files_are_private(self):
        for path in (self.state.dir, self.state.file,
                     self.state.write('x', 'a', 'b')):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            self.assertEqual(0, mode & 0o077, path)

    def test_done_is_remembered(self):
        self.assertIsNone(self.state.is_done('image'))
        self.state.done('image')
        self.assertTrue(state.State(self.state.dir).is_done('image'))

    def test_lock_is_exclusive(self):
        with self.state.lock():
            error = self.assertRaises(
                exceptions.DevcloudError,
                state.State(self.state.dir).lock().__enter__)
        self.assertIn('Another command', str(error))
        with state.State(self.state.dir).lock():
            pass

    def test_lock_leaves_no_empty_directory(self):
        nowhere = state.State(self.state.dir / 'none')
        with nowhere.lock():
            pass
        self.assertFalse(nowhere.dir.exists())
        self.assertRaises(exceptions.DevcloudError, nowhere.require)

    def test_directory_of_somebody_else(self):
        home = self.useFixture(fixtures.TempDir()).path
        precious = os.path.join(home, 'thesis.tex')
        with open(precious, 'w') as stream:
            stream.write('precious')
        stranger = state.State(home)
        with stranger.lock():
            self.assertRaises(exceptions.DevcloudError, stranger.create,
                              *options.new({}))
        self.assertEqual(['thesis.tex'], os.listdir(home))

    def test_path_that_configuration_cannot_carry(self):
        odd = state.State(self.state.dir.parent / 'my cloud')
        with odd.lock():
            self.assertRaises(exceptions.DevcloudError, odd.create,
                              *options.new({}))

    def test_remove_gives_ports_back(self):
        with self.state.lock():
            self.state.remove()
        self.assertFalse(self.state.dir.exists())
        self.assertFalse(self.state.exists())

    def _source(self, project, name, env):
        text = self.state.openrc(project)
        return subprocess.run(
            ['sh', '-c', f'{text}\nprintf %s "${name}"'], env=env,
            capture_output=True, text=True, check=True).stdout

    def test_openrc_is_what_a_shell_reads(self):
        env = {'OS_CLOUD': 'other', 'no_proxy': 'example.org'}
        self.assertEqual('alice', self._source(
            'alice-lab', 'OS_USERNAME', env))
        self.assertEqual(self.state.password('bob'), self._source(
            'bob-lab', 'OS_PASSWORD', env))
        self.assertEqual('', self._source('admin', 'OS_CLOUD', env))
        self.assertEqual('127.0.0.1,example.org', self._source(
            'admin', 'no_proxy', env))

    def test_openrc_of_unknown_project(self):
        error = self.assertRaises(exceptions.DevcloudError,
                                  self.state.openrc, 'carol-lab')
        self.assertIn('alice-lab', str(error))


class PortsTest(base.BaseTestCase):

    def test_taken_port_is_not_free(self):
        with socket.socket() as listener:
            listener.bind((ports.HOST, 0))
            listener.listen()
            self.assertFalse(ports.is_free(listener.getsockname()[1]))

    def test_block_of_removed_directory_is_forgotten(self):
        home = self.useFixture(fixtures.TempDir()).path
        cache = self.useFixture(fixtures.TempDir())
        directory = state.pathlib.Path(cache.path)
        first = ports.choose(home, ['a', 'b'], directory)
        self.assertEqual(first['a'] + 1, first['b'])
        os.rmdir(home)
        ports.choose(cache.path, ['a'], directory)
        self.assertNotIn(home, (directory / 'ports.json').read_text())
