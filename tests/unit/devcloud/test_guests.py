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

"""Guests and faults as files."""

import os

import fixtures
from oslotest import base

from nova_gpu_lease.devcloud import guests


class GuestsTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.hosts = self.useFixture(fixtures.TempDir()).path
        self.home = os.path.join(self.hosts, 'host1')
        self.guests = guests.Guests(self.home)
        self.guest = guests.Guest(
            uuid='u1', name='instance-1', devices=['0000:10:00.0'])
        self.guests.put(self.guest)

    def test_survives_a_restart(self):
        again = guests.Guests(self.home)
        self.assertEqual(['u1'], list(again))
        self.assertEqual(self.guest, again['u1'])

    def test_change_and_remove(self):
        self.guests.change('u1', disk='work')
        self.assertEqual('work', self.guests['u1'].disk)
        self.guests.remove('u1')
        self.guests.remove('u1')
        self.assertEqual(0, len(self.guests))
        self.assertRaises(KeyError, self.guests.change, 'u1', disk='')

    def test_own_change_is_no_event(self):
        self.guests.change('u1', state=guests.SHUTDOWN)
        self.assertEqual([], self.guests.changes())

    def test_change_of_somebody_else_is_seen_once(self):
        guests.find(self.hosts, 'u1').change('u1', state=guests.SHUTDOWN)
        self.assertEqual([('u1', guests.SHUTDOWN)], self.guests.changes())
        self.assertEqual([], self.guests.changes())

    def test_unknown_guest(self):
        self.assertRaises(KeyError, guests.find, self.hosts, 'u2')

    def test_faults_are_counted(self):
        guests.fail_next(self.home, 'spawn', 2)
        self.assertEqual([True, True, False], [
            guests.take_fault(self.home, 'spawn') for _ in range(3)])
        self.assertFalse(guests.take_fault(self.home, 'snapshot'))

    def test_faults_of_all_hosts(self):
        guests.fail_next(self.hosts, 'snapshot', 1)
        other = os.path.join(self.hosts, 'host2')
        guests.Guests(other)
        self.assertTrue(guests.take_fault(other, 'snapshot'))
        self.assertFalse(guests.take_fault(self.home, 'snapshot'))

    def test_find_skips_the_faults(self):
        guests.fail_next(self.hosts, 'spawn', 1)
        self.assertIn('u1', guests.find(self.hosts, 'u1'))
