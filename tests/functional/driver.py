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

"""A virt driver without guests, whose hosts have GPUs."""

import contextlib
import threading

import fixtures
from nova import exception
from nova.virt import fake
from oslo_serialization import jsonutils

VENDOR_ID = '10de'
#: Product ids by the name of the PCI alias that asks for them.
MODELS = {'gpu': '26b9', 'h200': '2335'}

#: For [pci] device_spec and alias.
DEVICE_SPEC = [
    jsonutils.dumps({'vendor_id': VENDOR_ID, 'product_id': product_id})
    for product_id in MODELS.values()]
ALIAS = [
    jsonutils.dumps({'name': name, 'vendor_id': VENDOR_ID,
                     'product_id': product_id, 'device_type': 'type-PCI'})
    for name, product_id in MODELS.items()]


class Died(BaseException):
    """Ends a build as if its nova-compute was killed: nobody catches it."""


class GPUDriver(fake.FakeDriver):
    """Each test sets the class attributes through the fixture."""

    #: {host: {model: number of GPUs}}
    layout = {}
    #: Names of servers, or of hosts, whose spawn fails, and of servers whose
    #: snapshot does.
    fail_spawn = set()
    fail_snapshot = set()
    #: Names of servers in whose spawn nova-compute dies, before the guest is
    #: there or after it.
    die_before = set()
    die_after = set()
    #: The same of its snapshot.
    die_snapshot = set()
    #: {host: an Event that each spawn waits for}
    hold_spawn = {}
    #: (server name, host) of each spawn that was begun, and the names of
    #: servers that had to wait.
    spawns = []
    holds = []
    #: {server name: addresses of the devices of its guest}
    guests = {}

    vcpus = 32
    memory_mb = 65536
    local_gb = 1024

    def get_available_resource(self, nodename):
        resources = super().get_available_resource(nodename)
        devices = [
            {'address': '0000:%02x:00.0' % bus, 'product_id': product_id,
             'vendor_id': VENDOR_ID, 'status': 'available',
             'dev_type': 'type-PCI', 'parent_addr': None, 'numa_node': 0,
             'label': 'label_%s_%s' % (VENDOR_ID, product_id)}
            for bus, product_id in enumerate(
                (MODELS[model] for model, count
                 in self.layout.get(nodename, {}).items()
                 for _ in range(count)), start=0x81)]
        resources['pci_passthrough_devices'] = jsonutils.dumps(devices)
        return resources

    def spawn(self, context, instance, *args, **kwargs):
        if self._host in self.hold_spawn:
            self.holds.append(instance.display_name)
            self.hold_spawn[self._host].wait(60)
        self.spawns.append((instance.display_name, self._host))
        if {instance.display_name, self._host} & self.fail_spawn:
            raise exception.InstanceDeployFailure(
                reason='the guest did not start')
        self._die(self.die_before, instance)
        self.guests[instance.display_name] = [
            device.address for device in instance.get_pci_devices()]
        super().spawn(context, instance, *args, **kwargs)
        self._die(self.die_after, instance)

    def snapshot(self, context, instance, *args, **kwargs):
        if instance.display_name in self.fail_snapshot:
            raise exception.ImageNotAuthorized(image_id='snapshot')
        super().snapshot(context, instance, *args, **kwargs)
        self._die(self.die_snapshot, instance)

    @staticmethod
    def _die(names, instance):
        if instance.display_name in names:
            names.remove(instance.display_name)
            raise Died()


class GPUDriverFixture(fixtures.Fixture):
    """Makes ``compute_driver = fake.GPUDriver`` work.

    :param layout: {host: {model: number of GPUs}}.
    """

    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def _setUp(self):
        self.driver = type('GPUDriver', (GPUDriver,), {
            'layout': self.layout, 'fail_spawn': set(),
            'fail_snapshot': set(), 'die_before': set(), 'die_after': set(),
            'die_snapshot': set(),
            'hold_spawn': {}, 'spawns': [], 'holds': [], 'guests': {}})
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.fake.GPUDriver', self.driver))

    @contextlib.contextmanager
    def hold(self, host):
        """Let the builds on a host stand still while in this context."""
        event = self.driver.hold_spawn[host] = threading.Event()
        try:
            yield
        finally:
            del self.driver.hold_spawn[host]
            event.set()
