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


"""Cards taken and given back without a reboot, and what is wrong with a host.

One guest serves all tests; each leaves it as it was.
"""

import json
import re

from tests.host import base

CMDLINE = 'quiet console=ttyS0 intel_iommu=on iommu=pt'
STATE = '''
    cards:
      - address: "%s"
    '''


class RuntimeTest(base.HostTestCase):
    """On a machine with an Intel IOMMU."""

    def setUp(self):
        super().setUp()
        self.share({'cmdline': CMDLINE})
        self.stand_in()
        self.state(STATE % base.CARD)
        # What was bound by hand is nothing that the tool would give back.
        self.addCleanup(
            self.guest.run, 'rm -f /run/update-initramfs.calls; '
            'cd /sys/bus/pci/devices; for f in 0000:01:00.*; do '
            'echo > $f/driver_override; case $(readlink $f/driver) in '
            '*vfio*) echo $f > $f/driver/unbind; '
            'echo $f > /sys/bus/pci/drivers_probe;; esac; done')
        self.addCleanup(self.guest.tool, 'restore --yes')

    def bind(self, address, driver):
        """Give a function to a driver by hand."""
        self.guest.run(
            'modprobe -q vfio-pci; cd /sys/bus/pci/devices/{0}; '
            'echo {1} > driver_override; echo {0} > driver/unbind; '
            'echo {0} > /sys/bus/pci/drivers_probe'.format(address, driver))

    def cards(self):
        report = json.loads(self.tool('inspect -f json').output)
        return report['host'], {
            card['address']: card for card in report['cards']}

    def test_inspect(self):
        host, cards = self.cards()
        self.assertEqual('intel', host['iommu']['kind'])
        self.assertEqual('DMAR', host['iommu']['firmware_table'])
        self.assertTrue(host['iommu']['active'])
        self.assertTrue(host['iommu']['interrupt_remapping'])
        self.assertEqual({base.CARD, base.SCREEN, base.SHARED}, set(cards))
        self.assertEqual({'1234:1111'},
                         {card['id'] for card in cards.values()})
        card = cards[base.CARD]
        self.assertEqual('host', card['status'])
        self.assertEqual(base.CARD_FUNCTIONS, {
            each['address']: each['driver'] for each in card['functions']})
        self.assertEqual(['graphics', 'audio', 'usb'], [
            each['kind'] for each in card['functions']])
        self.assertEqual({self.group(base.CARD)}, {
            each['iommu_group'] for each in card['functions']})
        self.assertEqual([], card['group_others'])
        # 16 MiB of video memory and a page of registers, as QEMU has them.
        self.assertEqual([16777216, 4096], [
            bar['bytes'] for bar in card['functions'][0]['bars']])
        self.assertEqual([base.DISK_CONTROLLER], [
            each['address'] for each in cards[base.SHARED]['group_others']])
        self.assertTrue(cards[base.SCREEN]['boot_vga'])
        self.assertFalse(card['boot_vga'])
        table = self.tool('inspect').output
        for text in ('0000:01:00.2', 'xhci_hcd', '82801FB', 'boot VGA',
                     'also in its IOMMU group: 0000:04:02.0', 'in use by'):
            self.assertIn(text, table)

    def test_runtime(self):
        self.tool('apply --runtime --yes')
        self.assertHeld()
        self.assertEqual('-u -k all\n', self.guest.run(
            'cat /run/update-initramfs.calls').output)
        self.assertEqual([], self.deviations())
        self.assertIn('as it should be', self.tool('assert').errors)
        _, cards = self.cards()
        self.assertEqual('free', cards[base.CARD]['status'])
        # A second time there is nothing to do.
        self.assertEqual('Nothing to do.\n', self.tool(
            'apply --runtime --yes').output)
        self.assertEqual('Nothing to do.\n', self.tool(
            'plan --runtime').output)
        self.tool('restore --yes')
        self.assertGivenBack()
        self.assertEqual('', self.guest.run(
            'find /etc -name "*gpu-host-prep*" -not -path %s\\*'
            % base.STATE.rpartition('/')[0]).output)
        self.assertEqual('Nothing to put back.\n', self.tool(
            'restore --yes').output)

    def test_runtime_without_files(self):
        self.tool('apply --runtime --no-files --yes')
        self.assertHeld()
        self.assertIn(('not-persistent', base.CARD), self.deviations())

    def test_sibling_left(self):
        self.bind(base.CARD, 'vfio-pci')
        self.bind('0000:01:00.2', 'vfio-pci')
        found = self.deviations()
        self.assertIn(('driver-audio', '0000:01:00.1'), found)
        self.assertNotIn(('driver-graphics', base.CARD), found)
        self.assertRegex(
            self.tool('assert', 1).output,
            'driver-audio: 0000:01:00.1: the audio function is bound to '
            'snd_hda_intel')
        _, cards = self.cards()
        self.assertEqual('mixed', cards[base.CARD]['status'])
        # The kernel itself does not give such a group to anybody.
        self.assertIn('not viable', self.viable())
        self.tool('apply --runtime --yes')
        self.assertHeld()
        self.assertEqual('viable\n', self.viable())

    def viable(self):
        """Ask VFIO whether the group of CARD could be given to a guest."""
        return self.guest.run('python3 -', given=VIABLE % self.group(
            base.CARD)).output

    def test_drivers_of_the_host(self):
        found = self.deviations()
        for code, address in (('driver-graphics', base.CARD),
                              ('driver-audio', '0000:01:00.1'),
                              ('driver-usb', '0000:01:00.2')):
            self.assertIn((code, address), found)
        self.assertNotIn('no-iommu-group', {code for code, _ in found})

    def test_two_cards_of_one_id(self):
        # By id, but for one that the host keeps and one it cannot take.
        self.state('''
            cards:
              - id: "1234:1111"
                except: ["%s"]
            keep:
              - address: "%s"
            ''' % (base.SHARED, base.SCREEN))
        self.tool('apply --runtime --yes')
        self.assertHeld()
        written = self.guest.run(
            'cat /etc/modprobe.d/gpu-host-prep.conf').output
        # By these ids the host would lose its own at the next boot.
        self.assertNotIn('1234:1111', written)
        self.assertNotIn('1b36:000d', written)
        self.assertNotRegex(written, re.compile(
            '^blacklist (bochs|xhci_pci)', re.MULTILINE))
        # The one that is kept appears anew, and still gets its driver.
        self.guest.run(
            'echo 1 > /sys/bus/pci/devices/{0}/remove; '
            'echo 1 > /sys/bus/pci/rescan; udevadm settle'.format(
                base.SCREEN))
        self.assertHostIsWhole()
        # And the one that is taken is taken again, by udev.
        self.guest.run(
            'for n in 0 1 2; do echo 1 > '
            '/sys/bus/pci/devices/0000:01:00.$n/remove; done; '
            'echo 1 > /sys/bus/pci/rescan; udevadm settle')
        # (Functions that are found one by one get a group each.)
        self.assertEqual(dict.fromkeys(base.CARD_FUNCTIONS, 'vfio-pci'),
                         self.drivers(*base.CARD_FUNCTIONS))
        self.assertHostIsWhole()

    def test_group_with_a_disk(self):
        self.state(STATE % base.SHARED)
        found = self.deviations()
        self.assertIn(('group-not-isolated', base.SHARED), found)
        self.assertIn(base.DISK_CONTROLLER, self.tool('assert', 1).output)
        refused = self.tool('apply --runtime --yes', 3)
        self.assertIn('refused: group-shared: ' + base.SHARED,
                      refused.errors)
        self.assertIn(base.DISK_CONTROLLER, refused.errors)
        self.assertGivenBack()
        # Nor when it is asked to take the disk along.
        self.state(STATE % base.SHARED + '    functions: group\n')
        for words in ('apply --runtime --yes', 'apply --yes'):
            refused = self.tool(words, 3)
            self.assertIn('refused: carries-disk: ' + base.DISK_CONTROLLER,
                          refused.errors)
            self.assertIn('sda', refused.errors)
        self.assertGivenBack()
        self.guest.run('dd if=/dev/sda of=/dev/null bs=1M count=1')
        self.assertEqual('', self.guest.run(
            'find /etc -name "*gpu-host-prep.conf"').output)

    def test_screen_of_the_firmware(self):
        self.state(STATE % base.SCREEN)
        refused = self.tool('apply --runtime --yes', 3)
        self.assertIn('refused: boot-vga: ' + base.SCREEN, refused.errors)
        self.assertGivenBack()

    def test_module_missing(self):
        module = self.guest.run('modinfo -n vfio-pci').output.strip()
        self.addCleanup(self.guest.run, 'mv /root/vfio-pci.ko %s; depmod'
                        % module)
        self.guest.run('modprobe -rq vfio-pci; mv %s /root/vfio-pci.ko; '
                       'depmod' % module)
        self.assertIn(('module-missing', None), self.deviations())
        self.assertIn('has no module vfio_pci', self.tool('assert', 1).output)
        refused = self.tool('apply --runtime --yes', 3)
        self.assertIn('refused: driver-missing: ' + base.CARD,
                      refused.errors)
        self.assertGivenBack()

    def test_initramfs_older_than_its_configuration(self):
        self.tool('apply --runtime --yes --no-commands')
        self.assertIn(('initramfs-outdated', None), self.deviations())
        self.tool('apply --yes')
        self.assertEqual([], self.deviations())

    def test_card_in_use_by_a_program(self):
        # The audio function's mixer, held open as a sound server would.
        self.guest.run('exec 9</dev/dri/by-path/pci-%s-card; exec sleep 999 '
                       '>/dev/null 2>&1 & echo $! > /run/holder' % base.CARD)
        self.addCleanup(self.guest.run, 'kill $(cat /run/holder)')
        refused = self.tool('apply --runtime --yes', 3)
        self.assertIn('refused: used-by-process: ' + base.CARD,
                      refused.errors)
        self.assertIn('sleep', refused.errors)
        self.assertGivenBack()


# The first step of every VMM: open the group and ask for its flags.
VIABLE = '''
import fcntl, struct
with open('/dev/vfio/%s', 'r+b', buffering=0) as group:
    VFIO_GROUP_GET_STATUS = 0x3b67
    status = bytearray(struct.pack('II', 8, 0))
    fcntl.ioctl(group, VFIO_GROUP_GET_STATUS, status)
    print('viable' if struct.unpack('II', status)[1] & 1 else 'not viable')
'''
