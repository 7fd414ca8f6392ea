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

"""What touches the real machine: programs, sysfs, the terminal."""

import os

import fixtures

from gpu_host_prep import cli
from gpu_host_prep import exceptions
from gpu_host_prep import journal as journals
from gpu_host_prep import lists
from gpu_host_prep import root as roots
from gpu_host_prep.tests import base
from gpu_host_prep import work


class TestRoot(base.TestCase):

    def test_program_that_works(self):
        roots.Root().run('true')

    def test_program_that_fails_shows_the_end_of_its_output(self):
        error = self.assertRaises(
            exceptions.HostPrepError, roots.Root().run, 'sh', '-c',
            'seq 1 30; echo broken >&2; exit 3')
        self.assertIn('ended with status 3:', str(error))
        self.assertIn('\n30\nbroken', str(error))
        self.assertNotIn('\n15\n', str(error))

    def test_program_that_is_not_there(self):
        error = self.assertRaises(exceptions.HostPrepError,
                                  roots.Root().run, 'no-such-program')
        self.assertIn('no-such-program cannot be run', str(error))

    def test_program_of_another_root_is_run_there(self):
        folder = self.useFixture(fixtures.TempDir()).path
        error = self.assertRaises(exceptions.HostPrepError,
                                  roots.Root(folder).run, 'true')
        self.assertIn('true ', str(error))

    def test_attribute_is_written_or_named(self):
        folder = self.useFixture(fixtures.TempDir()).path
        os.mkdir(f'{folder}/sys')
        root = roots.Root(folder)
        with open(f'{folder}/sys/unbind', 'w', encoding='ascii'):
            pass
        root.tell('/sys/unbind', '0000:01:00.0')
        self.assertEqual('0000:01:00.0', root.attribute('/sys/unbind'))
        error = self.assertRaises(exceptions.HostPrepError, root.tell,
                                  '/sys/bind', 'x\n')
        self.assertIn("writing 'x' to /sys/bind failed: No such file",
                      str(error))

    def test_kernel_is_looked_up_elsewhere(self):
        folder = self.useFixture(fixtures.TempDir()).path
        root = roots.Root(folder, kernel='/')
        self.assertEqual('/proc/cmdline', root.path('/proc/cmdline'))
        self.assertEqual(f'{folder}/etc/x', root.path('/etc/x'))
        self.assertTrue(root.exists('/sys/bus'))


class TestLists(base.TestCase):

    def test_there_and_back(self):
        for text in ('', '0', '0-3', '0-3,8', '1,3,5-7'):
            self.assertEqual(text, lists.format(lists.parse(text)))


class TestTerminal(base.TestCase):

    def answer(self, text):
        root = self.debian()
        self.useFixture(fixtures.MockPatch('sys.stdin.isatty', lambda: True))
        self.useFixture(fixtures.MockPatch('builtins.input',
                                           lambda _question: text))
        status, _output, _errors = self.run_command(root, 'apply',
                                                    self.state_file())
        self.assertEqual(0, status)
        return root.exists('/etc/modprobe.d/gpu-host-prep.conf')

    def test_yes(self):
        self.assertTrue(self.answer('y'))

    def test_anything_else(self):
        self.assertFalse(self.answer(''))

    def test_default_state_file_is_below_the_root(self):
        root = self.debian()
        status, _output, errors = self.run_command(root, 'plan')
        self.assertEqual(2, status)
        self.assertIn(root.path('/etc/gpu-host-prep/state.yaml'), errors)
        root.put('/etc/gpu-host-prep/state.yaml', base.STATE)
        status, _output, _errors = self.run_command(root, 'plan')
        self.assertEqual(1, status)

    def test_state_file_that_is_given_twice(self):
        status, _output, errors = self.run_command(
            self.machine(), 'assert', '-f', 'a', 'b')
        self.assertEqual(2, status)
        self.assertIn('given twice', errors)

    def test_no_files_without_runtime(self):
        status, _output, errors = self.run_command(
            self.machine(), 'apply', '--no-files', self.state_file())
        self.assertEqual(2, status)
        self.assertIn('--runtime only', errors)

    def test_error_of_the_system_is_no_traceback(self):
        root = self.debian()

        def refuse(_path):
            raise PermissionError(13, 'Permission denied', '/var/lib/x')
        root._mkdir = refuse
        status, _output, errors = self.run_command(
            root, 'apply', '--yes', self.state_file())
        self.assertEqual(4, status)
        self.assertIn("Permission denied: '/var/lib/x'", errors)

    def test_others_than_root_are_told_what_they_do_not_see(self):
        for user, told in ((0, ''), (1000, 'Only root is told who uses')):
            self.useFixture(fixtures.MockPatch('os.geteuid', lambda: user))
            _status, _output, errors = self.run_command(self.machine(),
                                                        'inspect')
            self.assertIn(told, errors)
            self.assertEqual(bool(told), bool(errors))

    def test_unknown_command(self):
        self.useFixture(fixtures.MockPatch('sys.stderr'))
        error = self.assertRaises(SystemExit, cli.main, ['no-such'])
        self.assertEqual(2, error.code)

    def test_backup_that_somebody_removed(self):
        root = self.debian()
        job = self.work(root)
        job.apply(job.plan())
        for name in root.names(f'{journals.FOLDER}/backup'):
            root.remove(f'{journals.FOLDER}/backup/{name}')
        error = self.assertRaises(exceptions.HostPrepError,
                                  work.Restoration.load, root)
        self.assertIn('is missing', str(error))
