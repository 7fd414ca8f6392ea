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

"""Which hosts and GPUs the fake hypervisors have.

A layout comes from two numbers (``uniform``) or from a file, which
``layout_file.py`` reads. Nothing here knows Nova: ``nova.py`` turns a layout
into configuration and ``driver.py`` reports it.
"""

import dataclasses

from nova_gpu_lease.devcloud import exceptions

VENDOR_ID = '10de'
DEFAULT_MODEL = 'gpu'
DEFAULT_ZONE = 'nova'

# PCI product ids of models that people know; other models get an id of
# their own from the range below, which no product of the vendor uses.
PRODUCT_IDS = {
    'gpu': '2330', 'a100': '20b2', 'h100': '2331', 'h200': '2335',
    'b200': '2901', 'l4': '27b8', 'l40s': '26b9', 't4': '1eb8',
    'v100': '1db5',
}
FIRST_UNKNOWN_PRODUCT = 0xf001

# One PCI bus for each GPU behind its own root port; 0x01 is left to others.
MAX_GPUS = 200
_FIRST_BUS = 0x10


@dataclasses.dataclass(frozen=True)
class GPU:
    """One passed-through device of a host."""

    address: str
    model: str
    product_id: str
    numa_node: int | None = None
    nvlink_group: str | None = None


@dataclasses.dataclass(frozen=True)
class Host:
    """One fake hypervisor; memory in MiB, disk in GiB."""

    name: str
    gpus: tuple[GPU, ...] = ()
    zone: str = DEFAULT_ZONE
    vcpus: int = 32
    memory_mb: int = 65536
    disk_gb: int = 1024


@dataclasses.dataclass(frozen=True)
class Layout:
    """All hosts of a cloud."""

    hosts: tuple[Host, ...]

    @property
    def models(self):
        """Product id of every GPU model, in order of appearance.

        :returns: dict of model name to product id
        """
        return {gpu.model: gpu.product_id
                for host in self.hosts for gpu in host.gpus}

    @property
    def zones(self):
        """Hosts of each zone other than Nova's default one.

        :returns: dict of zone name to list of host names
        """
        zones = {}
        for host in self.hosts:
            if host.zone != DEFAULT_ZONE:
                zones.setdefault(host.zone, []).append(host.name)
        return zones

    def host(self, name):
        """Return the host of this name.

        :raises: KeyError if there is none
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def to_dict(self):
        """Return the layout as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data):
        """Build a layout from what ``to_dict`` returned."""
        return cls(hosts=tuple(host_from_dict(h) for h in data['hosts']))


def host_from_dict(data):
    """Build a host from its plain JSON form."""
    return Host(**{**data, 'gpus': tuple(GPU(**g) for g in data['gpus'])})


def uniform(hosts=2, gpus_per_host=2):
    """Return a layout of equal hosts ``host1`` … with GPUs of one model."""
    if hosts < 1:
        raise exceptions.LayoutError(
            f'--hosts is {hosts}; at least 1 is needed.')
    if not 0 <= gpus_per_host <= MAX_GPUS:
        raise exceptions.LayoutError(
            f'--gpus-per-host is {gpus_per_host}; '
            f'0 to {MAX_GPUS} are accepted.')
    groups = [(DEFAULT_MODEL, gpus_per_host, None, None)]
    products = product_ids([groups])
    return Layout(hosts=tuple(
        Host(name=f'host{n}', gpus=lay_out(groups, products))
        for n in range(1, hosts + 1)))


def product_ids(groups_of_hosts):
    """Give each model its product id, the same for the same file."""
    products = {}
    unknown = FIRST_UNKNOWN_PRODUCT
    for groups in groups_of_hosts:
        for model, *_ in groups:
            if model in products:
                continue
            if model in PRODUCT_IDS:
                products[model] = PRODUCT_IDS[model]
            else:
                products[model] = f'{unknown:04x}'
                unknown += 1
    return products


def lay_out(groups, products):
    """Lay the groups of one host out on PCI addresses."""
    gpus = []
    for model, count, numa_node, nvlink_group in groups:
        for _ in range(count):
            bus = _FIRST_BUS + len(gpus)
            gpus.append(GPU(
                address=f'0000:{bus:02x}:00.0', model=model,
                product_id=products[model], numa_node=numa_node,
                nvlink_group=nvlink_group))
    return tuple(gpus)
