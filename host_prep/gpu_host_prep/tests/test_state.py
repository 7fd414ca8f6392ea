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

from gpu_host_prep import exceptions
from gpu_host_prep import selection as selections
from gpu_host_prep import state as states
from gpu_host_prep.tests import base
from gpu_host_prep.tests.fakes import layouts

WHOLE = '''\
version: 1
cards:
  - address: "0000:01:00.0"
    driver: vfio-pci
    functions: [graphics, audio]
  - id: "10de:1f02"
    except: ["0000:02:00.0"]
    count: 1
keep:
  - address: "0000:02:00.0"
kernel_arguments: [intel_iommu=on, iommu=pt]
modules: [vendor-reset]
blacklist: [nouveau]
hugepages: {size: 1G, count: 64}
isolated_cpus: "4-7,12-15"
unsafe_interrupts: false
boot_vga: pass
initramfs: dracut
bootloader: systemd-boot
accept:
  - code: acs-missing
    address: "0000:00:01.0"
    reason: all guests are ours
nova:
  default_duration: 4h
  disk: 200
  companion: ib
'''


class TestState(base.TestCase):

    def error(self, text):
        error = self.assertRaises(exceptions.BadInput, states.load, text,
                                  'state.yaml')
        self.assertEqual(exceptions.BAD_INPUT, error.status)
        return str(error)

    def test_all_keys(self):
        state = states.load(WHOLE, 'state.yaml')
        self.assertEqual(('graphics', 'audio'), state.cards[0].functions)
        self.assertEqual(('0000:02:00.0',), state.cards[1].exclude)
        self.assertEqual((1048576, 64), state.hugepages)
        self.assertEqual((4, 5, 6, 7, 12, 13, 14, 15), state.isolated_cpus)
        self.assertEqual(('vendor_reset',), state.modules)
        self.assertEqual('pass', state.boot_vga)
        self.assertEqual('4h', state.nova['default_duration'])
        self.assertEqual('acs-missing', state.accept[0].code)

    def test_smallest_state(self):
        state = states.load(base.STATE, 'state.yaml')
        self.assertIsNone(state.kernel_arguments)
        self.assertEqual('all', state.cards[0].functions)

    def test_errors_name_the_line_and_what_is_accepted(self):
        for text, line, words in (
                ('', '', ['the file is empty']),
                ('- a', ':1:', ['a list', 'a mapping is accepted']),
                ('cards: [', ':1', ['not YAML']),
                ('keep: []\n', ':1:', ['no "cards"']),
                ('cards: []\n', ':1:', ['no "cards"']),
                ('cards: 7\n', ':1:', ["'7'", 'a list of cards']),
                ('cards:\n', ':1:', ['empty', 'a list of cards']),
                ('cards:\n- model: x\nfoo: 1\n', ':3:',
                 ["'foo' is not a key", 'kernel_arguments']),
                ('cards:\n- model: x\ncards: []\n', ':3:', ['twice']),
                ('version: 2\ncards: []\n', ':1:', ["'2'", '1 is']),
                ('cards:\n- {}\n', ':2:', ['none']),
                ('cards:\n- model: x\n  id: "10de:1f02"\n', ':2:',
                 ['id and model']),
                ('cards:\n- address: "01:00.0"\n', ':2:',
                 ["'01:00.0'", '0000:01:00.0']),
                ('cards:\n- id: 10DE:1F02\n', ':2:', ['small letters']),
                ('cards:\n- model: [x]\n', ':2:', ['a part of a name']),
                ('cards:\n- model: x\n  functions: some\n', ':3:',
                 ['all or group']),
                ('cards:\n- model: x\n  functions: [vga]\n', ':3:',
                 ["'vga'", 'graphics or audio']),
                ('cards:\n- model: x\n  driver: nvidia\n', ':3:',
                 ['vfio-pci', 'pci-stub']),
                ('cards:\n- model: x\n  count: 0\n', ':3:', ['at least 1']),
                ('cards:\n- model: x\nkeep:\n- model: y\n  driver: vfio-pci\n',
                 ':5:', ["'driver' is not a key"]),
                ('cards:\n- model: x\nhugepages: {size: 3G, count: 1}\n',
                 ':3:', ["'3G'", '1G']),
                ('cards:\n- model: x\nhugepages: {size: 1G}\n', ':3:',
                 ['"count"']),
                ('cards:\n- model: x\nisolated_cpus: 7-4\n', ':3:',
                 ["'7-4'", '4-31,36-63']),
                ('cards:\n- model: x\nisolated_cpus: some\n', ':3:',
                 ["'some'"]),
                ('cards:\n- model: x\nkernel_arguments: ["a b"]\n', ':3:',
                 ["'a b'", 'without blanks']),
                ('cards:\n- model: x\nkernel_arguments: ["$(reboot)"]\n',
                 ':3:', ['without blanks']),
                ('cards:\n- model: x\nmodules: ["a/b"]\n', ':3:',
                 ['a name of a kernel module']),
                ('cards:\n- model: x\nunsafe_interrupts: maybe\n', ':3:',
                 ['true or false']),
                ('cards:\n- model: x\nboot_vga: yes\n', ':3:',
                 ['refuse or pass']),
                ('cards:\n- model: x\naccept:\n- code: acs-missing\n', ':4:',
                 ['"reason"']),
                ('cards:\n- model: x\nnova: {disk: much}\n', ':3:',
                 ['a number of GiB'])):
            message = self.error(text)
            self.assertIn(f'state.yaml{line}', message)
            for word in words:
                self.assertIn(word, message)

    def test_unknown_code_under_accept(self):
        error = self.assertRaises(
            exceptions.BadInput, self.work, self.machine(), base.STATE +
            'accept:\n- code: no-such-code\n  reason: none\n')
        self.assertIn("'no-such-code'", str(error))
        self.assertIn('firmware-iommu-off', str(error))

    def test_missing_file(self):
        status, _output, errors = self.run_command(
            self.machine(), 'assert', '/no/such/file')
        self.assertEqual(2, status)
        self.assertIn('/no/such/file cannot be read', errors)


class TestSelection(base.TestCase):

    def addresses(self, root, text):
        return list(self.selection(root, text).addresses)

    def error(self, text, layout=layouts.RTX_2070):
        return str(self.assertRaises(exceptions.BadInput, self.selection,
                                     self.machine(layout), text))

    def test_by_model_takes_all_functions(self):
        self.assertEqual(
            [f'0000:01:00.{number}' for number in range(4)],
            self.addresses(self.machine(), base.STATE))

    def test_by_address_of_any_function(self):
        self.assertEqual(4, len(self.addresses(
            self.machine(), 'cards:\n- address: "0000:01:00.2"\n')))

    def test_only_some_functions(self):
        self.assertEqual(
            ['0000:01:00.0', '0000:01:00.1'], self.addresses(
                self.machine(), base.STATE +
                '    functions: [graphics, audio]\n'))

    def test_one_of_two_equal_cards(self):
        root = self.machine(layouts.two_equal_cards())
        for text in ('cards:\n- address: "0000:02:00.0"\n',
                     'cards:\n- id: "10de:1f02"\n'
                     '  except: ["0000:01:00.0"]\n',
                     'cards:\n- id: "10de:1f02"\nkeep:\n'
                     '- address: "0000:01:00.0"\n'):
            self.assertEqual([f'0000:02:00.{number}' for number in range(4)],
                             self.addresses(root, text))

    def test_whole_group(self):
        self.assertIn('0000:00:17.0', self.addresses(
            self.machine(layouts.shared_group()),
            base.STATE + '    functions: group\n'))

    def test_grace_has_a_driver_of_its_own(self):
        text = 'cards:\n- model: GH200\n'
        root = self.machine(layouts.GRACE_HOPPER,
                            modules=('vfio_pci', 'nvgrace_gpu_vfio_pci'))
        self.assertEqual('nvgrace-gpu-vfio-pci',
                         self.selection(root, text).targets[0].driver)
        root = self.machine(layouts.GRACE_HOPPER)
        self.assertEqual('vfio-pci',
                         self.selection(root, text).targets[0].driver)

    def test_card_that_is_not_there(self):
        self.assertIn('state.yaml:2: this host has no card with model '
                      'RTX 3090; it has 0000:00:02.0 CoffeeLake',
                      self.error('cards:\n- model: RTX 3090\n'))

    def test_wrong_number_of_cards(self):
        self.assertIn('should be 2 cards, but 1 are there: 0000:01:00.0',
                      self.error(base.STATE + '    count: 2\n'))

    def test_all_cards_kept(self):
        self.assertIn('take it out of one of the two', self.error(
            base.STATE + 'keep:\n- id: "10de:1f02"\n'))

    def test_card_named_twice(self):
        self.assertIn('which another entry names already', self.error(
            base.STATE + '  - id: "10de:1f02"\n'))

    def test_select_does_not_change_the_host(self):
        root = self.machine()
        before = root.everything()
        selections.select(
            self.work(root).host,
            states.load(base.STATE, 'x'), 'x')
        self.assertEqual(before, root.everything())
