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

"""What a fresh cloud has: users, projects, flavors, an image, a network.

Each function looks before it creates, so that ``up`` may be repeated.
"""

import time

from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import rest
from nova_gpu_lease.devcloud import state as state_mod

# Type and path of the endpoint of each service that has a user.
_CATALOG = {
    'placement': ('placement', ''), 'glance': ('image', ''),
    'neutron': ('network', ''), 'nova': ('compute', '/v2.1'),
}
IMAGE_BYTES = b'devcloud\n'.ljust(4096, b'\0')


def _by_name(items, key='name'):
    return {item[key]: item for item in items}


def identity(state):
    """Create the services' users and endpoints, and the tenants."""
    cloud = rest.client(state)
    roles = _by_name(cloud.get('keystone', '/v3/roles')['roles'])
    projects = _by_name(cloud.get('keystone', '/v3/projects')['projects'])
    users = _by_name(cloud.get('keystone', '/v3/users')['users'])

    def ensure(kind, existing, name, **values):
        if name not in existing:
            existing[name] = cloud.post('keystone', f'/v3/{kind}s', {
                kind: {'name': name, 'domain_id': 'default', **values}})[kind]
        return existing[name]['id']

    def grant(project, user, *names):
        project_id = ensure('project', projects, project)
        user_id = ensure('user', users, user, password=state.password(user))
        for name in names:
            cloud.put('keystone', f'/v3/projects/{project_id}/users/'
                      f'{user_id}/roles/{roles[name]["id"]}')

    for name in _CATALOG:
        grant('service', name, 'admin', 'service')
    for project, user in state_mod.PROJECTS.items():
        if project != 'admin':
            grant(project, user, 'member')
    _catalog(state, cloud)


def _catalog(state, cloud):
    services = _by_name(cloud.get('keystone', '/v3/services')['services'],
                        'type')
    endpoints = {(e['service_id'], e['interface']): e for e in
                 cloud.get('keystone', '/v3/endpoints')['endpoints']}
    for name, (kind, path) in _CATALOG.items():
        if kind not in services:
            services[kind] = cloud.post('keystone', '/v3/services', {
                'service': {'name': name, 'type': kind}})['service']
        for interface in ('public', 'internal'):
            key = (services[kind]['id'], interface)
            if key not in endpoints:
                cloud.post('keystone', '/v3/endpoints', {'endpoint': {
                    'service_id': key[0], 'interface': interface,
                    'region_id': state_mod.REGION,
                    'url': state.url(name, path)}})


def image(state):
    """Upload the public image ``tiny``."""
    cloud = rest.client(state)
    found = cloud.get('glance', '/v2/images?name=tiny&status=active')
    if found['images']:
        return
    made = cloud.post('glance', '/v2/images', {
        'name': 'tiny', 'visibility': 'public', 'disk_format': 'raw',
        'container_format': 'bare', 'min_disk': 0, 'min_ram': 0})
    cloud.put('glance', f'/v2/images/{made["id"]}/file', data=IMAGE_BYTES,
              headers={'Content-Type': 'application/octet-stream'})


def network(state):
    """Create the shared network ``net`` with a subnet."""
    cloud = rest.client(state)
    networks = _by_name(cloud.get('neutron', '/v2.0/networks')['networks'])
    if 'net' not in networks:
        networks['net'] = cloud.post('neutron', '/v2.0/networks', {
            'network': {'name': 'net', 'shared': True}})['network']
    if not networks['net']['subnets']:
        cloud.post('neutron', '/v2.0/subnets', {'subnet': {
            'name': 'subnet', 'network_id': networks['net']['id'],
            'ip_version': 4, 'cidr': '10.20.0.0/16', 'enable_dhcp': False}})


def _flavors(state):
    """Return the extra specs of each flavor to make."""
    flavors = {'cpu': {}}
    for model in state.layout.models:
        flavors[model] = {'pci_passthrough:alias': f'{model}:1'}
    if 'gpu' in flavors:
        flavors['gpu2'] = {'pci_passthrough:alias': 'gpu:2'}
    return flavors


def flavors(state):
    """Create the flavors, and remember the newest API version."""
    cloud = rest.client(state)
    existing = _by_name(cloud.get('nova', '/v2.1/flavors')['flavors'])
    for name, extra in _flavors(state).items():
        if name in existing:
            continue
        made = cloud.post('nova', '/v2.1/flavors', {'flavor': {
            'name': name, 'id': name, 'vcpus': 1, 'ram': 512, 'disk': 1}})
        if extra:
            cloud.post('nova', '/v2.1/flavors/'
                       f'{made["flavor"]["id"]}/os-extra_specs',
                       {'extra_specs': extra})
    version = cloud.get('nova', '/v2.1/')['version']['version']
    state.done('compute_api_version', version)


def _devices(state):
    """The number of devices that Nova knows."""
    return sum(mariadb.query(
        state, database, 'SELECT COUNT(*) FROM pci_devices '
        'WHERE deleted = 0')[0][0] for database in cells.databases(state))


def hosts(state, timeout=90):
    """Wait until Nova sees every host, and put the hosts in their zones.

    :raises: DevcloudError if a host does not appear
    """
    cloud = rest.client(state)
    wanted = {host.name for host in state.layout.hosts}
    deadline = time.monotonic() + timeout
    while True:
        seen = {item['hypervisor_hostname'] for item in
                cloud.get('nova', '/v2.1/os-hypervisors')['hypervisors']}
        # A first save of devices can fail on a deadlock between two hosts;
        # Nova does it again with its next look at the host.
        if wanted <= seen and _devices(state) >= sum(
                len(host.gpus) for host in state.layout.hosts):
            break
        if time.monotonic() > deadline:
            raise exceptions.DevcloudError(
                'Nova does not see ' + ', '.join(sorted(wanted - seen))
                + f' after {timeout} seconds; see "logs nova-scheduler".')
        time.sleep(0.5)
    _zones(state, cloud)


def _zones(state, cloud):
    aggregates = _by_name(
        cloud.get('nova', '/v2.1/os-aggregates')['aggregates'])
    for zone, names in state.layout.zones.items():
        if zone not in aggregates:
            aggregates[zone] = cloud.post('nova', '/v2.1/os-aggregates', {
                'aggregate': {'name': zone, 'availability_zone': zone}}
            )['aggregate']
        aggregate = aggregates[zone]
        for name in names:
            if name not in (aggregate.get('hosts') or []):
                cloud.post('nova', '/v2.1/os-aggregates/'
                           f'{aggregate["id"]}/action',
                           {'add_host': {'host': name}})
