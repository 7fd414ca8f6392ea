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


"""``nova-gpu-lease-manage topology check``, in a process of its own."""

import os
import subprocess
import sys

import fixtures
from oslotest import base


class TopologyCheckTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.folder = self.useFixture(fixtures.TempDir()).path

    def check(self, text, *arguments, option=True):
        """Check a topology file of this text, named by an option or not.

        :returns: (exit status, what it printed, errors).
        """
        path = os.path.join(self.folder, 'topology.yaml')
        conf = os.path.join(self.folder, 'nova.conf')
        with open(path, 'w') as stream:
            stream.write(text)
        with open(conf, 'w') as stream:
            stream.write('[gpu_lease]\n%stopology_file = %s\n' % (
                '' if option else '#', path))
        done = subprocess.run(
            [sys.executable, '-m', 'nova_gpu_lease.cmd.manage',
             '--config-file', conf, 'topology', 'check',
             *(argument % path for argument in arguments)],
            capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_a_good_file(self):
        status, printed, _error = self.check(
            'levels: [{name: leaf, ratio: 2}, {name: rack}]\n'
            'network: {a: {x: [h1, h2], y: [h3]}, b: {z: [h4]}}')
        self.assertEqual(0, status)
        self.assertIn('places of 4 hosts, devices of 0', printed)
        self.assertIn('level 0 (the whole network): 1 node; between hosts '
                      'that meet there: 8\nlevel 1: 2 nodes; between hosts '
                      'that meet there: 4\nlevel 2: 3 nodes', printed)

    def test_a_bad_file(self):
        status, _printed, error = self.check(
            'network:\n  a: [h, h]', '%s', option=False)
        self.assertEqual(1, status)
        self.assertIn('topology.yaml, line 2: host "h" is below a', error)

    def test_no_file(self):
        status, _printed, error = self.check('', option=False)
        self.assertEqual(1, status)
        self.assertIn('set [gpu_lease] topology_file', error)
