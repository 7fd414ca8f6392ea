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


"""Devices whose claim nobody gave up to the end, and who has them next."""

from unittest import mock

import fixtures
from nova.compute import resource_tracker
from nova import context as nova_context
from nova import exception as nova_exception
from nova.pci import stats as pci_stats
import oslo_messaging as messaging
from oslo_utils import importutils
from oslo_utils import uuidutils

from tests.functional import base


class StaleDeviceTest(base.CloudTestCase):
    """A build is repeated on a host that could not save what became free."""

    GPUS = {'host1': {'gpu': 2}}

    def setUp(self):
        super().setUp()
        consume = pci_stats.PciDeviceStats.consume_requests
        abort = resource_tracker.ResourceTracker.abort_instance_claim

        taken = set()

        def the_other_device_next(stats, *args, **kwargs):
            # The last one of a pool is taken.
            for pool in stats.pools:
                pool['devices'].sort(
                    key=lambda device: device.address not in taken)
            devices = consume(stats, *args, **kwargs)
            taken.update(device.address for device in devices)
            return devices

        def abort_unsaved(tracker, *args, **kwargs):
            self.virt.driver.fail_spawn.clear()
            with mock.patch.object(
                    tracker, '_update_to_placement',
                    side_effect=nova_exception.PlacementPciException(
                        error='Placement is away')):
                return abort(tracker, *args, **kwargs)

        for name, method in (
                ('pci.stats.PciDeviceStats.consume_requests',
                 the_other_device_next),
                ('compute.resource_tracker.ResourceTracker.'
                 'abort_instance_claim', abort_unsaved)):
            self.useFixture(fixtures.MonkeyPatch('nova.' + name, method))

    def test_guest_has_only_what_was_claimed_for_it(self):
        self.virt.driver.fail_spawn.add('twice')
        server = self.create('twice')
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual([('twice', 'host1')] * 2, self.virt.driver.spawns)
        held = [address for address, holder in self.devices('host1').items()
                if holder == server]
        self.assertEqual(1, len(held))
        self.assertEqual({'twice': held}, self.virt.driver.guests)


class LostDeviceTest(base.CloudTestCase):
    """Nova's conductor does not answer in the middle of a claim."""

    GPUS = {'host1': {'gpu': 2}}

    def _no_answer(self, where, applies=lambda *args: True):
        """Have one call of a method get no answer.

        :param where: the method of a class, with its module, under nova.
        :param applies: which call, told by its arguments.
        :returns: a list that is empty until then.
        """
        owner, name = ('nova.' + where).rsplit('.', 1)
        real = getattr(importutils.import_class(owner), name)
        calls = []

        def call(*args, **kwargs):
            if not calls and applies(*args):
                calls.append(name)
                raise messaging.MessagingTimeout('no answer')
            return real(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch('nova.' + where, call))
        return calls

    def _builds_with_one_device(self, name):
        server = self.create(name)
        self.wait_for_status(server, 'ACTIVE')
        held = [address for address, holder in self.devices('host1').items()
                if holder is not None]
        self.assertEqual(held, self.virt.driver.guests[name])
        self.assertEqual(1, len(held))
        self.api.delete_server(server)
        self.wait_for_status(server, None)
        self.wait_for('the device', lambda: self.free_devices() == 2)

    def test_no_answer_while_the_device_is_taken(self):
        calls = self._no_answer('objects.Instance._load_pci_devices')
        self._builds_with_one_device('first')
        self.assertTrue(calls)

    def test_no_answer_when_the_device_is_taken(self):
        calls = self._no_answer(
            'compute.resource_tracker.ResourceTracker._update',
            lambda *args: self.free_devices() == 1)
        self._builds_with_one_device('first')
        self.assertTrue(calls)

    def test_what_nova_lost_sight_of_is_found_again(self):
        manager = self.computes['host1'].manager
        tracker = manager.rt.pci_tracker
        taken, free = tracker.pci_devs.objects
        taken.status = 'allocated'
        taken.instance_uuid = uuidutils.generate_uuid()
        tracker.stats.remove_device(taken)
        tracker.stats.remove_device(free)
        manager.update_available_resource(nova_context.get_admin_context())
        self.assertEqual(
            [('available', None)] * 2,
            [(device.status, device.instance_uuid)
             for device in tracker.pci_devs.objects])
        manager.update_available_resource(nova_context.get_admin_context())
        server = self.create('both', flavor=self.flavor('gpu:2'))
        self.wait_for_lease(server, 'ACTIVE')
