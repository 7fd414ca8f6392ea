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


"""Nova's resource tracker, which takes care which devices servers get."""

from nova.compute import resource_tracker
from nova import objects
from nova.objects import fields
from nova.pci import manager as pci_manager
from nova import utils
from oslo_log import log as logging
from oslo_utils import excutils

from nova_gpu_lease.compute import near
from nova_gpu_lease import failpoints

LOG = logging.getLogger(__name__)

_HELD = (fields.PciDeviceStatus.ALLOCATED, fields.PciDeviceStatus.CLAIMED)

#: Methods that are overridden here: see hooks.check.
TESTED = (
    (resource_tracker.ResourceTracker, 'instance_claim',
     ('context', 'instance', 'nodename', 'allocations', 'limits')),
    (resource_tracker.ResourceTracker, '_setup_pci_tracker',
     ('context', 'compute_node', 'resources')),
    (resource_tracker.ResourceTracker, '_update_usage_from_instance',
     ('context', 'instance', 'nodename', 'is_removed')),
    (pci_manager.PciDevTracker, 'free_device', ('dev', 'instance')),
    *near.TESTED,
)


class ResourceTracker(resource_tracker.ResourceTracker):
    """Gives servers devices that are near, and only those they claimed."""

    def __init__(self, host, *args, **kwargs):
        super().__init__(host, *args, **kwargs)
        self._host_devices = near.HostDevices(host)

    def _setup_pci_tracker(self, context, compute_node, resources):
        super()._setup_pci_tracker(context, compute_node, resources)
        if not isinstance(self.pci_tracker.stats, near.DeviceStats):
            described = self._host_devices.described
            self.pci_tracker.stats = near.DeviceStats(
                self.pci_tracker.stats, lambda: described())
        self._host_devices.check(self.pci_tracker.pci_devs.objects)
        self._find_lost_devices()
        self._have_stale_rows_saved(context, compute_node)

    def _find_lost_devices(self):
        """Take devices into account of which Nova has lost sight.

        Nova asks its conductor half-way through an allocation, and through
        the freeing of one. If no answer comes, the device is in none of the
        lists by which it would be freed, or given away, ever again. Nova
        frees next what is in the lists of servers that are not here.
        """
        tracker = self.pci_tracker
        free = tracker.stats.get_free_devs()
        for device in tracker.pci_devs.objects:
            if device.status == fields.PciDeviceStatus.AVAILABLE:
                if device not in free:
                    tracker.stats.add_device(device)
                    LOG.info('Device %s is free, and can be had again.',
                             device.address)
            elif device.status in _HELD:
                kept = (tracker.claims
                        if device.status == fields.PciDeviceStatus.CLAIMED
                        else tracker.allocations)
                found = kept.setdefault(device.instance_uuid, [])
                if device not in found:
                    found.append(device)
                    LOG.info('Device %s is found again.', device.address,
                             instance_uuid=device.instance_uuid)

    def _have_stale_rows_saved(self, context, compute_node):
        """Mark devices whose rows say what is over; Nova saves them next.

        A row is written by a conductor. One that was slow, or was asked when
        its answer was not waited for any more, may write last what came
        first: who looks for a free device would never see this one again.
        What is not saved yet is left alone.
        """
        devices = self.pci_tracker.pci_devs.objects
        if not devices:
            return
        rows = {row.id: row for row in
                objects.PciDeviceList.get_by_compute_node(
                    context, compute_node.id)}
        for device in devices:
            row = rows.get(device.id if 'id' in device else None)
            if row is None or device.obj_what_changed():
                continue
            stale = {name for name in ('status', 'instance_uuid')
                     if getattr(row, name) != getattr(device, name)}
            if stale:
                LOG.warning('The row of device %(address)s says %(row)s, and '
                            'not %(device)s; it is written again.',
                            {'address': device.address, 'row': row.status,
                             'device': device.status})
                device._changed_fields |= stale

    def devices_of(self, server_id):
        """The PciDevices of this host that a server has, as a list."""
        if not self.pci_tracker:
            return []
        return [device for device in list(self.pci_tracker.pci_devs.objects)
                if device.instance_uuid == server_id and
                device.status in _HELD]

    def instance_claim(self, context, instance, nodename, allocations,
                       limits=None):
        """See the base class.

        The rows of devices are saved last when a build is given up. If that
        fails, a repeated build on the same host, which Nova itself never
        makes, reads that the server has the device of the first one, too: its
        guest would get a device that somebody else is given.
        """
        before = self.devices_of(instance.uuid)
        try:
            claim = super().instance_claim(
                context, instance, nodename, allocations, limits)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._give_up_claim(context, instance, nodename, before)
        if instance.pci_devices:
            held = {device.id for device in self.devices_of(instance.uuid)}
            found = instance.pci_devices.objects
            own = {device.id: device for device in found
                   if device.id in held}
            if len(own) < len(found):
                LOG.warning('Of the devices %s only %s are of this build.',
                            *(sorted(device.address for device in some)
                              for some in (found, own.values())),
                            instance=instance)
                instance.pci_devices.objects = list(own.values())
        failpoints.hit('device-claimed')
        return claim

    @utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
    def _give_up_claim(self, context, instance, nodename, before):
        """Undo a claim that failed half-way, as far as it is in memory.

        Nova waits for its next periodic update. A build that is repeated
        before that would not be counted as a new one, and its guest would
        get no devices.

        :param before: the PciDevices that the server had before.
        """
        if instance.uuid in self.tracked_instances:
            self._update_usage_from_instance(
                context, instance, nodename, is_removed=True)
        for device in self.devices_of(instance.uuid):
            if device not in before:
                self.pci_tracker.free_device(device, instance)
