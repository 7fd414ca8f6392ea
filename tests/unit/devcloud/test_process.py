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

"""Services as real processes."""

import json
import os
import signal
import subprocess
import sys
import time

from oslotest import base

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import proc
from nova_gpu_lease.devcloud import process
from nova_gpu_lease.devcloud import tool
from tests.unit.devcloud import fixture


def python(code):
    """Return the command that runs some Python."""
    return [sys.executable, '-c', code]


class ProcessesTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.state = self.useFixture(fixture.StateFixture()).state
        self.processes = process.Processes(self.state)
        self.addCleanup(self.processes.kill)

    def service(self, *command, **kwargs):
        return process.Service('sleeper', command or ['sleep', '1000'],
                               **kwargs)

    def wait_until(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_start_and_stop(self):
        service = self.service()
        self.assertTrue(self.processes.start(service))
        leader = self.processes.leader('sleeper')
        self.assertEqual(leader.pid, leader.session)
        self.assertEqual([leader], self.processes.find('sleeper'))
        self.assertFalse(self.processes.start(service))
        self.assertTrue(self.processes.stop(service))
        self.assertIsNone(self.processes.leader('sleeper'))
        self.assertIsNone(proc.inspect(leader.pid))
        self.assertEqual([], self.processes.recorded())
        self.assertFalse(self.processes.stop(service))

    def test_stop_of_a_service_that_does_not_listen(self):
        service = self.service(*python(
            'import signal, time; signal.signal(15, signal.SIG_IGN); '
            'print("deaf", flush=True); time.sleep(1000)'),
            stop_timeout=0.1)
        self.processes.start(service)
        self.wait_until(lambda: 'deaf' in self.processes.tail('sleeper'))
        self.processes.stop(service)
        self.assertEqual([], self.processes.find('sleeper'))

    def test_kill_ends_children_of_a_dead_leader(self):
        self.processes.start(self.service(
            'sh', '-c', 'sleep 1000 & sleep 1000'))
        self.wait_until(lambda: len(self.processes.find('sleeper')) == 3)
        os.kill(self.processes.leader('sleeper').pid, signal.SIGKILL)
        self.wait_until(lambda: not self.processes.leader('sleeper'))
        self.assertEqual(2, len(self.processes.find('sleeper')))
        self.processes.kill('sleeper')
        self.assertEqual([], self.processes.find('sleeper'))

    def test_kill_ends_a_daemon_that_left_the_session(self):
        self.processes.start(self.service('setsid', '-f', 'sleep', '1000'))
        self.wait_until(lambda: not self.processes.leader('sleeper'))
        # It has no environment for a moment, while it becomes "sleep".
        self.wait_until(lambda: len(self.processes.find('sleeper')) == 1)
        self.wait_until(lambda: len(self.processes.find()) == 1)
        self.processes.kill()
        self.assertEqual([], self.processes.find())

    def test_kill_keeps_others(self):
        self.processes.start(self.service())
        kept = process.Service('kept', ['sleep', '1000'])
        self.processes.start(kept)
        self.processes.kill(keep=['kept'])
        self.assertIsNone(self.processes.leader('sleeper'))
        self.assertIsNotNone(self.processes.leader('kept'))

    def test_recycled_pid_is_not_killed(self):
        with subprocess.Popen(['sleep', '1000'],
                              start_new_session=True) as stranger:
            self.addCleanup(stranger.kill)
            now = proc.inspect(stranger.pid)
            for record in (
                    {'boot_id': proc.boot_id(),
                     'start_time': now.start_time - 1},
                    {'boot_id': 'before the reboot',
                     'start_time': now.start_time}):
                record['pid'] = stranger.pid
                self.state.write(json.dumps(record), 'run', 'sleeper.pid')
                self.assertIsNone(self.processes.leader('sleeper'))
                self.processes.stop(self.service())
                self.processes.kill()
                self.assertEqual([], self.processes.recorded())
            self.assertIsNone(stranger.poll())
            stranger.kill()

    def test_signal_to_a_pid_with_a_new_owner(self):
        with subprocess.Popen(['sleep', '1000']) as stranger:
            self.addCleanup(stranger.kill)
            old = proc.Process(stranger.pid, stranger.pid, 1, True)
            self.processes.signal([old], signal.SIGKILL)
            self.assertIsNone(stranger.poll())
            stranger.kill()

    def test_service_that_ends_at_once(self):
        service = self.service('sh', '-c', 'echo no such luck; exit 3',
                               ready=lambda: False)
        self.processes.start(service)
        error = self.assertRaises(exceptions.ServiceFailed,
                                  self.processes.wait_ready, service)
        self.assertEqual('sleeper', error.service)
        self.assertIn('ended while it was starting', str(error))
        self.assertIn('no such luck', str(error))

    def test_service_that_is_never_ready(self):
        def refuse():
            raise ConnectionRefusedError('nobody there')

        service = self.service(ready=refuse, start_timeout=0.1)
        self.processes.start(service)
        error = self.assertRaises(exceptions.ServiceFailed,
                                  self.processes.wait_ready, service)
        self.assertIn('nobody there', str(error))

    def test_waiting_is_given_up(self):
        service = self.service(ready=lambda: False)
        self.processes.start(service)
        self.processes.give_up.set()
        self.assertRaises(exceptions.ServiceFailed,
                          self.processes.wait_ready, service)

    def test_environment_leads_to_no_proxy(self):
        os.environ['HTTPS_PROXY'] = 'http://proxy.example.org:3128'
        self.addCleanup(os.environ.pop, 'HTTPS_PROXY')
        env = process.base_environment()
        self.assertNotIn('HTTPS_PROXY', env)
        self.assertEqual('*', env['no_proxy'])


class ToolTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.state = self.useFixture(fixture.StateFixture()).state

    def test_success(self):
        tool.run(self.state, 'well', ['sh', '-c', 'echo $WORD'],
                 env={'WORD': 'fine'})
        self.assertEqual('fine', process.Processes(self.state).tail('well'))

    def test_failure_shows_the_output(self):
        error = self.assertRaises(
            exceptions.CommandFailed, tool.run, self.state, 'badly',
            ['sh', '-c', 'echo it broke; exit 5'])
        self.assertIn('exit status 5', str(error))
        self.assertIn('it broke', str(error))
