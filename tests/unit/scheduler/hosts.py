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


"""Host states and specs of requests, as filters and weighers get them."""

import copy
import json
import uuid

from nova import objects
from nova.pci import request as pci_request
from nova.pci import stats as pci_stats
from nova.scheduler import host_manager
from oslo_utils import uuidutils

from tests.unit.db import base

objects.register_all()

#: For [pci] alias. What ``any`` asks for serves ``gpu`` and ``big``, too.
ALIASES = {
    'gpu': {'vendor_id': '10de', 'product_id': '26b9'},
    'big': {'vendor_id': '10de', 'product_id': '2335'},
    'nic': {'vendor_id': '15b3', 'product_id': '1018'},
}
SPECS = {**{name: [spec] for name, spec in ALIASES.items()},
         'any': [ALIASES['gpu'], ALIASES['big']]}


class TestCase(base.TestCase):
    """With the aliases in Nova's configuration, and an empty database."""

    def setUp(self):
        super().setUp()
        self.flags(group='pci', alias=[
            json.dumps({'name': name, 'device_type': 'type-PCI', **spec})
            for name, specs in SPECS.items() for spec in specs])
        pci_request.get_alias_from_config.cache_clear()
        self.addCleanup(pci_request.get_alias_from_config.cache_clear)


def pool(alias, count=1, numa_node=0, **tags):
    """A pool of devices as in PciDeviceStats.pools."""
    return {**ALIASES[alias], 'dev_type': 'type-PCI', 'count': count,
            'numa_node': numa_node, **tags}


def host(name, pools, candidates=None):
    """A HostState with free devices.

    :param name: of the host and its node; its uuid is node_uuid(name).
    :param pools: a list from pool().
    :param candidates: mappings of its allocation candidates.
    """
    state = host_manager.HostState(name, name, uuidutils.generate_uuid())
    state.uuid = node_uuid(name)
    state.pci_stats = pci_stats.PciDeviceStats(None)
    state.pci_stats.pools = copy.deepcopy(pools)
    state.allocation_candidates = [
        {'allocations': {}, 'mappings': mappings} for mappings in (
            [{'': [state.uuid]}] if candidates is None else candidates)]
    return state


def node_uuid(name):
    """The uuid of a node, always the same for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def spec(server_id=None, **counts):
    """A RequestSpec that asks for devices.

    :param server_id: uuid of the server.
    :param counts: {alias: number of devices}.
    """
    return objects.RequestSpec(
        instance_uuid=server_id or uuidutils.generate_uuid(),
        scheduler_hints={}, requested_resources=[],
        pci_requests=objects.InstancePCIRequests(requests=[
            objects.InstancePCIRequest(
                alias_name=alias, count=count, numa_policy='legacy',
                request_id=uuidutils.generate_uuid(),
                spec=[dict(one, dev_type='type-PCI')
                      for one in SPECS[alias]])
            for alias, count in counts.items()]))
