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

"""The fake hypervisor of the devcloud: Nova's FakeDriver with a memory.

Guests are files and survive a restart, snapshots and spawns move real (small)
images, GPUs are reported as a layout says, and a guest may fail or power
itself off when it is told to. Everything lies under ``[DEFAULT] state_path``.
"""

import io
import json
import pathlib
import threading
import time

from nova.compute import power_state
from nova.compute import task_states
import nova.conf
from nova import exception
from nova.image import glance
from nova import objects
from nova.virt import event as virtevent
from nova.virt import fake
import nova.virt.node
from oslo_log import log as logging

from nova_gpu_lease.devcloud import guests
from nova_gpu_lease.devcloud import layout
from nova_gpu_lease import failpoints

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

# Seconds between two looks at what others did to the guests.
_WATCH_INTERVAL = 0.5
_MIN_IMAGE_BYTES = 4096
_MAX_DISK_BYTES = 65536
_EVENTS = {power_state.RUNNING: virtevent.EVENT_LIFECYCLE_STARTED,
           power_state.SHUTDOWN: virtevent.EVENT_LIFECYCLE_STOPPED}


class _Resources(fake.Resources):
    """What the host has, and what its guests use of it."""

    def __init__(self, host, instances):
        super().__init__(host.vcpus, host.memory_mb, host.disk_gb)
        self.instances = instances

    def dump(self):
        """Count the guests, see the base class."""
        existing = [self.instances[uuid] for uuid in self.instances]
        return {**super().dump(),
                'vcpus_used': sum(g.vcpus for g in existing),
                'memory_mb_used': sum(g.memory_mb for g in existing),
                'local_gb_used': sum(g.disk_gb for g in existing)}


def _numa_topology(host):
    """Return the NUMA nodes as JSON, or None if no GPU is on one.

    They share the host's CPUs and memory evenly.
    """
    nodes = {gpu.numa_node for gpu in host.gpus} - {None}
    if not nodes:
        return None
    count = max(nodes) + 1
    memory = host.memory_mb // count
    return objects.NUMATopology(cells=[
        objects.NUMACell(
            id=node, socket=node, cpuset=set(range(node, host.vcpus, count)),
            pcpuset=set(), pinned_cpus=set(), siblings=[], memory=memory,
            cpu_usage=0, memory_usage=0,
            mempages=[objects.NUMAPagesTopology(
                size_kb=4, total=memory * 256, used=0)],
            network_metadata=objects.NetworkMetadata(
                physnets=set(), tunneled=False))
        for node in range(count)])._to_json()


class DevcloudDriver(fake.FakeDriver):
    """A hypervisor with GPUs; see ``nova.virt.driver.ComputeDriver``."""

    def __init__(self, virtapi, read_only=False):
        home = pathlib.Path(CONF.state_path)
        self._host_layout = layout.host_from_dict(
            json.loads((home / 'host.json').read_text()))
        self.vcpus = self._host_layout.vcpus
        self.memory_mb = self._host_layout.memory_mb
        self.local_gb = self._host_layout.disk_gb
        super().__init__(virtapi, read_only)
        self.instances = guests.Guests(home)
        self.resources = _Resources(self._host_layout, self.instances)
        self._image_api = glance.API()

    # The host

    def init_host(self, host):
        """Begin to watch the guests, see the base class."""
        super().init_host(host)
        self._set_nodes([host])
        threading.Thread(target=self._watch, name='devcloud-guests',
                         daemon=True).start()

    def get_nodenames_by_uuid(self, refresh=False):
        """Return the one node, whose UUID is kept in a file."""
        return {nova.virt.node.get_local_node_uuid(): self._host}

    def get_available_resource(self, nodename):
        """Return the host's resources, GPUs included."""
        status = super().get_available_resource(nodename)
        status['uuid'] = nova.virt.node.get_local_node_uuid()
        status['numa_topology'] = _numa_topology(self._host_layout)
        status['pci_passthrough_devices'] = json.dumps(
            [self._device(gpu) for gpu in self._host_layout.gpus])
        return status

    @staticmethod
    def _device(gpu):
        vendor = layout.VENDOR_ID
        return {
            'address': gpu.address, 'vendor_id': vendor,
            'product_id': gpu.product_id, 'dev_type': 'type-PCI',
            'dev_id': 'pci_' + gpu.address.translate(
                str.maketrans(':.', '__')),
            'label': f'label_{vendor}_{gpu.product_id}',
            'numa_node': gpu.numa_node, 'parent_addr': None,
            'status': 'available'}

    def _watch(self):
        """Tell Nova about guests that changed their state themselves."""
        while True:
            time.sleep(_WATCH_INTERVAL)
            try:
                for uuid, state in self.instances.changes():
                    if state in _EVENTS:
                        self.emit_event(virtevent.LifecycleEvent(
                            uuid, _EVENTS[state]))
            except Exception:
                LOG.exception('Watching the guests failed.')

    # Guests

    def spawn(self, context, instance, image_meta, injected_files,
              admin_password, allocations, network_info=None,
              block_device_info=None, power_on=True, accel_info=None):
        """Download the image and create the guest."""
        failpoints.hit('spawning')
        if guests.take_fault(CONF.state_path, 'spawn'):
            raise exception.InstanceDeployFailure(
                reason='the devcloud was told to fail this spawn')
        disk = ''
        if image_meta and image_meta.obj_attr_is_set('id') and image_meta.id:
            disk = self._download(context, image_meta.id)
        self._create(instance, disk, power_on)
        for vif in network_info or []:
            # Raises what an asynchronous network allocation raised.
            vif.fixed_ips()
            self._interfaces[vif['id']] = vif
        failpoints.hit('guest-started')

    def _create(self, instance, disk, power_on):
        flavor = instance.flavor
        self.instances.put(guests.Guest(
            uuid=instance.uuid, name=instance.name,
            state=(power_state.RUNNING if power_on
                   else power_state.SHUTDOWN),
            vcpus=flavor.vcpus, memory_mb=flavor.memory_mb,
            disk_gb=flavor.root_gb, disk=disk,
            devices=sorted(dev.address for dev in
                           instance.get_pci_devices())))

    def _download(self, context, image_id):
        content = b''
        for chunk in self._image_api.download(context, image_id):
            if len(content) < _MAX_DISK_BYTES:
                content += chunk
        content = content[:_MAX_DISK_BYTES]
        return content.decode('utf-8', 'replace').rstrip('\0')

    def snapshot(self, context, instance, image_id, update_task_state):
        """Upload the guest's disk to the image."""
        if instance.uuid not in self.instances:
            raise exception.InstanceNotRunning(instance_id=instance.uuid)
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        if guests.take_fault(CONF.state_path, 'snapshot'):
            raise exception.NovaException(
                'the devcloud was told to fail this snapshot')
        image = self._image_api.get(context, image_id)
        content = self.instances[instance.uuid].disk.encode()
        update_task_state(task_state=task_states.IMAGE_UPLOADING,
                          expected_state=task_states.IMAGE_PENDING_UPLOAD)
        self._image_api.update(
            context, image_id,
            {'name': image['name'], 'status': 'active',
             'disk_format': 'raw', 'container_format': 'bare',
             'properties': {'image_location': 'snapshot',
                            'image_state': 'available',
                            'owner_id': instance.project_id}},
            io.BytesIO(content.ljust(_MIN_IMAGE_BYTES, b'\0')))
        failpoints.hit('snapshot-taken')

    def destroy(self, context, instance, network_info, block_device_info=None,
                destroy_disks=True, destroy_secrets=True):
        """Remove the guest, and so free its devices."""
        if instance.uuid not in self.instances:
            LOG.warning('There is no guest to destroy.', instance=instance)
        self.instances.remove(instance.uuid)
        failpoints.hit('guest-removed')

    def _set_state(self, instance, state):
        try:
            self.instances.change(instance.uuid, state=state)
        except KeyError:
            raise exception.InstanceNotFound(
                instance_id=instance.uuid) from None

    def power_off(self, instance, timeout=0, retry_interval=0):
        """Power the guest off; as libvirt's driver, also one that is gone."""
        if instance.uuid in self.instances:
            self._set_state(instance, power_state.SHUTDOWN)
        failpoints.hit('guest-off')

    def power_on(self, context, instance, network_info,
                 block_device_info=None, accel_info=None, share_info=None):
        """Power the guest on."""
        self._set_state(instance, power_state.RUNNING)

    def pause(self, instance):
        """Pause the guest."""
        self._set_state(instance, power_state.PAUSED)

    def unpause(self, instance):
        """Unpause the guest."""
        self._set_state(instance, power_state.RUNNING)

    def suspend(self, context, instance):
        """Suspend the guest."""
        self._set_state(instance, power_state.SUSPENDED)

    def resume(self, context, instance, network_info,
               block_device_info=None, share_info=None):
        """Resume the guest."""
        self._set_state(instance, power_state.RUNNING)

    def unrescue(self, instance):
        """Leave the rescue mode."""
        self._set_state(instance, power_state.RUNNING)

    # Moves

    def migrate_disk_and_power_off(self, context, instance, dest,
                                   flavor, network_info,
                                   block_device_info=None,
                                   timeout=0, retry_interval=0):
        """Power off, and return the disk for the other host."""
        self.power_off(instance)
        return json.dumps({'disk': self.instances[instance.uuid].disk})

    def finish_migration(self, context, migration, instance, disk_info,
                         network_info, image_meta, resize_instance,
                         allocations, block_device_info=None, power_on=True,
                         share_info=None):
        """Create the guest here from the disk of the other host."""
        disk = json.loads(disk_info)['disk'] if disk_info else ''
        self._create(instance, disk, power_on)

    def finish_revert_migration(self, context, instance, network_info,
                                migration, block_device_info=None,
                                power_on=True, share_info=None):
        """Bring the guest back that was powered off for the move."""
        disk = ''
        if instance.uuid in self.instances:
            disk = self.instances[instance.uuid].disk
        self._create(instance, disk, power_on)

    def post_live_migration(self, context, instance, block_device_info,
                            migrate_data=None):
        """Remove the guest from the source host."""
        self.destroy(context, instance, network_info=None,
                     block_device_info=block_device_info)

    def post_live_migration_at_destination(self, context, instance,
                                           network_info,
                                           block_migration=False,
                                           block_device_info=None):
        """Create the guest on the destination host."""
        self._create(instance, '', True)
