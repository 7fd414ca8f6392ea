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


"""A host is prepared, rebooted, and comes up as it should be by itself."""

import json
import pathlib
import shutil

import fixtures
from testtools import matchers

from tests.host import base
from tests.host import sysroot

STATE = '''
    cards:
      - address: "0000:01:00.0"
    '''
INITRD = '/boot/initrd.img-'
# Every file of /etc with its mode and checksum.
LISTING = ('find /etc -type f -printf "%m %p " -exec md5sum {} + | sort; '
           'find /etc -printf "%M %p %l\\n" | sort')


class RebootTest(base.HostTestCase):

    def setUp(self):
        super().setUp()
        self.dir = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.disk = self.dir / 'disk'
        self.sysroot.copy_disk(self.disk)

    def etc(self):
        """Return a copy of the guest's /etc."""
        target = self.dir / 'etc'
        shutil.rmtree(target, ignore_errors=True)
        self.guest.get('/etc', target)
        return target

    def reboot(self):
        """Do what update-initramfs and update-grub do, and boot again.

        The initramfs is made by Debian's own initramfs-tools from the guest's
        /etc; the command line is what the guest's GRUB files give. The disk
        is the one that was written to.
        """
        etc = self.etc()
        self.guest.power_off()
        initrd = self.dir / 'initrd'
        self.sysroot.build_initrd(initrd, etc)
        self.sysroot.put(self.disk, initrd, INITRD + self.sysroot.release)
        line = sysroot.grub_arguments(etc)
        self.boot(disk=self.disk, initrd=initrd, cmdline=line)
        return line

    def test_reboot(self):
        # Debian's kernel has it on by itself; somebody put it off by hand.
        line = 'intel_iommu=off ' + sysroot.grub_arguments(
            self.sysroot.tree / 'etc')
        self.boot(disk=self.disk, cmdline=line)
        self.state(STATE)
        before = self.guest.run(LISTING).output
        self._fresh()
        self._prepare()
        line = self.reboot()
        self.assertIn(' intel_iommu=on', line)
        self.assertThat(self.guest.run('cat /proc/cmdline').output,
                        matchers.EndsWith(' %s\n' % line))
        self._prepared()
        self._restore(before)
        line = self.reboot()
        self.assertNotIn('intel_iommu', line)
        self.assertGivenBack()

    def _fresh(self):
        """The kernel was started without an IOMMU, drivers have the card."""
        found = self.deviations()
        self.assertIn(('kernel-argument-conflict', None), found)
        self.assertIn(('kernel-argument-missing', None), found)
        self.assertIn(('driver-graphics', base.CARD), found)
        self.assertIn(('driver-audio', '0000:01:00.1'), found)
        self.assertIn(('driver-usb', '0000:01:00.2'), found)
        self.assertEqual(
            [], [address for code, address in found
                 if address not in (None, *base.CARD_FUNCTIONS)])
        text = self.tool('assert', 1).output
        self.assertIn('the kernel was started without intel_iommu=on', text)
        # No group, no passthrough: nothing is touched.
        refused = self.tool('apply --runtime --yes', 3)
        self.assertIn('refused: no-iommu-group: 0000:01:00.0', refused.errors)
        self.assertGivenBack()
        self.assertEqual('', self.guest.run(
            'ls /etc/modprobe.d | grep gpu-host-prep || true').output)

    def _prepare(self):
        """Files are written once; what they need next is told."""
        self.tool('apply --yes --no-commands')
        self.assertGivenBack()
        again = self.tool('plan', 1).output
        self.assertNotIn('+++', again)
        self.assertIn('update-initramfs -u -k all', again)
        found = {code for code, _ in self.deviations()}
        self.assertLessEqual({'reboot-pending', 'initramfs-outdated'}, found)
        self.assertNotIn('kernel-argument-missing', found)

    def _prepared(self):
        """All functions were taken during the boot, and nothing else."""
        self.assertHeld()
        self.assertEqual([], self.deviations())
        self.tool('assert')
        (card,) = [card for card in json.loads(
            self.tool('inspect -f json').output)['cards']
            if card['address'] == base.CARD]
        self.assertEqual('free', card['status'])
        # By the initramfs, before the drivers of the host were asked.
        log = self.guest.run('dmesg').output
        self.assertNotRegex(log, r'(snd_hda_intel|xhci_hcd) 0000:01:00\.')
        self.assertNotRegex(log, r'bochs-drm 0000:01:00\.')

    def _restore(self, before):
        """Every file is as before the first apply; the card with a boot."""
        text = self.tool('restore --yes --no-commands').output
        self.assertIn('goes to its drivers with the next boot', text)
        self.assertHeld()
        self.assertEqual(before, self.guest.run(LISTING).output)
