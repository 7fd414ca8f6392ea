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

import json

from gpu_host_prep import machine
from gpu_host_prep import root as roots
from gpu_host_prep.tests import base
from gpu_host_prep.tests.fakes import layouts
from gpu_host_prep.tests.fakes import sysfs


class TestLayouts(base.TestCase):

    def test_layouts_have_a_source_and_mark_what_is_made_up(self):
        self.assertGreaterEqual(len(layouts.ALL), 6)
        for layout in layouts.ALL:
            self.assertTrue(layout.source, layout.name)
            listed = [device for device in layout.devices if device.listed]
            self.assertTrue(listed, layout.name)
            for device in layout.devices:
                self.assertFalse(device.listed & device.reconstructed)
        card = layouts.RTX_2070.device('0000:01:00.0')
        self.assertIn('group', card.listed)
        self.assertEqual({'driver', 'bars', 'link', 'reset', 'parent',
                          'boot_vga', 'modules'}, card.reconstructed)

    def test_all_layouts_are_read_as_they_were_written(self):
        for layout in layouts.ALL:
            host = machine.read(self.machine(layout))
            self.assertEqual({device.address for device in layout.devices},
                             set(host.functions))
            for device in layout.devices:
                function = host.functions[device.address]
                self.assertEqual(device.id, function.id)
                self.assertEqual(device.name, function.name)
                self.assertEqual(device.driver, function.driver)
                self.assertEqual(
                    None if device.group is None else str(device.group),
                    function.iommu_group)
                self.assertEqual(device.bars, tuple(
                    (bar.size, bar.type) for bar in function.bars))
                if device.parent:
                    self.assertEqual(device.parent, function.bridges[-1])
                self.assertEqual(device.physfn, function.physical_function)


class TestRead(base.TestCase):

    def cards(self, layout):
        root = self.machine(layout)
        status, output, _errors = self.run_command(
            root, 'inspect', '-f', 'json')
        self.assertEqual(0, status)
        return json.loads(output)['cards'], root

    def test_card_has_all_its_functions(self):
        cards, _root = self.cards(layouts.RTX_2070)
        card = cards[1]
        self.assertEqual(
            ['graphics', 'audio', 'usb', 'ucsi'],
            [function['kind'] for function in card['functions']])
        self.assertEqual('TU106 [GeForce RTX 2070]', card['name'])
        self.assertEqual('rtx2070', card['alias'])
        self.assertTrue(card['consumer'])
        self.assertEqual('host', card['status'])
        self.assertEqual([], card['group_others'])
        self.assertEqual(['nvidiafb', 'nouveau'],
                         card['functions'][0]['modules'])
        self.assertEqual({'speed': '2.5 GT/s PCIe', 'width': '16',
                          'max_speed': '8.0 GT/s PCIe', 'max_width': '16'},
                         card['functions'][0]['link'])

    def test_display_and_boot_vga(self):
        cards, _root = self.cards(layouts.RTX_2070)
        self.assertTrue(cards[0]['boot_vga'])
        self.assertEqual(['card0-HDMI-A-1'], cards[0]['displays'])
        self.assertFalse(cards[1]['boot_vga'])
        self.assertEqual([], cards[1]['displays'])

    def test_management_controller_is_no_gpu(self):
        cards, _root = self.cards(layouts.TESLA_M60)
        self.assertEqual(['0000:3d:00.0', '0000:3e:00.0'],
                         [card['address'] for card in cards])
        self.assertIn('0000:3e:00.0', cards[0]['hints']['board'])

    def test_others_in_the_group(self):
        cards, _root = self.cards(layouts.shared_group())
        self.assertEqual(
            [('0000:00:17.0', 'storage', 'ahci')],
            [(each['address'], each['kind'], each['driver'])
             for each in cards[1]['group_others']])

    def test_nvswitches_mig_and_sriov_are_hinted_at(self):
        cards, root = self.cards(layouts.HGX_H200)
        self.assertEqual(8, len(cards))
        self.assertEqual(['mig', 'nvlink', 'sriov'],
                         sorted(cards[0]['hints']))
        self.assertEqual(4, len(machine.read(root).nvswitches))
        self.assertEqual([0] * 4 + [1] * 4,
                         [card['numa_node'] for card in cards])

    def test_virtual_function_is_a_card_of_its_own(self):
        cards, _root = self.cards(layouts.MI300X)
        self.assertEqual(['host', 'free'], [card['status'] for card in cards])
        self.assertIn('virtual function of 0000:85:00.0',
                      cards[1]['hints']['sriov'])

    def test_smmu_without_interrupt_chips_of_x86(self):
        root = self.machine(layouts.GRACE_HOPPER, remapping=False)
        found = machine.read_machine(root)
        self.assertEqual('smmu', found.iommu_kind)
        self.assertTrue(found.interrupt_remapping)

    def test_firmware_decides_on_the_kind_of_iommu(self):
        # QEMU's default CPU calls itself AMD, also with Intel's IOMMU.
        root = self.machine()
        root.put('/proc/cpuinfo', 'vendor_id\t: AuthenticAMD\n')
        self.assertEqual('intel', machine.read_machine(root).iommu_kind)

    def test_used_card_names_its_guest(self):
        root = self.machine(layouts.HGX_A100)
        root.use('0000:10:00.0', '/dev/vfio/60')
        _status, output, _errors = self.run_command(
            root, 'inspect', '-f', 'json')
        cards = json.loads(output)['cards']
        self.assertEqual('guest', cards[0]['status'])
        self.assertEqual(['qemu-system-x86 (4242)'], cards[0]['used_by'])
        self.assertEqual('free', cards[1]['status'])

    def test_card_that_is_not_whole(self):
        cards, _root = self.cards(layouts.QUADRO_P4000)
        self.assertEqual('mixed', cards[0]['status'])

    def test_card_without_driver(self):
        cards, _root = self.cards(
            layouts.GRACE_HOPPER.replacing('0009:01:00.0', driver=None))
        self.assertEqual('unbound', cards[0]['status'])

    def test_table_tells_the_same(self):
        root = self.machine()
        status, output, _errors = self.run_command(root, 'inspect')
        self.assertEqual(0, status)
        for text in ('0000:01:00.2', 'xhci_hcd', '16M 256M 32M 128 io',
                     'IOMMU group 1', 'in use by the host',
                     '2.5GT/s x16 (8.0GT/s x16)', 'boot VGA',
                     'display attached at card0-HDMI-A-1'):
            self.assertIn(text, output)

    def test_host_without_gpu(self):
        layout = sysfs.Layout('none', 'none', ())
        _status, output, _errors = self.run_command(
            self.machine(layout), 'inspect')
        self.assertIn('No GPU.', output)

    def test_without_pci_ids_there_are_numbers(self):
        root = self.machine()
        root.remove('/usr/share/misc/pci.ids')
        cards = machine.read(root).cards
        self.assertEqual('', cards[1].gpu.name)
        _status, output, _errors = self.run_command(root, 'inspect')
        self.assertIn('0000:01:00.0  10de:1f02 [10de:1f02]', output)

    def test_real_machine_can_be_read(self):
        # Whatever this one is: no guess about the format of its files.
        host = machine.read(roots.Root())
        self.assertTrue(host.machine.kernel)

    def test_modules_by_class_and_of_another_vendor(self):
        root = self.machine()
        root.put(f'/lib/modules/{sysfs.KERNEL}/modules.alias',
                 'alias pci:v*d*sv*sd*bc0Csc03i30* xhci-pci\n'
                 'alias pci:v000010DEd*sv*sd*bc03sc00i00* nouveau\n'
                 'alias pci:v00008086d*sv*sd*bc*sc*i* other\n'
                 'alias usb:v* another\n')
        functions = machine.read(root).functions
        self.assertEqual(('nouveau',), functions['0000:01:00.0'].modules)
        self.assertEqual(('xhci_pci',), functions['0000:01:00.2'].modules)
        self.assertEqual(('other', 'xhci_pci'),
                         functions['0000:00:14.0'].modules)

    def test_mounts_are_followed_down_to_the_disk(self):
        root = self.machine()
        root.put('/sys/class/block/dm-0/dm/name', 'vg-root\n')
        root.put('/sys/class/block/dm-0/slaves/sda3/size', '1')
        root.put('/proc/self/mounts', '/dev/mapper/vg-root / ext4 rw 0 0\n')
        root.put('/proc/swaps', 'Filename Type\n/dev/sda2 partition 1 0 -2\n')
        mounts = machine.read_machine(root).mounts
        self.assertEqual(('/',), mounts['sda3'])
        self.assertEqual(('swap',), mounts['sda2'])
