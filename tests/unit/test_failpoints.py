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


"""The places at which tests kill a process."""

import pathlib
import re
import subprocess
import sys

import nova_gpu_lease
from nova_gpu_lease import failpoints
from tests import base

PACKAGE = pathlib.Path(nova_gpu_lease.__file__).parent


class FailpointsTest(base.TestCase):

    def test_every_name_is_a_place(self):
        code = '\n'.join(path.read_text() for path in PACKAGE.rglob('*.py')
                         if path.name != 'failpoints.py')
        places = set(re.findall(r"failpoints\.hit\('([\w-]+)'\)", code))
        # Before methods of Nova's.
        places |= set(re.findall(r"\('_\w+',\s+'([\w-]+)'\)", code))
        self.assertEqual(set(failpoints.NAMES), places)

    def run_process(self, armed):
        """A process that passes two places; what it printed, its status."""
        path = pathlib.Path(self.create_tempfiles([('armed', armed)])[0])
        done = subprocess.run(
            [sys.executable, '-c',
             'from nova_gpu_lease import failpoints\n'
             'failpoints.hit("queued")\nprint("one", flush=True)\n'
             'failpoints.hit("placed")\nprint("two", flush=True)\n'],
            env={failpoints.VARIABLE: str(path),
                 'PYTHONPATH': str(PACKAGE.parent)},
            stdout=subprocess.PIPE, text=True, check=False)
        return done.stdout.split(), done.returncode, path.read_text()

    def test_armed(self):
        self.assertEqual((['one'], -9, 'cast'),
                         self.run_process('placed\ncast'))

    def test_not_armed(self):
        self.assertEqual((['one', 'two'], 0, 'cast'),
                         self.run_process('cast'))
