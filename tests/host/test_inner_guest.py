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


"""A guest in the guest gets the card, as Nova would give it to a server."""

import re

from tests.host import base

STATE = '''
    cards:
      - address: "%s"
    ''' % base.CARD
# Its root file system: a shell and lspci, with the libraries they need. Not in
# /run, where nothing can be executed, which ldd notices.
FILES = r'''
set -e
mkdir -p /root/inner/bin /root/inner/proc /root/inner/sys
cd /root/inner
cp /usr/bin/busybox /usr/bin/lspci bin
for library in $(ldd bin/* | grep -o '/[^ ]*\.so[^ ]*' | sort -u); do
    mkdir -p .$(dirname $library)
    cp -L $library .$library
done
cat > init <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/lspci -n
for n in 0 1 2; do
    # A register of the card itself, through VFIO.
    /bin/lspci -x -s 01:00.$n | /bin/busybox sed -n 2p
done
echo The inner guest is done.
/bin/busybox poweroff -f
INIT
chmod +x init
find . | cpio --quiet -o -H newc > /root/inner.cpio
'''
# The uncompressed kernel: unpacking it would take minutes, two levels deep.
COMMAND = '''
timeout 300 qemu-system-x86_64 -nodefaults -no-user-config -display none \
    -accel tcg -cpu qemu64 -machine q35 -m 192 -no-reboot -serial stdio \
    -kernel /boot/vmlinux -initrd /root/inner.cpio \
    -append "console=ttyS0 quiet nokaslr mitigations=off tsc=unstable" \
    -device pcie-root-port,id=inner,slot=1 \
    -device vfio-pci,host={0}.0,bus=inner,addr=0.0,multifunction=on \
    -device vfio-pci,host={0}.1,bus=inner,addr=0.1 \
    -device vfio-pci,host={0}.2,bus=inner,addr=0.2 2>&1 \
'''.format(base.CARD[:-2])


class InnerGuestTest(base.HostTestCase):

    def test_inner_guest(self):
        self.boot(memory=1024, cmdline='quiet '
                  'console=ttyS0 intel_iommu=on iommu=pt')
        self.state(STATE)
        self.guest.run(FILES)
        # With a driver of the host on a sibling no VMM gets the card.
        self.tool('apply --runtime --no-files --yes')
        self.guest.run(
            'cd /sys/bus/pci/devices/0000:01:00.1; echo > driver_override; '
            'echo 0000:01:00.1 > driver/unbind; '
            'echo 0000:01:00.1 > /sys/bus/pci/drivers_probe')
        refused = self.guest.run(COMMAND, check=False)
        self.assertNotEqual(0, refused.status)
        self.assertIn('is not viable', refused.output)
        self.tool('apply --runtime --no-files --yes')
        self.assertHeld()
        self.guest.run('(%s; echo $? > /root/inner.status) > /root/inner.log '
                       '2>&1 < /dev/null &' % COMMAND.strip())
        self.wait('find /proc/[0-9]*/fd -lname /dev/vfio/%s | grep -q .'
                  % self.group(base.CARD))
        # While it runs the card is a guest's, and is not taken away.
        self.assertIn('in use by qemu-system-x86', self.tool('inspect').output)
        refused = self.tool('restore --yes', 3)
        self.assertIn('refused: used-by-guest: ' + base.CARD, refused.errors)
        self.wait('[ -e /root/inner.status ]')
        log = self.guest.run('cat /root/inner.log').output
        self.assertIn('The inner guest is done.', log)
        for pattern in (r'01:00\.0 0380: 1234:1111',
                        r'01:00\.1 0403: 8086:2668',
                        r'01:00\.2 0c03: 1b36:000d'):
            self.assertTrue(re.search(pattern, log), log)
        self.tool('restore --yes')
        self.assertGivenBack()

    def wait(self, condition):
        self.guest.run('for n in $(seq 600); do %s && exit 0; sleep 0.5; '
                       'done; cat /root/inner.log; exit 1' % condition,
                       timeout=400)
