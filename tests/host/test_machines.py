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


"""Machines with an AMD IOMMU, without one, and the job's unit."""

import json
import pathlib

from tests.host import base

STATE = '''
    cards:
      - address: "0000:01:00.0"
    '''
JOB = (pathlib.Path(__file__).parents[2] / 'etc' / 'images' / 'elements' /
       'gpu-lease-job')


class AMDTest(base.HostTestCase):

    def test_runtime(self):
        self.boot(iommu='amd',
                  cmdline='quiet console=ttyS0 iommu=pt')
        self.stand_in()
        self.state(STATE)
        report = json.loads(self.tool('inspect -f json').output)
        self.assertEqual('amd', report['host']['iommu']['kind'])
        self.assertEqual('IVRS', report['host']['iommu']['firmware_table'])
        self.assertTrue(report['host']['iommu']['active'])
        found = self.deviations()
        self.assertIn(('driver-usb', '0000:01:00.2'), found)
        self.assertNotIn('kernel-argument-missing', dict(found))
        self.tool('apply --runtime --yes')
        self.assertHeld()
        self.assertEqual([], self.deviations())
        grub = self.guest.run(
            'cat /etc/default/grub /etc/default/grub.d/* 2>/dev/null',
            check=False).output
        self.assertIn('iommu=pt', grub)
        self.assertNotIn('intel', grub)
        self.tool('restore --yes')
        self.assertGivenBack()


class NoIOMMUTest(base.HostTestCase):
    """VT-d is switched off in the firmware."""

    def test_refused(self):
        self.boot(iommu='none',
                  cmdline='quiet console=ttyS0 '
                  'intel_iommu=on iommu=pt')
        self.state(STATE)
        self.assertIn('off in the firmware',
                      self.guest.run('gpu-host-prep inspect').output)
        self.assertIn(('firmware-iommu-off', None), self.deviations())
        self.assertIn('no DMAR, IVRS or IORT table',
                      self.tool('assert', 1).output)
        refused = self.tool('apply --runtime --yes', 3)
        self.assertIn('refused: no-iommu-group: ' + base.CARD,
                      refused.errors)
        self.assertGivenBack()
        self._job()

    def _job(self):
        """The same machine is a leased server now: its job ends, it goes."""
        self.guest.put(JOB / 'static', '/')
        self.guest.put(JOB / 'init-scripts' / 'systemd',
                       '/etc/systemd/system')
        self.guest.run('systemctl daemon-reload')
        start = 'systemctl start gpu-lease-job; sleep 1; '
        show = 'systemctl show -p ConditionResult,ActiveState gpu-lease-job'
        self.assertEqual(
            {'ConditionResult=no', 'ActiveState=inactive'},
            set(self.guest.run(start + show).output.split()))
        # One that fails, and asks for the server to stay up.
        self.job('touch /etc/gpu-lease/keep-running; exit 3')
        self.guest.run(start)
        self.assertEqual('exited 3\n', self.wait_for_result())
        # It is not run again where its result is.
        self.assertIn('ConditionResult=no',
                      self.guest.run(start + show).output)
        # One that is ended with all its children, and the server with it.
        self.guest.run('rm /etc/gpu-lease/keep-running '
                       '/var/lib/gpu-lease/job.result')
        self.job('echo the work is done')
        self.guest.run('systemctl start gpu-lease-job')
        self.guest.wait_until_off()
        self.assertIn('the work is done', self.guest.log)
        self.assertIn('the job has ended (exited 0); powering off',
                      self.guest.log)

    def job(self, text):
        self.guest.run('mkdir -p /etc/gpu-lease; cat > /etc/gpu-lease/job; '
                       'chmod +x /etc/gpu-lease/job',
                       given='#!/bin/sh\n%s\n' % text)

    def wait_for_result(self):
        return self.guest.run(
            'for n in $(seq 60); do cat /var/lib/gpu-lease/job.result && '
            'break; sleep 0.5; done 2>/dev/null').output
