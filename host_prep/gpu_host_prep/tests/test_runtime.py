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

"""Every refusal, and what happens to drivers when nothing is refused."""

from gpu_host_prep import exceptions
from gpu_host_prep import guard
from gpu_host_prep.tests import base
from gpu_host_prep.tests.fakes import layouts
from gpu_host_prep.tests.fakes import sysfs
from gpu_host_prep import work

ADDRESSES = [f'0000:01:00.{number}' for number in range(4)]


class TestRefusals(base.TestCase):

    def refusals(self, root, text=base.STATE, now=True):
        plan = self.work(root, text).plan(now=now)
        if plan.refusals:
            error = self.assertRaises(exceptions.Refused, plan.check)
            self.assertEqual(exceptions.REFUSED, error.status)
        return plan.refusals

    def one(self, root, code, **options):
        found = [each for each in self.refusals(root, **options)
                 if each.code == code]
        self.assertEqual(1, len(found), found)
        self.assertTrue(str(found[0]).startswith(f'refused: {code}: 00'))
        return found[0].text

    def test_nothing_is_refused_on_a_plain_machine(self):
        self.assertEqual((), self.refusals(self.debian()))

    def test_group_shared_with_a_disk_controller(self):
        root = self.machine(layouts.shared_group())
        found = self.refusals(root)
        self.assertEqual({'group-shared'}, {each.code for each in found})
        self.assertIn('0000:00:17.0 (Cannon Lake PCH SATA AHCI Controller, '
                      'ahci)', found[0].text)
        # The files alone do not touch the disk: that is the next boot's
        # trouble, which "assert" tells.
        self.assertEqual((), self.refusals(root, now=False))

    def test_carries_disk_when_the_whole_group_is_taken(self):
        root = self.machine(layouts.shared_group())
        root.put('/proc/self/mounts', '/dev/sda1 / ext4 rw 0 0\n')
        text = base.STATE + '    functions: group\n'
        for now in (False, True):
            self.assertIn('sda is behind it, and used as /', self.one(
                root, 'carries-disk', text=text, now=now))
        root.put('/proc/self/mounts', '')
        self.assertIn('Remove the disk', self.one(root, 'carries-disk',
                                                  text=text))

    def test_carries_disk_on_the_usb_port_of_the_card(self):
        root = self.machine(layouts.RTX_2070.replacing(
            '0000:01:00.2', blocks=('sdb',)))
        self.one(root, 'carries-disk', now=False)

    def test_carries_disk_of_nvme(self):
        layout = layouts.RTX_2070.with_devices(sysfs.Device(
            '0000:03:00.0', '010802', '144d:a808', 'NVMe SSD Controller',
            group=1, driver='nvme', blocks=('nvme0n1',)))
        text = base.STATE + '    functions: group\n'
        root = self.machine(layout)
        root.put('/proc/self/mounts', '/dev/nvme0n1p1 /srv xfs rw 0 0\n')
        self.assertIn('nvme0n1 is behind it, and used as /srv',
                      self.one(root, 'carries-disk', text=text))
        # With several paths only the controller is in its directory.
        root.symlink('/sys/class/block/nvme0n1',
                     '/sys/devices/virtual/nvme-subsystem/nvme0n1')
        self.assertIn('nvme0 is behind it, and used as /srv',
                      self.one(root, 'carries-disk', text=text))

    def test_carries_network(self):
        layout = layouts.RTX_2070.replacing('0000:01:00.2',
                                            interfaces=('enx0',))
        root = self.machine(layout)
        self.assertIn('enx0', self.one(root, 'carries-network', now=False))
        root.put('/sys/class/net/enx0/flags', '0x1002\n')
        self.assertEqual((), self.refusals(root))
        root.symlink('/sys/class/net/enx0/master',
                     '/sys/devices/virtual/net/br0')
        self.one(root, 'carries-network')

    def test_shows_console(self):
        root = self.machine()
        root.put('/sys/bus/pci/devices/0000:01:00.0/graphics/fb0/dev', '')
        root.symlink('/sys/class/graphics/fb0',
                     '/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/'
                     'graphics/fb0')
        self.assertIn('console=ttyS0', self.one(root, 'shows-console',
                                                now=False))
        root.put('/proc/consoles', 'ttyS0 -W- (EC a) 4:64\n'
                 'tty0 -WU (E p) 4:1\n')
        self.assertEqual((), self.refusals(root))
        root.put('/proc/consoles', 'tty0 -WU (EC p) 4:1\n')
        self.assertEqual((), self.refusals(
            root, text=base.STATE + 'boot_vga: pass\n'))

    def test_boot_vga(self):
        root = self.machine(layouts.RTX_2070.replacing('0000:01:00.0',
                                                       boot_vga=True))
        self.assertIn('primary display', self.one(root, 'boot-vga',
                                                  now=False))
        self.assertEqual((), self.refusals(
            root, text=base.STATE + 'boot_vga: pass\n'))

    def test_used_by_process(self):
        root = self.machine(layouts.HGX_H200)
        root.put('/proc/driver/nvidia/gpus/0000:18:00.0/information',
                 'Model: \t\t NVIDIA H200\nDevice Minor: \t 5\n')
        root.use('0000:18:00.0', '/dev/nvidia5', name='python3')
        text = 'cards:\n- model: H200\n'
        self.assertIn('python3 (4242) has it open',
                      self.one(root, 'used-by-process', text=text))
        # A reboot ends the process anyway.
        self.assertEqual((), self.refusals(root, text=text, now=False))

    def test_used_by_process_that_draws_or_plays(self):
        root = self.machine()
        root.put('/sys/bus/pci/devices/0000:01:00.0/drm/card1/dev', '')
        root.put('/sys/bus/pci/devices/0000:01:00.1/sound/card1/pcmC1D3p/x',
                 '')
        root.use('0000:01:00.0', '/dev/dri/card1', 77, 'Xorg')
        root.use('0000:01:00.1', '/dev/snd/pcmC1D3p', 78, 'pipewire')
        self.assertEqual(
            [('0000:01:00.0', 'used-by-process'),
             ('0000:01:00.1', 'used-by-process')],
            [(each.address, each.code) for each in self.refusals(root)])

    def test_no_iommu_group(self):
        found = self.refusals(self.machine(iommu='missing'))
        self.assertEqual(4, len(found))
        self.assertEqual({'no-iommu-group'}, {each.code for each in found})

    def test_driver_missing(self):
        found = self.refusals(self.machine(modules=()))
        self.assertEqual({'driver-missing'}, {each.code for each in found})
        self.assertIn('linux-modules-extra', found[0].text)

    def test_used_by_guest(self):
        root = self.prepare(self.debian())
        root.use('0000:01:00.0', '/dev/vfio/1')
        restoration = work.Restoration.load(root)
        error = self.assertRaises(exceptions.Refused, restoration.check,
                                  False)
        self.assertIn('qemu-system-x86 (4242) has it', str(error))
        self.assertEqual({'used-by-guest'},
                         {each.code for each in error.refusals})

    def test_used_by_guest_with_another_vfio_driver(self):
        layout = layouts.GRACE_HOPPER.replacing('0009:01:00.0',
                                                driver='vfio-pci')
        root = self.machine(layout,
                            modules=('vfio_pci', 'nvgrace_gpu_vfio_pci'))
        root.use('0009:01:00.0', '/dev/vfio/20')
        self.assertIn('shelve the server first', self.one(
            root, 'used-by-guest', text='cards:\n- model: GH200\n'))

    def test_free_card_of_a_running_guest_is_left_alone(self):
        root = self.prepare(self.debian())
        root.use('0000:01:00.0', '/dev/vfio/1')
        self.assertEqual((), self.refusals(root))

    def test_every_code_is_tested(self):
        with open(__file__, encoding='utf-8') as stream:
            source = stream.read()
        for code in guard.CODES:
            self.assertIn(f"'{code}'", source)

    def test_command_changes_nothing_when_it_refuses(self):
        root = self.debian(layouts.shared_group())
        before = root.everything()
        status, _output, errors = self.run_command(
            root, 'apply', '--runtime', '--yes', self.state_file())
        self.assertEqual(3, status)
        self.assertIn('refused: group-shared', errors)
        self.assertEqual(before, root.everything())
        self.assertEqual('nouveau', root.driver('0000:01:00.0'))
        self.assertFalse(root.exists('/var/lib/gpu-host-prep'))


class TestRuntime(base.TestCase):

    def drivers(self, root):
        return [root.driver(address) for address in ADDRESSES]

    def apply(self, root, text=base.STATE, **options):
        job = self.work(root, text)
        job.apply(job.plan(now=True, **options))

    def restore(self, root):
        restoration = work.Restoration.load(root)
        restoration.check(False)
        restoration.restore()

    def test_every_function_is_bound_and_given_back(self):
        root = self.debian()
        before = self.drivers(root)
        self.apply(root)
        self.assertEqual(['vfio-pci'] * 4, self.drivers(root))
        self.assertIn(('modprobe', 'vfio-pci'), root.commands)
        self.restore(root)
        self.assertEqual(before, self.drivers(root))
        self.assertEqual('(null)', root.override('0000:01:00.2'))

    def test_host_keeps_its_own_devices_of_the_same_drivers(self):
        root = self.debian()
        self.apply(root)
        self.assertEqual('xhci_hcd', root.driver('0000:00:14.0'))
        self.assertEqual('snd_hda_intel', root.driver('0000:00:1f.3'))

    def test_second_card_of_the_same_id_stays(self):
        root = self.debian(layouts.two_equal_cards())
        self.apply(root, base.STATE + 'keep:\n- address: "0000:02:00.0"\n')
        self.assertEqual(['vfio-pci'] * 4, self.drivers(root))
        self.assertEqual('nouveau', root.driver('0000:02:00.0'))
        self.assertEqual('(null)', root.override('0000:02:00.0'))

    def test_no_files(self):
        root = self.debian()
        before = root.everything()
        self.apply(root, files=False)
        self.assertEqual(before, root.everything())
        self.assertEqual(['vfio-pci'] * 4, self.drivers(root))
        self.restore(root)
        self.assertEqual('nouveau', root.driver('0000:01:00.0'))

    def test_failure_gives_all_back(self):
        root = self.debian()
        before = self.drivers(root)
        root.failing.add(('driver_override', 'vfio-pci'))
        self.assertRaises(exceptions.HostPrepError, self.apply, root)
        root.failing.clear()
        # The last to be bound does not come.
        job = self.work(root)
        plan = job.plan(now=True)
        original = root.tell

        def tell(name, text):
            if name.endswith('drivers_probe') and \
                    text == '0000:01:00.0' and \
                    root.override(text) == 'vfio-pci':
                return
            original(name, text)
        root.tell = tell
        root.failing.add(('bind', '0000:01:00.0'))
        error = self.assertRaises(exceptions.HostPrepError, job.apply, plan)
        self.assertIn('0000:01:00.0', str(error))
        self.assertIn('were given back', str(error))
        self.assertEqual(before, self.drivers(root))

    def test_driver_that_does_not_take_its_function_back(self):
        root = self.debian()
        self.apply(root)
        root.failing.update(
            {'0000:01:00.2', ('bind', '0000:01:00.2')})
        error = self.assertRaises(exceptions.HostPrepError, self.restore,
                                  root)
        self.assertIn('0000:01:00.2', str(error))
        self.assertIn('the next boot gives', str(error))
        self.assertEqual('nouveau', root.driver('0000:01:00.0'))
        self.assertFalse(root.exists('/etc/modprobe.d/gpu-host-prep.conf'))
        # Tried again later, only what is left is done.
        root.failing.clear()
        restoration = work.Restoration.load(root)
        self.assertEqual(['0000:01:00.2'], [
            move.function.address for move in restoration.moves])
        restoration.restore()
        self.assertEqual('xhci_hcd', root.driver('0000:01:00.2'))
        self.assertFalse(work.Restoration.load(root).is_needed)

    def test_module_of_the_old_driver_is_loaded_for_it(self):
        root = self.debian()
        self.apply(root)
        for name in ('bind', 'unbind'):
            root.remove(f'/sys/bus/pci/drivers/nvidia-gpu/{name}')
        root.remove_folder('/sys/bus/pci/drivers/nvidia-gpu')
        original = root.run

        def run(*command):
            original(*command)
            if command == ('modprobe', 'i2c_nvidia_gpu'):
                root.put('/sys/bus/pci/drivers/nvidia-gpu/bind', '')
                root.put('/sys/bus/pci/drivers/nvidia-gpu/unbind', '')
        root.run = run
        self.restore(root)
        self.assertEqual('nvidia-gpu', root.driver('0000:01:00.3'))

    def test_card_that_is_no_longer_wanted_goes_back(self):
        root = self.debian(layouts.two_equal_cards())
        first = 'cards:\n- address: "0000:01:00.0"\n'
        second = 'cards:\n- address: "0000:02:00.0"\n'
        self.apply(root, first)
        plan = self.work(root, second).plan(now=True)
        self.assertIn('0000:01:00.2: vfio-pci -> xhci_hcd', plan.text())
        self.apply(root, second)
        self.assertEqual('xhci_hcd', root.driver('0000:01:00.2'))
        self.assertEqual('vfio-pci', root.driver('0000:02:00.2'))
        self.assertFalse(self.work(root, second).plan(now=True).is_needed)
        # A guest is not asked to give it back.
        self.apply(root, first)
        root.use('0000:01:00.0', '/dev/vfio/1')
        plan = self.work(root, second).plan(now=True)
        self.assertIn('used-by-guest', {each.code for each in plan.refusals})

    def test_bound_already(self):
        root = self.debian()
        self.apply(root)
        plan = self.work(root).plan(now=True)
        self.assertFalse(plan.is_needed)
