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

import importlib.metadata
import subprocess
import sys

from gpu_lease_client.tests import base
from gpu_lease_client.tests import fakes


class TestPlugin(base.ShellTestCase):

    def test_api_version_option_is_read(self):
        self.make_cloud([fakes.lease(1)])
        self.succeed('gpu lease list',
                     options=['--os-gpu-lease-api-version', '1'])
        # A group of commands that does not exist has no commands.
        status, _, errors = self.openstack(
            'gpu lease list', options=['--os-gpu-lease-api-version', '7'])
        self.assertNotEqual(0, status)
        self.assertIn('gpu_lease API version 7 is not in supported versions',
                      errors)

    def test_commands_have_help(self):
        self.make_cloud()
        for command in ('list', 'show', 'cancel', 'queue list'):
            text = self.succeed('gpu lease %s --help' % command)
            self.assertIn('usage: ', text)

    def test_commands_as_a_process(self):
        # The other tests run the shell in this process, as a class.
        self.make_cloud([fakes.lease(1)])
        result = subprocess.run(
            [sys.executable, '-m', 'openstackclient.shell',
             '--os-auth-url', self.cloud.url + '/v3',
             '--os-username', 'alice', '--os-password', 'secret',
             '--os-project-name', 'red', '--os-user-domain-id', 'default',
             '--os-project-domain-id', 'default',
             'gpu', 'lease', 'list', '-f', 'value', '-c', 'Server'],
            capture_output=True, text=True, timeout=120)
        self.assertEqual((0, 'vm-1\n'), (result.returncode, result.stdout),
                         result.stderr)

    def test_nova_is_not_required(self):
        for requirement in importlib.metadata.requires(base.DISTRIBUTION):
            self.assertNotIn('nova', requirement.lower())

    def test_nova_is_not_imported(self):
        # Modules that tests imported before do not count: a new process.
        result = subprocess.run(
            [sys.executable, '-c',
             'import sys\n'
             'from gpu_lease_client import plugin\n'
             'from gpu_lease_client.v1 import lease, queue\n'
             'print([name for name in sys.modules if '
             'name.split(".")[0] in ("nova", "nova_gpu_lease")])'],
            capture_output=True, text=True, timeout=120)
        self.assertEqual('[]\n', result.stdout, result.stderr)
