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
"""A cloud in memory: what Nova's scheduler knows when a request comes.

Host states are Nova's own, filled from ComputeNodes as Nova fills them. The
leases and the plan are rows in a database of ours.
"""

import datetime
import json
import random
import uuid

from nova import objects
from nova.pci import request as pci_request
from nova.scheduler import host_manager
from nova.scheduler import manager

from nova_gpu_lease import clock
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db

GPUS = 8
#: For [pci] alias. Hosts have one model each.
MODELS = {'a100': '20b0', 'h100': '2330', 'l4': '27b8', 't4': '1eb8'}
FILTERS = ['ComputeFilter', 'ComputeCapabilitiesFilter',
           'ImagePropertiesFilter', 'ServerGroupAntiAffinityFilter',
           'ServerGroupAffinityFilter']
OURS = ('nova_gpu_lease.scheduler.filters.GPULeaseFilter',
        'nova_gpu_lease.scheduler.weights.GPULeaseWeigher')


def configure(url):
    """Nova's options as a cloud with GPUs has them.

    :param url: SQLAlchemy's URL of an empty database with our tables.
    """
    objects.register_all()
    CONF.set_override('alias', [
        json.dumps({'name': name, 'device_type': 'type-PCI',
                    'vendor_id': '10de', 'product_id': product})
        for name, product in MODELS.items()], group='pci')
    pci_request.get_alias_from_config.cache_clear()
    CONF.set_override('track_instance_changes', False,
                      group='filter_scheduler')
    CONF.set_override('available_filters', [
        'nova.scheduler.filters.all_filters', OURS[0]],
        group='filter_scheduler')
    # Nobody reports here, and a measurement may take long.
    CONF.set_override('service_down_time', 1 << 30)
    CONF.set_override('connection', url, group='gpu_lease_database')


class HostManager(host_manager.HostManager):
    """Nova's, without what it reads from Nova's databases at start."""

    def refresh_cells_caches(self):
        self.cells = {}

    def _init_aggregates(self):
        pass


class Scheduler:
    """Nova's way from host states to an ordered list of hosts."""

    def __init__(self, filters, weighers):
        """Load filters and weighers as nova-scheduler does.

        :param filters: for [filter_scheduler] enabled_filters.
        :param weighers: for weight_classes.
        """
        CONF.set_override('enabled_filters', filters,
                          group='filter_scheduler')
        CONF.set_override('weight_classes', weighers,
                          group='filter_scheduler')
        self.host_manager = HostManager()

    def sort(self, spec, states):
        """Filter and weigh, by the method that select_destinations calls."""
        return manager.SchedulerManager._get_sorted_hosts(
            self, spec, states, 0)


def schedulers(whole):
    """Nova's scheduler without and with our hooks.

    :param whole: whether with all of Nova's default filters and weighers,
        where ours come on top of PCIWeigher; else only those that deal with
        devices, ours in place of Nova's.
    :returns: a tuple of two Schedulers.
    """
    if whole:
        every = ['nova.scheduler.weights.all_weighers']
        return (Scheduler(FILTERS + ['PciPassthroughFilter'], every),
                Scheduler(FILTERS + ['GPULeaseFilter'], every + [OURS[1]]))
    return (Scheduler(['PciPassthroughFilter'],
                      ['nova.scheduler.weights.pci.PCIWeigher']),
            Scheduler(['GPULeaseFilter'], [OURS[1]]))


def node_uuid(number):
    return str(uuid.UUID(int=number))


def states(count, everywhere=False, seed=1):
    """Host states; half of the hosts have GPUs, a third of those are free.

    :param count: how many.
    :param everywhere: all hosts have free GPUs of the same model instead.
    :returns: a list of HostStates.
    """
    rng = random.Random(seed)
    now = clock.now().replace(tzinfo=None)
    found = []
    for number in range(count):
        state = host_manager.HostState(
            'host-%05d' % number, 'host-%05d' % number, node_uuid(0))
        state.update(_compute(number, everywhere, rng), {
            'updated_at': now, 'disabled': False, 'host': state.host,
            'forced_down': False, 'report_count': 1, 'last_seen_up': now,
            'created_at': now, 'binary': 'nova-compute',
            'topic': 'compute'}, [], {})
        found.append(state)
    return found


def _compute(number, everywhere, rng):
    pools = []
    if everywhere or number % 2:
        product = MODELS['a100'] if everywhere else sorted(
            MODELS.values())[number // 2 % len(MODELS)]
        # Nova has a pool for each device, by its address.
        pools = [
            {'vendor_id': '10de', 'product_id': product,
             'dev_type': 'type-PCI', 'numa_node': gpu // 4, 'count': 1,
             'address': '0000:%02x:00.0' % gpu}
            for gpu in range(GPUS)
            if rng.random() < 1 / 3 or everywhere and not gpu]
    return objects.ComputeNode(
        uuid=node_uuid(number + 1), host='host-%05d' % number,
        hypervisor_hostname='host-%05d' % number, memory_mb=1 << 20,
        free_ram_mb=rng.randrange(1 << 20), memory_mb_used=0,
        local_gb=4096, free_disk_gb=rng.randrange(4096), local_gb_used=0,
        disk_available_least=None, vcpus=128, vcpus_used=rng.randrange(128),
        numa_topology=None, host_ip='192.0.2.1', hypervisor_type='QEMU',
        hypervisor_version=8002000, cpu_info=None, supported_hv_specs=[],
        stats={}, metrics=None, cpu_allocation_ratio=1.0,
        ram_allocation_ratio=1.0, disk_allocation_ratio=1.0,
        updated_at=datetime.datetime.now(datetime.timezone.utc),
        pci_device_pools=objects.PciDevicePoolList(objects=[
            objects.PciDevicePool.from_dict(pool) for pool in pools]))


def offer(states, spec):
    """What Placement offers on the hosts, new for each request."""
    for state in states:
        state.allocation_candidates = [
            {'allocations': {}, 'mappings': {'': [state.uuid]}}]


def request(server_id, gpus=0, model='a100'):
    """A RequestSpec as the conductor sends it."""
    requests = []
    if gpus:
        requests.append(objects.InstancePCIRequest(
            alias_name=model, count=gpus, numa_policy='legacy',
            request_id=str(uuid.uuid4()), spec=[
                {'vendor_id': '10de', 'product_id': MODELS[model],
                 'dev_type': 'type-PCI'}]))
    return objects.RequestSpec(
        instance_uuid=server_id, project_id='project', scheduler_hints={},
        num_instances=1, requested_resources=[], ignore_hosts=None,
        force_hosts=None, force_nodes=None, requested_destination=None,
        instance_group=None, retry=None, limits=objects.SchedulerLimits(),
        availability_zone=None, numa_topology=None,
        image=objects.ImageMeta(properties=objects.ImageMetaProps()),
        flavor=objects.Flavor(
            extra_specs={}, memory_mb=4096, vcpus=4, root_gb=10,
            ephemeral_gb=0, swap=0),
        pci_requests=objects.InstancePCIRequests(requests=requests))


def lease(node, active=False):
    """Rows of a server with a lease on a node.

    :param node: its uuid.
    :param active: whether it runs; else it is being built.
    :returns: the server's uuid.
    """
    server_id = str(uuid.uuid4())
    row = db.request_create(
        {'kind': 'create', 'project_id': 'project', 'user_id': 'user',
         'priority': 'normal', 'devices': {'a100': 1}, 'context': {},
         'payload': {}},
        [{'server_id': server_id, 'server_name': 'server', 'flavor': 'gpu',
          'duration': 3600, 'on_expiry': 'shelve'}], 'perf')
    row = db.request_transition(row, 'DISPATCHING', 'perf')
    db.request_transition(row, 'PLACED', 'perf', lease_state='BUILDING',
                          lease_values={server_id: {'node_uuid': node}})
    if active:
        one, = db.leases_of(row.id)
        db.lease_transition(
            one, 'ACTIVE', 'perf', started_at=clock.now(),
            expires_at=clock.now() + datetime.timedelta(hours=1))
    return server_id
