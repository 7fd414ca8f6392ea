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

"""Runs the real ``openstack`` shell in this process."""

import contextlib
import importlib.metadata
import io
import json
import logging
import shlex

import fixtures
from openstackclient import shell
import testtools

from gpu_lease_client.tests import cloud

DISTRIBUTION = 'python-nova-gpu-lease-client'


class ShellTestCase(testtools.TestCase):
    """Base of the tests that run commands against a FakeCloud."""

    def setUp(self):
        super().setUp()
        try:
            importlib.metadata.version(DISTRIBUTION)
        except importlib.metadata.PackageNotFoundError:
            self.fail('OpenStackClient finds commands of installed packages '
                      'only: pip install -e ./osc_plugin')
        # No clouds.yaml and no OS_* of whoever runs the tests.
        home = self.useFixture(fixtures.TempHomeDir())
        self.useFixture(fixtures.EnvironmentVariable(
            'XDG_CONFIG_HOME', home.path))
        for name in ('OS_CLOUD', 'OS_CLIENT_CONFIG_FILE',
                     'OS_GPU_LEASE_API_VERSION', 'CLIFF_FIT_WIDTH',
                     'CLIFF_MAX_TERM_WIDTH'):
            self.useFixture(fixtures.EnvironmentVariable(name))
        # The shell keeps its clients on a class, so for the whole process.
        self.useFixture(fixtures.MonkeyPatch(
            'osc_lib.clientmanager.ClientCache.__get__', _new_client))
        # It also reconfigures the logging of the process.
        root = logging.getLogger()
        self.addCleanup(root.setLevel, root.level)
        self.addCleanup(setattr, root, 'handlers', list(root.handlers))

    def make_cloud(self, *args, **kwargs):
        """Start a cloud for this test.

        :returns: the cloud.FakeCloud, made with these arguments.
        """
        self.cloud = self.useFixture(cloud.FakeCloud(*args, **kwargs))
        return self.cloud

    def openstack(self, command, user='alice', options=()):
        """Run a command as one would type it.

        :param command: all that follows ``openstack``, as one str.
        :param user: who runs it: a name in cloud.USERS.
        :param options: more global options.
        :returns: (exit status, what it printed, its error output).
        """
        project = cloud.USERS[user][2]
        arguments = [
            '--os-auth-url', self.cloud.url + '/v3',
            '--os-username', user, '--os-password', 'secret',
            '--os-project-name', project, '--os-user-domain-id', 'default',
            '--os-project-domain-id', 'default', *options,
        ] + shlex.split(command)
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), \
                contextlib.redirect_stderr(errors):
            try:
                status = shell.OpenStackShell().run(arguments)
            except SystemExit as stop:
                # argparse, for --help and for arguments it does not know
                status = stop.code
        return status, output.getvalue(), errors.getvalue()

    def succeed(self, command, **kwargs):
        """Run a command that must work.

        :returns: what it printed.
        """
        status, output, errors = self.openstack(command, **kwargs)
        self.assertEqual((0, ''), (status, errors), output)
        return output

    def json(self, command, **kwargs):
        """Run a command that must work with ``-f json``.

        :returns: what it printed, parsed.
        """
        return json.loads(self.succeed(command + ' -f json', **kwargs))

    def refuse(self, command, **kwargs):
        """Run a command that must fail and print nothing.

        :returns: its error output.
        """
        status, output, errors = self.openstack(command, **kwargs)
        self.assertNotEqual(0, status)
        self.assertEqual('', output)
        return errors


def _new_client(cache, instance, owner):
    """Make a client each time instead of once in a process."""
    if instance is None:
        return cache
    return cache.factory(instance)
