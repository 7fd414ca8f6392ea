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

"""What the tests have in common."""

import contextlib
import io
import os

import fixtures
import testtools

from gpu_host_prep import cli
from gpu_host_prep import machine
from gpu_host_prep import selection as selections
from gpu_host_prep import state as states
from gpu_host_prep.tests.fakes import layouts
from gpu_host_prep.tests.fakes import sysfs
from gpu_host_prep import work

# Machines are hundreds of small files: in memory where there is such a place.
FOLDER = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
STATE = 'cards:\n  - model: "RTX 2070"\n'


class TestCase(testtools.TestCase):

    def machine(self, layout=layouts.RTX_2070, **options):
        """Make a machine in a directory of its own."""
        path = self.useFixture(fixtures.TempDir(FOLDER)).path
        return sysfs.Machine(path, layout, **options)

    def state_file(self, text=STATE):
        path = os.path.join(
            self.useFixture(fixtures.TempDir(FOLDER)).path, 'state.yaml')
        with open(path, 'w', encoding='utf-8') as stream:
            stream.write(text)
        return path

    def work(self, root, text=STATE):
        return work.Work.load(root, self.state_file(text))

    def selection(self, root, text=STATE):
        state = states.load(text, 'state.yaml')
        return selections.select(machine.read(root), state, 'state.yaml')

    def run_command(self, root, *arguments):
        """Run the command on a machine.

        :returns: (exit status, standard output, standard error)
        """
        output, errors = io.StringIO(), io.StringIO()
        self.useFixture(fixtures.MockPatch(
            'gpu_host_prep.root.Root', lambda *_args: root))
        with contextlib.redirect_stdout(output), \
                contextlib.redirect_stderr(errors):
            status = cli.main(list(arguments))
        return status, output.getvalue(), errors.getvalue()

    def debian(self, layout=layouts.RTX_2070, **options):
        """Make a machine with the programs and files of Debian."""
        root = self.machine(layout, **options)
        for program in ('update-initramfs', 'update-grub'):
            root.program(program)
        root.put('/etc/initramfs-tools/modules', '# One in each line.\n')
        root.put('/etc/default/grub', 'GRUB_CMDLINE_LINUX=""\n')
        root.put('/etc/default/grub.d/init-select.cfg', '')
        return root

    def prepare(self, root, text=STATE):
        """Run "apply --runtime", and make it as it is after a reboot."""
        job = self.work(root, text)
        plan = job.plan(now=True)
        plan.check()
        job.apply(plan)
        root.put('/proc/cmdline',
                 'root=/dev/sda1 ro intel_iommu=on iommu=pt\n')
        return root
