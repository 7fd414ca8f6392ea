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
from oslo_log import log as logging

from nova_gpu_lease.compute import near
from nova_gpu_lease import failpoints

LOG = logging.getLogger(__name__)

#: Methods that are overridden here: see hooks.check.
TESTED = (
    (resource_tracker.ResourceTracker, 'instance_claim',
     ('context', 'instance', 'nodename', 'allocations', 'limits')),
    (resource_tracker.ResourceTracker, '_setup_pci_tracker',
     ('context', 'compute_node', 'resources')),
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
        self._have_stale_rows_saved(context, compute_node)

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
                if device.instance_uuid == server_id and device.status in (
                    fields.PciDeviceStatus.ALLOCATED,
                    fields.PciDeviceStatus.CLAIMED)]

    def instance_claim(self, context, instance, nodename, allocations,
                       limits=None):
        """See the base class.

        The rows of devices are saved last when a build is given up. If that
        fails, a repeated build on the same host, which Nova itself never
        makes, reads that the server has the device of the first one, too: its
        guest would get a device that somebody else is given.
        """
        claim = super().instance_claim(
            context, instance, nodename, allocations, limits)
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
