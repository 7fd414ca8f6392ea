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


"""What the tests of hosts share: the emulated hardware, and the tool in it.

The machine of most tests has three graphics cards of one id, ``1234:1111``:

CARD
   behind a root port of its own: graphics, audio and USB functions, the audio
   and the USB controller of kinds that the host has too. A guest is to have
   it.
SCREEN
   behind a root port of its own: the display that the firmware uses.
SHARED
   on a conventional PCI bus, in one IOMMU group with a disk controller.

Real cards differ in ids, resets and memory; groups, drivers, udev, initramfs
and VFIO are the kernel's own and are what these tests are about.
"""

import json
import os
import pathlib
import textwrap

import fixtures
import testtools
from testtools import content

from tests.host import guest
from tests.host import sysroot

TOOL = pathlib.Path(__file__).parents[2] / 'host_prep'
STATE = '/etc/gpu-host-prep/state.yaml'

CARD = '0000:01:00.0'
CARD_FUNCTIONS = {CARD: 'bochs-drm', '0000:01:00.1': 'snd_hda_intel',
                  '0000:01:00.2': 'xhci_hcd'}
SCREEN = '0000:02:00.0'
SHARED = '0000:04:01.0'
DISK_CONTROLLER = '0000:04:02.0'
HOST_USB = '0000:00:07.0'

HARDWARE = [word for line in '''
    pcie-root-port,id=port1,slot=1,chassis=1,addr=4
    pcie-root-port,id=port2,slot=2,chassis=2,addr=5
    pcie-root-port,id=port3,slot=3,chassis=3,addr=6
    qemu-xhci,addr=7
    bochs-display,bus=port1,addr=0.0,multifunction=on
    intel-hda,bus=port1,addr=0.1
    qemu-xhci,bus=port1,addr=0.2
    VGA,bus=port2
    pcie-pci-bridge,id=bridge,bus=port3
    secondary-vga,bus=bridge,addr=1
    ich9-ahci,id=ahci,bus=bridge,addr=2
    '''.split() for word in ('-device', line)] + [
        '-drive', 'id=data,if=none,driver=null-co,read-zeroes=on,size=1G',
        '-device', 'ide-hd,drive=data,bus=ahci.0']

# Making an initramfs takes minutes in a guest. The real one is made outside,
# from the files of the guest; here it is noted how it was asked for.
_STAND_IN = '''#!/bin/sh
echo "$*" >> /run/update-initramfs.calls
for image in /boot/initrd.img-*; do echo >> "$image"; done
'''


class HostTestCase(testtools.TestCase):
    """A test with guests, whose logs are told if it fails."""

    def setUp(self):
        super().setUp()
        # Not oslotest's base: its tests have another HOME, and a temporary
        # directory that a guest of several tests would lose.
        self.useFixture(fixtures.Timeout(
            int(os.environ.get('OS_TEST_TIMEOUT', 900)), gentle=True))
        self.sysroot = sysroot.get()
        self.guest = None
        self.addOnException(self._tell_log)

    def _tell_log(self, unused):
        if self.guest is not None:
            self.addDetail('guest', content.text_content(self.guest.log))

    def boot(self, devices=HARDWARE, **options):
        """Start a guest with the tool in it; it ends with the test."""
        self.guest = guest.Guest(self.sysroot, devices, **options)
        self.addCleanup(self.guest.stop)
        self.guest.start()
        self.guest.put(TOOL, '/opt/gpu-host-prep')

    def share(self, options):
        """Use the guest that all tests of this class have in common."""
        shared = type(self).__dict__.get('_shared')
        if shared is None:
            shared = guest.Guest(self.sysroot, HARDWARE, **options)
            type(self)._shared = shared
            self.guest = shared
            shared.start()
            shared.put(TOOL, '/opt/gpu-host-prep')
        self.guest = shared
        # What earlier tests did is not told.
        shared.transcript = []

    @classmethod
    def tearDownClass(cls):
        if cls.__dict__.get('_shared') is not None:
            cls._shared.stop()
            del cls._shared
        super().tearDownClass()

    def stand_in(self):
        """Make update-initramfs quick in the guest."""
        self.guest.run(
            'f=/usr/local/sbin/update-initramfs; mkdir -p ${f%/*}; '
            'cat > $f; chmod +x $f', given=_STAND_IN)

    def state(self, text):
        """Write the desired state."""
        self.guest.run('mkdir -p $(dirname %s); cat > %s' % (STATE, STATE),
                       given=textwrap.dedent(text))
        self.guest.run('cat %s' % STATE)

    def tool(self, words, status=0):
        """Run the tool in the guest.

        :param words: its arguments, as text
        :param status: the exit status that it should have
        :returns: guest.Result
        """
        result = self.guest.tool(words)
        self.assertEqual(status, result.status, '%s\n%s%s' % (
            words, result.output, result.errors))
        return result

    def deviations(self):
        """Return what ``assert`` finds, as pairs of code and address."""
        result = self.guest.tool('assert --format json')
        self.assertIn(result.status, (0, 1), result.errors)
        found = [(each['code'], each['address'])
                 for each in json.loads(result.output)]
        self.assertEqual(1 if found else 0, result.status)
        return found

    def drivers(self, *addresses):
        """Return the driver of each function, or None: {address: name}."""
        said = self.guest.run('; '.join(
            'echo %s $(basename "$(readlink '
            '/sys/bus/pci/devices/%s/driver)")' % (address, address)
            for address in addresses)).output
        return {words[0]: words[1] if len(words) > 1 else None
                for words in map(str.split, said.splitlines())}

    def group(self, address):
        """Return the number of a function's IOMMU group, as text."""
        return self.guest.run(
            'basename $(readlink /sys/bus/pci/devices/%s/iommu_group)'
            % address).output.strip()

    def assertHeld(self):
        """CARD is vfio-pci's, whole; nothing else is."""
        self.assertEqual(dict.fromkeys(CARD_FUNCTIONS, 'vfio-pci'),
                         self.drivers(*CARD_FUNCTIONS))
        self.assertEqual(
            # One, unless the functions came anew, one after the other.
            {'vfio', *(self.group(function) for function in CARD_FUNCTIONS)},
            set(self.guest.run('ls /dev/vfio').output.split()))
        self.assertHostIsWhole()

    def assertHostIsWhole(self):
        """What no guest gets has the drivers of the host."""
        self.assertEqual(
            {SCREEN: 'bochs-drm', SHARED: 'bochs-drm',
             DISK_CONTROLLER: 'ahci', HOST_USB: 'xhci_hcd'},
            self.drivers(SCREEN, SHARED, DISK_CONTROLLER, HOST_USB))

    def assertGivenBack(self):
        self.assertEqual(CARD_FUNCTIONS, self.drivers(*CARD_FUNCTIONS))
        self.assertHostIsWhole()
        self.assertEqual('vfio\n', self.guest.run(
            'ls /dev/vfio 2>/dev/null || echo vfio').output)
        self.assertEqual('', self.guest.run(
            'cat /sys/bus/pci/devices/*/driver_override | grep -v null || '
            'true').output)
