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

"""Every deviation: what makes it come, and that it goes.

``TestEveryCode`` has one machine for each code; without it a new code fails.
"""

import gzip
import json
import lzma
import os

from gpu_host_prep import checks
from gpu_host_prep.tests import base
from gpu_host_prep.tests.fakes import layouts
from gpu_host_prep.tests.fakes import sysfs

_DEP = f'/lib/modules/{sysfs.KERNEL}/modules.dep'
_SECURE_BOOT = ('/sys/firmware/efi/efivars/SecureBoot-'
                '8be4df61-93ca-11d2-aa0d-00e098032b8c')


class CheckCase(base.TestCase):

    def deviations(self, root, text=base.STATE):
        return self.work(root, text).deviations()[0]

    def texts(self, root, code, text=base.STATE):
        return [str(each) for each in self.deviations(root, text)
                if each.code == code]

    def one(self, root, code, text=base.STATE):
        found = self.texts(root, code, text)
        self.assertEqual(1, len(found), found)
        return found[0]

    def good(self, layout=layouts.RTX_2070, text=base.STATE, **options):
        """A machine without any deviation."""
        root = self.prepare(self.debian(layout, **options), text)
        self.assertEqual([], [str(each)
                              for each in self.deviations(root, text)])
        return root


class TestPlatform(CheckCase):

    def test_firmware_iommu_off(self):
        text = self.one(self.machine(iommu='missing'), 'firmware-iommu-off')
        self.assertIn('no DMAR, IVRS or IORT table', text)
        self.assertIn('VT-d', text)
        text = self.one(self.machine(layouts.MI300X, iommu='missing'),
                        'firmware-iommu-off', 'cards:\n- id: "1002:74b5"\n')
        self.assertIn('AMD-Vi', text)
        text = self.one(self.machine(layouts.GRACE_HOPPER, iommu='missing'),
                        'firmware-iommu-off', 'cards:\n- model: GH200\n')
        self.assertIn('SMMU', text)

    def test_iommu_inactive(self):
        root = self.machine(iommu='off', arguments='intel_iommu=on iommu=pt')
        self.assertIn('the table DMAR', self.one(root, 'iommu-inactive'))
        # Without the argument that is the reason, and the only one told.
        root = self.machine(iommu='off')
        self.assertEqual([], self.texts(root, 'iommu-inactive'))
        self.assertEqual(2, len(self.texts(root, 'kernel-argument-missing')))

    def test_kernel_argument_missing(self):
        root = self.machine(arguments='iommu=pt')
        text = self.one(root, 'kernel-argument-missing')
        self.assertIn('without intel_iommu=on', text)
        self.assertIn('VT-d stays off', text)

    def test_kernel_argument_with_more_in_it(self):
        root = self.machine(arguments='iommu=pt intel_iommu=on,sm_on')
        self.assertEqual([], self.texts(root, 'kernel-argument-missing'))

    def test_kernel_arguments_of_amd_and_arm(self):
        text = self.one(self.machine(layouts.MI300X),
                        'kernel-argument-missing',
                        'cards:\n- id: "1002:74b5"\n')
        self.assertIn('without iommu=pt', text)
        self.assertEqual([], self.texts(
            self.machine(layouts.GRACE_HOPPER), 'kernel-argument-missing',
            'cards:\n- model: GH200\n'))

    def test_kernel_argument_of_the_state(self):
        state = base.STATE + 'kernel_arguments: [pci=realloc]\n'
        self.assertIn('the state file asks for it', self.one(
            self.machine(), 'kernel-argument-missing', state))

    def test_reboot_pending_for_arguments(self):
        root = self.machine()
        root.put('/etc/default/grub', '#GRUB_CMDLINE_LINUX="iommu=pt"\n'
                 'GRUB_CMDLINE_LINUX="intel_iommu=on"\n')
        self.assertIn('intel_iommu=on is in the boot loader',
                      self.one(root, 'reboot-pending'))
        self.assertIn('iommu=pt', self.one(root, 'kernel-argument-missing'))

    def test_reboot_pending_for_systemd_boot(self):
        root = self.machine()
        root.put('/etc/kernel/cmdline', 'root=x intel_iommu=on iommu=pt\n')
        self.assertIn('intel_iommu=on iommu=pt is in',
                      self.one(root, 'reboot-pending'))

    def test_reboot_pending_for_a_new_kernel(self):
        root = self.good()
        root.put('/run/reboot-required.pkgs', 'linux-image-6.2\nbash\n')
        self.assertIn('linux-image-6.2 was updated',
                      self.one(root, 'reboot-pending'))

    def test_reboot_pending_for_written_files(self):
        root = self.debian(arguments='intel_iommu=on iommu=pt')
        job = self.work(root)
        job.apply(job.plan())
        self.assertIn('was written after the host was started',
                      self.one(root, 'reboot-pending'))
        # Not when the host was started since: then it is another trouble.
        root.put('/proc/stat', 'btime 99999999999\n')
        self.assertEqual([], self.texts(root, 'reboot-pending'))

    def test_kernel_argument_conflict(self):
        for argument in ('iommu=off', 'intel_iommu=off', 'intremap=off'):
            root = self.machine(arguments=f'iommu=pt {argument}')
            self.assertIn(argument,
                          self.one(root, 'kernel-argument-conflict'))

    def test_acs_override(self):
        root = self.machine(arguments='pcie_acs_override=downstream')
        self.assertIn('may read and write what belongs to another',
                      self.one(root, 'acs-override'))

    def test_interrupt_remapping_off(self):
        root = self.machine(remapping=False)
        text = self.one(root, 'interrupt-remapping-off')
        self.assertIn('No interrupt remapping', text)
        self.assertIn('unsafe_interrupts: true', text)
        allowed = base.STATE + 'unsafe_interrupts: true\n'
        self.assertIn('reboot for the option', self.one(
            root, 'interrupt-remapping-off', allowed))
        root.put('/sys/module/vfio_iommu_type1/parameters/'
                 'allow_unsafe_interrupts', 'Y\n')
        self.assertEqual([], self.texts(root, 'interrupt-remapping-off',
                                        allowed))

    def test_unsafe_interrupts(self):
        root = self.machine()
        root.put('/sys/module/vfio_iommu_type1/parameters/'
                 'allow_unsafe_interrupts', 'Y\n')
        self.assertIn('although this machine could prevent it',
                      self.one(root, 'unsafe-interrupts'))
        self.assertEqual([], self.texts(
            root, 'unsafe-interrupts',
            base.STATE + 'unsafe_interrupts: true\n'))

    def test_module_missing(self):
        root = self.machine(modules=())
        self.assertIn('has no module vfio_pci',
                      self.one(root, 'module-missing'))
        root.put(f'/lib/modules/{sysfs.KERNEL}/modules.builtin',
                 'kernel/drivers/vfio/pci/vfio-pci.ko\n')
        self.assertEqual([], self.texts(root, 'module-missing'))

    def test_module_not_loaded(self):
        state = base.STATE + 'modules: [vendor-reset]\n'
        root = self.machine(modules=('vfio_pci', 'vendor_reset'))
        self.assertIn('the module vendor_reset is not loaded',
                      self.one(root, 'module-not-loaded', state))
        root.put(f'/lib/modules/{sysfs.KERNEL}/modules.builtin',
                 'kernel/x/vendor-reset.ko\n')
        self.assertEqual([], self.texts(root, 'module-not-loaded', state))
        # vfio-pci itself is loaded when it is needed.
        self.assertEqual([], self.texts(root, 'module-not-loaded'))

    def test_secure_boot_lockdown(self):
        root = self.machine()
        root.put(_DEP, 'kernel/vfio-pci.ko.xz: kernel/vfio.ko.xz\n')
        path = f'/lib/modules/{sysfs.KERNEL}/kernel/vfio-pci.ko.xz'
        root.put(path, lzma.compress(b'code'))
        self.assertEqual([], self.texts(root, 'secure-boot-lockdown'))
        root.put(_SECURE_BOOT, b'\6\0\0\0\1')
        root.put('/sys/kernel/security/lockdown',
                 'none [integrity] confidentiality\n')
        self.assertIn('vfio_pci has no signature, and the kernel is locked '
                      'down (Secure Boot on, lockdown integrity)',
                      self.one(root, 'secure-boot-lockdown'))
        root.put(path, lzma.compress(
            b'code~Module signature appended~\n'))
        self.assertEqual([], self.texts(root, 'secure-boot-lockdown'))
        # Others are compressed otherwise, or not at all.
        for name, content in (('.ko', b'code'),
                              ('.ko.gz', gzip.compress(b'code'))):
            root.put(_DEP, f'kernel/vfio-pci{name}:\n')
            root.put(path.removesuffix('.ko.xz') + name, content)
            self.one(root, 'secure-boot-lockdown')
        root.put(_DEP, 'kernel/vfio-pci.ko.zst:\n')
        root.put(path.removesuffix('.ko.xz') + '.ko.zst', b'code')
        self.assertEqual([], self.texts(root, 'secure-boot-lockdown'))
        # What cannot be read is not accused.
        root.put(_DEP, 'kernel/vfio-pci.ko.xz:\n')
        root.put(path, b'not xz')
        self.assertEqual([], self.texts(root, 'secure-boot-lockdown'))

    def test_hugepages_missing(self):
        state = base.STATE + 'hugepages: {size: 1G, count: 8}\n'
        root = self.machine()
        self.assertIn('0 huge pages of 1048576 KiB are there (node 0: 0); 8 '
                      'should be', self.one(root, 'hugepages-missing', state))
        root.put('/sys/devices/system/node/node0/hugepages/'
                 'hugepages-1048576kB/nr_hugepages', '8\n')
        self.assertEqual([], self.texts(root, 'hugepages-missing', state))

    def test_cpus_not_isolated(self):
        state = base.STATE + 'isolated_cpus: "2-7"\n'
        root = self.machine()
        root.put('/sys/devices/system/cpu/isolated', '2-5\n')
        self.assertIn('CPUs 6-7 are not isolated',
                      self.one(root, 'cpus-not-isolated', state))


class TestDevices(CheckCase):

    def test_every_kind_of_function_left_to_the_host(self):
        root = self.machine()
        for code, driver in (('driver-graphics', 'nouveau'),
                             ('driver-audio', 'snd_hda_intel'),
                             ('driver-usb', 'xhci_hcd'),
                             ('driver-ucsi', 'nvidia-gpu')):
            self.assertIn(f'bound to {driver}', self.one(root, code))
        self.assertIn("the host's own USB needs it",
                      self.one(root, 'driver-usb'))

    def test_driver_graphics_of_nvidia(self):
        found = self.texts(self.machine(layouts.HGX_H200), 'driver-graphics',
                           'cards:\n- model: H200\n')
        self.assertEqual(8, len(found))
        self.assertIn('bound to nvidia,', found[0])

    def test_one_function_left(self):
        # Seen on the published listing of the Quadro, but for the driver.
        text = self.one(self.machine(layouts.QUADRO_P4000), 'driver-audio',
                        'cards:\n- model: P4000\n')
        self.assertIn('0000:3b:00.1: the audio function is bound to '
                      'snd_hda_intel', text)

    def test_driver_other(self):
        root = self.machine(layouts.shared_group())
        self.assertIn('0000:00:17.0: the storage function is bound to ahci',
                      self.one(root, 'driver-other',
                               base.STATE + '    functions: group\n'))

    def test_driver_none(self):
        layout = layouts.RTX_2070.replacing('0000:01:00.3', driver=None)
        self.assertIn('has no driver', self.one(self.machine(layout),
                                                'driver-none'))

    def test_driver_variant(self):
        layout = layouts.GRACE_HOPPER.replacing('0009:01:00.0',
                                                driver='vfio-pci')
        root = self.machine(layout,
                            modules=('vfio_pci', 'nvgrace_gpu_vfio_pci'))
        self.assertIn('bound to vfio-pci, should be nvgrace-gpu-vfio-pci',
                      self.one(root, 'driver-variant',
                               'cards:\n- model: GH200\n'))

    def test_group_not_isolated_names_the_others(self):
        root = self.machine(layouts.shared_group())
        text = self.one(root, 'group-not-isolated')
        self.assertIn('IOMMU group 1 also has 0000:00:17.0 (Cannon Lake PCH '
                      'SATA AHCI Controller, ahci)', text)
        self.assertEqual([], self.texts(
            root, 'group-not-isolated',
            base.STATE + '    functions: group\n'))

    def test_group_not_isolated_from_functions_of_the_card_itself(self):
        state = base.STATE + '    functions: [graphics, usb, ucsi]\n'
        text = self.one(self.machine(), 'group-not-isolated', state)
        self.assertIn('0000:01:00.1 (TU106 High Definition Audio Controller, '
                      'snd_hda_intel)', text)
        self.assertNotIn('0000:01:00.2', text)

    def test_acs_missing_names_the_bridge(self):
        root = self.machine(layouts.shared_group())
        self.assertIn('the bridge 0000:00:01.0', self.one(root,
                                                          'acs-missing'))
        # Whoever is not root cannot read that, and is told nothing wrong.
        root = self.machine(layouts.shared_group().replacing(
            '0000:00:01.0', acs=None))
        self.assertEqual([], self.texts(root, 'acs-missing'))
        root = self.machine(layouts.shared_group().replacing(
            '0000:00:01.0', acs=True))
        self.assertEqual([], self.texts(root, 'acs-missing'))

    def test_no_iommu_group(self):
        layout = layouts.RTX_2070.replacing('0000:01:00.0', group=None)
        self.assertIn('in no IOMMU group', self.one(self.machine(layout),
                                                    'no-iommu-group'))

    def test_reset_missing(self):
        # All on the bus are ours: VFIO resets the bus.
        self.assertEqual([], self.texts(self.machine(), 'reset-missing'))
        text = base.STATE + '    functions: [graphics]\n'
        self.assertEqual(4, len(self.texts(self.machine(), 'reset-missing',
                                           text)))
        # Without a port above there is nothing to reset the bus with.
        layout = layouts.RTX_2070.replacing('0000:01:00.0', parent=None)
        self.assertIn('0000:01:00.0: the kernel knows no way to reset it',
                      self.one(self.machine(layout), 'reset-missing'))

    def test_reset_of_old_kernels_is_not_told(self):
        layout = layouts.RTX_2070.replacing('0000:01:00.0', parent=None,
                                            reset=None)
        root = self.machine(layout)
        self.one(root, 'reset-missing')
        root.put('/sys/bus/pci/devices/0000:01:00.0/reset', '')
        self.assertEqual([], self.texts(root, 'reset-missing'))

    def test_reset_quirk(self):
        layout = layouts.RTX_2070.replacing(
            '0000:01:00.0', id='1002:731f',
            name='Navi 10 [Radeon RX 5600 OEM/5600 XT / 5700/5700 XT]')
        state = 'cards:\n- model: RX 5600\n'
        root = self.machine(layout)
        self.assertIn('vendor_reset is not loaded',
                      self.one(root, 'reset-quirk', state))
        root.put('/proc/modules', 'vendor_reset 1 0 - Live 0x0\n')
        self.assertEqual([], self.texts(root, 'reset-quirk', state))


class TestConfiguration(CheckCase):

    def test_prepared_host_has_no_deviation(self):
        self.good()

    def test_not_persistent(self):
        root = self.good()
        root.remove('/etc/udev/rules.d/40-gpu-host-prep.rules')
        root.remove('/etc/modprobe.d/gpu-host-prep.conf')
        self.assertEqual(4, len(self.texts(root, 'not-persistent')))
        # Ids on the kernel's command line do as well, and so does driverctl.
        root.put('/proc/cmdline', 'intel_iommu=on iommu=pt '
                 'vfio-pci.ids=10de:1f02,10de:10f9,10de:1ada\n')
        self.assertIn('0000:01:00.3', self.one(root, 'not-persistent'))
        root.put('/etc/driverctl.d/0000:01:00.3', 'vfio-pci\n')
        self.assertEqual([], self.texts(root, 'not-persistent'))

    def test_module_order(self):
        root = self.good()
        root.put('/etc/modprobe.d/gpu-host-prep.conf',
                 'softdep snd_hda_intel pre: vfio-pci post: x\n'
                 'softdep xhci_pci post: vfio-pci\n'
                 'blacklist i2c_nvidia_gpu\ninstall nvidiafb /bin/false\n'
                 'softdep nouveau pre: \\\n  vfio_pci\n')
        self.assertIn('before xhci_pci', self.one(root, 'module-order'))

    def test_module_order_of_initramfs_tools(self):
        root = self.good()
        root.put('/etc/initramfs-tools/modules', 'nouveau\nvfio_pci\n')
        self.assertIn('/etc/initramfs-tools/modules has nouveau before '
                      'vfio_pci', self.one(root, 'module-order'))

    def test_blacklist_missing(self):
        root = self.good()
        self.assertIn('ast is not blacklisted', self.one(
            root, 'blacklist-missing', base.STATE + 'blacklist: [ast]\n'))

    def test_driver_blacklisted(self):
        root = self.good()
        root.put('/usr/lib/modprobe.d/no.conf', 'blacklist vfio-pci\n')
        self.assertIn('in /usr/lib/modprobe.d/no.conf', self.one(
            root, 'driver-blacklisted'))
        # A file of the same name in /etc hides it.
        root.put('/etc/modprobe.d/no.conf', '# nothing\n')
        self.assertEqual([], self.texts(root, 'driver-blacklisted'))

    def test_initramfs_outdated(self):
        root = self.good()
        image = f'/boot/initrd.img-{sysfs.KERNEL}'
        made = root.modified(image)
        path = root.path('/etc/modprobe.d/gpu-host-prep.conf')
        os.utime(path, (made + 5, made + 5))
        text = self.one(root, 'initramfs-outdated')
        self.assertIn(f'{image} is older than '
                      '/etc/modprobe.d/gpu-host-prep.conf', text)
        self.assertIn('update-initramfs -u -k all', text)

    def test_initramfs_of_dracut(self):
        root = self.machine()
        root.program('dracut')
        root.put(f'/boot/initramfs-{sysfs.KERNEL}.img', 'x', modified=100)
        root.put('/etc/dracut.conf.d/a.conf', '')
        text = self.one(root, 'initramfs-outdated')
        self.assertIn('/etc/dracut.conf.d/a.conf', text)
        self.assertIn('dracut --force', text)


class TestEveryCode(CheckCase):

    def test_every_code_is_tested(self):
        with open(__file__, encoding='utf-8') as stream:
            source = stream.read().partition('class TestEveryCode')[0]
        for code in checks.codes():
            self.assertIn(f"'{code}'", source)

    def test_every_deviation_says_what_why_and_how_and_fits_a_line(self):
        root = self.machine(layouts.shared_group(), remapping=False,
                            modules=(), arguments='iommu=off')
        found = self.deviations(root)
        self.assertGreater(len(found), 8)
        for deviation in found:
            for text in (deviation.what, deviation.why, deviation.fix):
                self.assertTrue(text.endswith('.'), text)
            self.assertNotIn('\n', str(deviation))
            self.assertIn(deviation.code, checks.codes())

    def test_accepted_deviation_is_not_one(self):
        state = base.STATE + (
            'accept:\n- code: group-not-isolated\n'
            '  address: "0000:01:00.0"\n  reason: tested\n')
        root = self.machine(layouts.shared_group())
        found, accepted = self.work(root, state).deviations()
        self.assertNotIn('group-not-isolated',
                         [each.code for each in found])
        self.assertEqual([('group-not-isolated', 'tested')],
                         [(each.code, reason) for each, reason in accepted])
        elsewhere = state.replace('"0000:01:00.0"', '"0000:02:00.0"')
        self.one(root, 'group-not-isolated', elsewhere)


class TestCommand(CheckCase):

    def test_status_is_zero_on_a_good_host(self):
        root = self.good()
        status, output, errors = self.run_command(
            root, 'assert', '-f', self.state_file())
        self.assertEqual((0, ''), (status, output))
        self.assertIn('as it should be', errors)

    def test_one_line_for_each_deviation(self):
        root = self.machine()
        status, output, _errors = self.run_command(
            root, 'assert', self.state_file())
        self.assertEqual(1, status)
        self.assertEqual(len(self.deviations(root)),
                         len(output.splitlines()))

    def test_json(self):
        status, output, _errors = self.run_command(
            self.machine(), 'assert', '--format', 'json', self.state_file())
        self.assertEqual(1, status)
        self.assertEqual({'code', 'address', 'what', 'why', 'fix'},
                         set(json.loads(output)[0]))

    def test_accepted_is_told_beside(self):
        state = base.STATE + (
            'accept:\n- code: kernel-argument-missing\n  reason: old\n')
        _status, output, errors = self.run_command(
            self.machine(), 'assert', self.state_file(state))
        self.assertNotIn('kernel-argument-missing', output)
        self.assertIn('accepted: kernel-argument-missing: old', errors)
