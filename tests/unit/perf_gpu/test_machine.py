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


"""The machine's description, from a tree like that of a host with a GPU."""

import pathlib

import fixtures
from oslotest import base

from perf.gpu.backends import cpu
from perf.gpu import machine

GPU = {'model': 'H200', 'address': '00000000:65:00.0'}
CPUINFO = ('processor\t: 0\nmodel name\t: EPYC\nflags\t\t: fpu vme\n\n'
           'processor\t: 1\nmodel name\t: EPYC\nflags\t\t: fpu vme\n')


class FakeGPU(cpu.Backend):
    """A machine that has a GPU to describe."""

    def describe(self):
        return {'gpus': [GPU]}


class MachineTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self._write('proc/cpuinfo', CPUINFO)
        self._write('proc/cmdline', 'root=/dev/vda1 intel_iommu=on\n')
        self._write('proc/meminfo', 'MemTotal:  8388608 kB\n'
                    'HugePages_Total:  512\nHugepagesize:  2048 kB\n')
        self._write('sys/kernel/mm/transparent_hugepage/enabled',
                    'always [madvise] never\n')
        self._write('sys/devices/system/node/node0/cpulist', '0-1\n')
        self._write('sys/class/dmi/id/sys_vendor', 'OpenStack Foundation\n')
        device = 'sys/bus/pci/devices/0000:65:00.0/'
        for name, value in (('numa_node', '0'), ('current_link_width', '16'),
                            ('current_link_speed', '32.0 GT/s PCIe')):
            self._write(device + name, value + '\n')

    def _write(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_description_names_what_explains_a_difference(self):
        found = machine.describe(FakeGPU(), self.root)
        self.assertEqual('EPYC', found['processor']['model'])
        self.assertEqual(2, found['processor']['cpus'])
        self.assertEqual({'node0': '0-1'}, found['processor']['numa_nodes'])
        self.assertEqual(
            {'total_mib': 8192, 'huge_pages': 512, 'huge_page_kib': 2048,
             'transparent_huge_pages': 'madvise'}, found['memory'])
        self.assertEqual('root=/dev/vda1 intel_iommu=on',
                         found['command_line'])
        self.assertEqual('OpenStack Foundation', found['product'])
        self.assertEqual(
            {'0000:65:00.0': {
                'numa_node': 0, 'link_speed': '32.0 GT/s PCIe',
                'link_width': 16, 'iommu': False}}, found['pci'])
        self.assertEqual([GPU], found['gpus'])

    def test_hypervisor_by_the_processors_flags(self):
        absent = 'no-such-program'
        self.assertEqual('none', machine.hypervisor(self.root, absent))
        self._write('proc/cpuinfo', CPUINFO.replace(
            'vme', 'vme hypervisor'))
        self.assertEqual('unknown', machine.hypervisor(self.root, absent))

    def test_what_is_not_told_is_absent(self):
        found = machine.describe(cpu.Backend(), self.root / 'empty')
        self.assertEqual({}, found['memory'])
        self.assertEqual({}, found['pci'])
        self.assertNotIn('model', found['processor'])
        self.assertNotIn(None, found.values())

    def test_this_machine(self):
        found = machine.describe(cpu.Backend())
        self.assertGreater(found['memory']['total_mib'], 0)
        self.assertGreater(found['processor']['cpus'], 0)
