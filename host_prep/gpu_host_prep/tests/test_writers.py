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

"""What the written files say, on each kind of host."""

import os
import re
import subprocess

from gpu_host_prep import modprobe
from gpu_host_prep import state as states
from gpu_host_prep.tests import base
from gpu_host_prep.tests.fakes import layouts
from gpu_host_prep.tests.fakes import sysfs
from gpu_host_prep import writers
from gpu_host_prep.writers import binding
from gpu_host_prep.writers import initramfs

_LOADER_INFO = ('/sys/firmware/efi/efivars/LoaderInfo-'
                '4a67b082-0a4c-41cf-b6c7-440b29bb8c4f')
KEEP = base.STATE + 'keep:\n- address: "0000:02:00.0"\n'


class WritersCase(base.TestCase):

    def wanted(self, root, text=base.STATE):
        job = self.work(root, text)
        return writers.wanted(root, job.state, job.selection)

    def contents(self, root, text=base.STATE):
        return {file.path: file.content(root.file(file.path)[0]).decode()
                for file in self.wanted(root, text).files}


class TestModules(WritersCase):

    def conf(self, root, text=base.STATE):
        return self.contents(root, text)['/etc/modprobe.d/'
                                         'gpu-host-prep.conf'].splitlines()

    def test_ids_where_the_host_keeps_none_of_them(self):
        self.assertIn('options vfio-pci '
                      'ids=10de:1f02,10de:10f9,10de:1ada,10de:1adb',
                      self.conf(self.machine()))

    def test_no_ids_and_no_blacklist_when_an_equal_card_stays(self):
        lines = self.conf(self.machine(layouts.two_equal_cards()), KEEP)
        for line in lines:
            self.assertFalse(line.startswith(('options', 'blacklist')), line)
        self.assertIn('softdep nouveau pre: vfio_pci', lines)

    def test_drivers_of_the_card_come_later(self):
        lines = self.conf(self.machine())
        for name in ('nouveau', 'nvidia', 'snd_hda_intel', 'xhci_pci',
                     'i2c_nvidia_gpu'):
            self.assertIn(f'softdep {name} pre: vfio_pci', lines)

    def test_only_graphics_are_blacklisted(self):
        lines = self.conf(self.machine())
        self.assertIn('blacklist nouveau', lines)
        self.assertNotIn('blacklist snd_hda_intel', lines)
        self.assertNotIn('blacklist xhci_pci', lines)

    def test_blacklist_of_the_state(self):
        lines = self.conf(self.machine(), base.STATE + 'blacklist: []\n')
        self.assertEqual([], [line for line in lines
                              if line.startswith('blacklist')])

    def test_unsafe_interrupts(self):
        self.assertIn(
            'options vfio_iommu_type1 allow_unsafe_interrupts=1',
            self.conf(self.machine(),
                      base.STATE + 'unsafe_interrupts: true\n'))

    def test_amd_and_grace(self):
        lines = self.conf(self.machine(layouts.MI300X),
                          'cards:\n- id: "1002:74a1"\n')
        # The virtual function, kept here, needs the same driver.
        self.assertNotIn('blacklist amdgpu', lines)
        root = self.machine(layouts.GRACE_HOPPER,
                            modules=('vfio_pci', 'nvgrace_gpu_vfio_pci'))
        text = 'cards:\n- model: GH200\n'
        lines = self.conf(root, text)
        self.assertIn('softdep nouveau pre: nvgrace_gpu_vfio_pci', lines)
        self.assertFalse([line for line in lines
                          if line.startswith('options vfio-pci')])
        self.assertIn('nvgrace_gpu_vfio_pci\n', self.contents(root, text)[
            '/etc/modules-load.d/gpu-host-prep.conf'])

    def test_own_files_are_understood(self):
        root = self.debian()
        job = self.work(root)
        job.apply(job.plan())
        config = modprobe.Config.of(root, job.host.machine)
        self.assertEqual(['vfio_pci'], config.before('xhci_pci'))
        self.assertIn('10de:1ada', config.options('vfio_pci', 'ids'))
        self.assertTrue(config.is_blacklisted('nvidia_drm'))


class TestInitramfs(WritersCase):

    def test_debian(self):
        root = self.debian()
        contents = self.contents(root)
        self.assertEqual(
            '# One in each line.\n# BEGIN gpu-host-prep\nvfio_pci\n'
            '# END gpu-host-prep\n', contents['/etc/initramfs-tools/modules'])
        self.assertIn('modprobe -q vfio_pci', contents[initramfs.INIT_TOP])
        modes = {file.path: file.mode for file in self.wanted(root).files}
        self.assertEqual(0o755, modes[initramfs.INIT_TOP])
        self.assertIn(('update-initramfs', '-u', '-k', 'all'),
                      self.wanted(root).commands([binding.RULES]))

    def test_running_udev_reads_its_rules_at_once(self):
        root = self.debian()
        root.program('udevadm')
        self.assertNotIn('udevadm', {command[0] for command in self.wanted(
            root).commands([binding.RULES])})
        root.put('/run/udev/control', '')
        self.assertEqual(('udevadm', 'control', '--reload'),
                         self.wanted(root).commands([binding.RULES])[0])

    def test_fedora(self):
        root = self.machine()
        root.program('dracut')
        text = self.contents(root)['/etc/dracut.conf.d/gpu-host-prep.conf']
        self.assertIn('force_drivers+=" vfio_pci vfio_iommu_type1 "', text)
        self.assertIn(binding.RULES, text)
        self.assertIn('omit_drivers+=" nvidiafb nouveau nvidia nvidia_drm "',
                      text)
        self.assertEqual((('dracut', '--force', '--regenerate-all'),),
                         self.wanted(root).commands([binding.RULES]))

    def test_none(self):
        root = self.machine()
        wanted = self.wanted(root)
        self.assertEqual((), wanted.commands([binding.RULES]))
        self.assertEqual(4, len(wanted.files))

    def test_state_decides(self):
        contents = self.contents(self.debian(),
                                 base.STATE + 'initramfs: none\n')
        self.assertNotIn(initramfs.INIT_TOP, contents)


class TestBootLoader(WritersCase):

    def test_grub_with_drop_ins(self):
        root = self.debian()
        self.assertIn(
            'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on '
            'iommu=pt"\n',
            self.contents(root)['/etc/default/grub.d/60-gpu-host-prep.cfg'])
        self.assertEqual((('update-grub',),), self.wanted(root).commands(
            ['/etc/default/grub.d/60-gpu-host-prep.cfg']))

    def test_grub_with_one_file(self):
        root = self.machine()
        root.put('/etc/default/grub', 'GRUB_CMDLINE_LINUX="quiet"\n'
                 'GRUB_ENABLE_BLSCFG=true')
        root.program('grub2-mkconfig')
        self.assertEqual(
            'GRUB_CMDLINE_LINUX="quiet"\nGRUB_ENABLE_BLSCFG=true\n'
            '# BEGIN gpu-host-prep\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX '
            'intel_iommu=on iommu=pt"\n# END gpu-host-prep\n',
            self.contents(root)['/etc/default/grub'])
        self.assertEqual(
            (('grub2-mkconfig', '--update-bls-cmdline', '-o',
              '/boot/grub2/grub.cfg'),),
            self.wanted(root).commands(['/etc/default/grub']))

    def test_grub_file_means_to_a_shell_what_it_should(self):
        root = self.machine()
        root.put('/etc/default/grub', 'GRUB_CMDLINE_LINUX="quiet"\n')
        text = self.contents(root)['/etc/default/grub']
        done = subprocess.run(
            ['sh', '-c', text + 'echo "$GRUB_CMDLINE_LINUX"'],
            stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual('quiet intel_iommu=on iommu=pt\n', done.stdout)

    def test_grub_on_a_host_with_a_line_for_later_kernels(self):
        root = self.debian()
        root.put('/etc/kernel/cmdline', 'root=UUID=1 ro\n')
        self.assertEqual('root=UUID=1 ro intel_iommu=on iommu=pt\n',
                         self.contents(root)['/etc/kernel/cmdline'])

    def test_systemd_boot(self):
        root = self.machine()
        root.put('/etc/default/grub', '')
        root.put(_LOADER_INFO,
                 b'\6\0\0\0' + 'systemd-boot 252'.encode('utf-16-le'))
        root.put(f'/boot/vmlinuz-{sysfs.KERNEL}', '')
        root.put('/etc/kernel/cmdline', 'root=UUID=1 ro iommu=soft\n')
        self.assertEqual(
            'root=UUID=1 ro intel_iommu=on iommu=pt\n',
            self.contents(root)['/etc/kernel/cmdline'])
        self.assertEqual(
            (('kernel-install', 'add', sysfs.KERNEL,
              f'/boot/vmlinuz-{sysfs.KERNEL}'),),
            self.wanted(root).commands(['/etc/kernel/cmdline']))

    def test_systemd_boot_without_a_command_line_file(self):
        root = self.machine(
            arguments='BOOT_IMAGE=/vmlinuz initrd=\\x root=UUID=1 ro')
        text = base.STATE + 'bootloader: systemd-boot\n'
        self.assertEqual(
            'root=UUID=1 ro intel_iommu=on iommu=pt\n',
            self.contents(root, text)['/etc/kernel/cmdline'])

    def test_huge_pages_and_isolated_cpus(self):
        root = self.debian()
        text = base.STATE + ('hugepages: {size: 1G, count: 8}\n'
                             'isolated_cpus: "2-7,10-15"\n')
        self.assertIn(
            'intel_iommu=on iommu=pt default_hugepagesz=1G hugepagesz=1G '
            'hugepages=8 isolcpus=2-7,10-15"', self.contents(root, text)[
                '/etc/default/grub.d/60-gpu-host-prep.cfg'])

    def test_arm_needs_no_argument(self):
        root = self.debian(layouts.GRACE_HOPPER)
        self.assertNotIn(
            '/etc/default/grub.d/60-gpu-host-prep.cfg',
            self.contents(root, 'cards:\n- model: GH200\n'))


class TestBinding(WritersCase):

    def test_a_rule_for_each_address_with_its_ids(self):
        rules = self.contents(self.machine(layouts.two_equal_cards()), KEEP)[
            binding.RULES]
        self.assertEqual(4, rules.count('ATTR{driver_override}="vfio-pci"'))
        self.assertIn('KERNEL=="0000:01:00.2", ATTR{vendor}=="0x10de", '
                      'ATTR{device}=="0x1ada"', rules)
        self.assertNotIn('0000:02:00', rules)

    def _run_script(self, root, path, *arguments):
        """Run a written script, with the paths of the made-up machine."""
        text = re.sub('/(sys|dev)/', rf'{root.base}/\1/',
                      self.contents(root)[path])
        text = text.replace('PATH=', f'PATH={root.base}/bin:')
        root.put('/dev/kmsg', '')
        root.put('/bin/modprobe', f'#!/bin/sh\necho "$@" >> {root.base}/log\n')
        os.chmod(root.path('/bin/modprobe'), 0o755)
        return subprocess.run(['sh', '-c', text, 'bind', *arguments],
                              stdout=subprocess.PIPE, text=True, check=True,
                              stderr=subprocess.STDOUT).stdout

    def test_script_reserves_takes_and_loads(self):
        root = self.debian()
        self.assertEqual('', self._run_script(root, binding.SCRIPT))
        self.assertEqual('vfio-pci', root.override('0000:01:00.3'))
        self.assertEqual('(null)', root.override('0000:00:14.0'))
        self.assertEqual('-q vfio_pci', root.attribute('/log'))
        # Without the driver nobody loses anything.
        self.assertEqual('', root.attribute(
            '/sys/bus/pci/drivers/nouveau/unbind'))
        root.put('/sys/bus/pci/drivers/vfio-pci/bind', '')
        self._run_script(root, binding.SCRIPT)
        self.assertEqual('0000:01:00.0', root.attribute(
            '/sys/bus/pci/drivers/nouveau/unbind'))
        self.assertEqual('0000:01:00.3', root.attribute(
            '/sys/bus/pci/drivers_probe'))

    def test_script_takes_one_address(self):
        root = self.debian()
        self._run_script(root, binding.SCRIPT, '0000:01:00.1')
        self.assertEqual('vfio-pci', root.override('0000:01:00.1'))
        self.assertEqual('(null)', root.override('0000:01:00.0'))

    def test_script_leaves_another_card_at_the_address_alone(self):
        root = self.debian()
        written = self.contents(root)[binding.SCRIPT]
        root.put('/sys/bus/pci/devices/0000:01:00.0/device', '0x2204\n')
        self.assertIn('0x10de 0x1f02', written)
        self.contents = lambda _root: {binding.SCRIPT: written}
        self._run_script(root, binding.SCRIPT)
        self.assertEqual('(null)', root.override('0000:01:00.0'))
        self.assertEqual('vfio-pci', root.override('0000:01:00.1'))
        self.assertIn('0000:01:00.0 is 0x10de:0x2204, not 0x10de:0x1f02',
                      root.attribute('/dev/kmsg'))

    def test_script_of_the_initramfs_tells_its_prerequisites(self):
        root = self.debian()
        self.assertEqual('\n', self._run_script(root, initramfs.INIT_TOP,
                                                'prereqs'))
        self.assertEqual('(null)', root.override('0000:01:00.0'))
        self._run_script(root, initramfs.INIT_TOP)
        self.assertEqual('vfio-pci', root.override('0000:01:00.0'))


class TestArguments(WritersCase):

    def test_sizes_of_pages(self):
        root = self.machine()
        for size, text in (('2M', '2M'), ('16G', '16G'), ('64K', '64K')):
            state = states.load(
                base.STATE + f'hugepages: {{size: {size}, count: 3}}\n', 'x')
            arguments = writers.bootloader.arguments(
                self.work(root).host.machine, state)
            self.assertIn(f'default_hugepagesz={text}', arguments)
