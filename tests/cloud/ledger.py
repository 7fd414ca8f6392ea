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

"""What Nova's tables, Placement, the guests and our rows say together.

Each check returns a list of sentences, one for each row that is wrong. The
tables are read one after the other while services work: what is wrong for
good is wrong at the next look as well.
"""

import collections
import dataclasses
import datetime
import json

from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import mariadb

#: Statuses of a migration after which nothing is held for it.
_MIGRATION_OVER = ('completed', 'confirmed', 'reverted', 'error', 'failed',
                   'cancelled', 'done')


@dataclasses.dataclass
class Server:
    """A row of Nova's instances that is not deleted."""

    id: str
    name: str
    vm_state: str
    task_state: str | None
    host: str | None
    #: Devices of the alias gpu, and whether the hint gpu_lease was given.
    gpus: int = 0
    hinted: bool = False

    @property
    def offloaded(self):
        return self.vm_state == 'shelved_offloaded'


@dataclasses.dataclass
class Lease:
    """A current lease."""

    server_id: str
    state: str
    host: str | None
    expires_at: datetime.datetime | None
    updated_at: datetime.datetime
    reason: str | None


@dataclasses.dataclass
class Request:
    """A request that waits or is being started."""

    id: int
    uuid: str
    state: str
    num_servers: int
    gpus: int
    reason: str | None


class Ledger:
    """One look at everything."""

    def __init__(self, cloud):
        """:param cloud: a devcloud Cloud whose MariaDB runs."""
        self.state = cloud.state
        self.cells = cells.databases(self.state)
        self.now = datetime.datetime.now(
            datetime.timezone.utc).replace(tzinfo=None)
        self._read_ours()
        self._read_nova()
        self._read_placement()
        self._read_guests()

    def _query(self, database, sql):
        return mariadb.query(self.state, database, sql)

    def _read_ours(self):
        self.leases = {row[0]: Lease(*row) for row in self._query(
            'gpu_lease', 'SELECT server_id, state, host, expires_at, '
            'updated_at, reason FROM leases '
            'WHERE current_server_id IS NOT NULL')}
        #: Every server that ever had a lease.
        self.leased = {row[0] for row in self._query(
            'gpu_lease', 'SELECT DISTINCT server_id FROM leases')}
        self.requests = [
            Request(*row[:4], json.loads(row[4])['gpu'], row[5])
            for row in self._query(
                'gpu_lease', 'SELECT id, uuid, state, num_servers, devices, '
                'reason FROM requests WHERE state IN '
                "('QUEUED', 'DISPATCHING') ORDER BY id")]
        rows = self._query('gpu_lease', 'SELECT reservations FROM plans')
        self.reservations = json.loads(rows[0][0]) if rows else {}

    def _read_nova(self):
        specs = {server: _wants(json.loads(spec)) for server, spec in
                 self._query('nova_api', 'SELECT instance_uuid, spec '
                             'FROM request_specs')}
        self.building = {
            row[0]: specs.get(row[0], (0, False)) for row in self._query(
                'nova_api', 'SELECT instance_uuid FROM build_requests')}
        self.buried = {row[0] for row in self._query(
            'nova_cell0', 'SELECT uuid FROM instances WHERE deleted = 0')}
        #: Those of them for which Nova's scheduler did not answer in time.
        self.unanswered = {row[0] for row in self._query(
            'nova_cell0', 'SELECT i.uuid FROM instances i '
            'JOIN instance_faults f ON f.instance_uuid = i.uuid '
            "WHERE i.deleted = 0 AND i.vm_state = 'error' "
            "AND i.host IS NULL "
            "AND LEFT(f.message, 16) = 'MessagingTimeout'")}
        self.servers, self.devices = {}, []
        #: {migration uuid, as which Nova claims: (server id, its status)}
        self.moves = {}
        self.host_of_node = {}
        for cell in self.cells:
            for row in self._query(
                    cell, 'SELECT uuid, display_name, vm_state, task_state, '
                    'host FROM instances WHERE deleted = 0'):
                self.servers[row[0]] = Server(
                    *row, *specs.get(row[0], (0, False)))
            self.devices += self._query(
                cell, 'SELECT c.host, p.address, p.status, p.instance_uuid '
                'FROM pci_devices p JOIN compute_nodes c '
                'ON c.id = p.compute_node_id WHERE p.deleted = 0')
            self.host_of_node.update(self._query(
                cell, 'SELECT uuid, host FROM compute_nodes '
                'WHERE deleted = 0'))
            self.moves.update({row[0]: row[1:] for row in self._query(
                cell, 'SELECT uuid, instance_uuid, status FROM migrations '
                'WHERE status NOT IN (%s)' % ', '.join(
                    "'%s'" % status for status in _MIGRATION_OVER))})
        #: The servers that move; of others a migration may be left.
        self.moving = {server for server, _ in self.moves.values()
                       if server in self.servers}

    def _read_placement(self):
        self.allocations = collections.defaultdict(set)
        for consumer, provider in self._query(
                'placement', 'SELECT a.consumer_id, r.name FROM allocations '
                'a JOIN resource_providers r '
                'ON r.id = a.resource_provider_id'):
            self.allocations[consumer].add(provider)

    def _read_guests(self):
        #: {(host, server id): its PCI addresses}
        self.guests = {}
        for path in self.state.path('hosts').glob('*/guests/*.json'):
            try:
                guest = json.loads(path.read_text())
            except FileNotFoundError:
                continue
            self.guests[path.parents[1].name, guest['uuid']] = (
                guest['devices'])

    # What has to hold at any time

    def shared_devices(self):
        """GPUs in two servers."""
        owners = collections.defaultdict(set)
        for (host, server), addresses in self.guests.items():
            # The guest of a server that was deleted while its host was down
            # stays until Nova's periodic task; it is no server any more.
            if server in self.servers:
                for address in addresses:
                    owners[host, address].add(server)
        return ['the GPU %s of %s is in the servers %s' % (
            address, host, sorted(servers))
            for (host, address), servers in owners.items()
            if len(servers) > 1]

    # What has to hold once all is quiet

    def all(self, back):
        """Every check there is.

        :param back: since when all services run, naive UTC.
        """
        return (self.shared_devices() + self.held_by_nobody() +
                self.wrong_devices() + self.idle() + self.overdue(back) +
                self.half_done() + self.unknown() + self.unleased() +
                self.leases_of_nobody() + self.stuck() + self.moved())

    def held_by_nobody(self):
        """Devices, allocations and guests without a server on that host."""
        found = []
        for host, address, status, server in self.devices:
            if status in ('available', 'removed'):
                continue
            holder = self.servers.get(server)
            if holder is None or holder.offloaded:
                found.append('the GPU %s of %s is %s by %s, which is %s' % (
                    address, host, status, server, holder or 'gone'))
        for consumer, providers in self.allocations.items():
            holder = self.servers.get(consumer)
            if ((holder is None or holder.offloaded) and
                    not self._moves(consumer)):
                found.append('Placement: %s on %s by %s' % (
                    consumer, sorted(providers), holder or 'nobody'))
        for host, server in self.guests:
            holder = self.servers.get(server)
            if ((holder is None or holder.host != host) and
                    server not in self.moving):
                found.append('the guest of %s on %s belongs to %s' % (
                    server, host, holder or 'nobody'))
        return found

    def _moves(self, consumer):
        """Whether a consumer is the migration of a server that moves."""
        return (consumer in self.moves and
                self.moves[consumer][0] in self.moving)

    def wrong_devices(self):
        """Running servers whose devices are not those that they asked for."""
        held = collections.defaultdict(set)
        for host, address, status, server in self.devices:
            if status in ('claimed', 'allocated'):
                held[server].add((host, address))
        found = []
        for server in self.servers.values():
            if server.vm_state != 'active' or server.id in self.moving:
                continue
            guest = {(server.host, address) for address in
                     self.guests.get((server.host, server.id), ())}
            if len(guest) != server.gpus or guest != held[server.id]:
                found.append('%s has the devices %s, its guest %s' % (
                    server, sorted(held[server.id]), sorted(guest)))
            if self.allocations.get(server.id) is None:
                found.append('%s has no allocation' % server)
        return found

    def idle(self):
        """Free GPUs while somebody whom they would serve waits."""
        free = collections.Counter(
            host for host, address, status, server in self.devices
            if status == 'available')
        found, first = [], True
        for request in self.requests:
            if request.state != 'QUEUED':
                continue
            usable = dict(free)
            if not first:
                for node, kept in self.reservations.items():
                    for uuid, alias, count in kept:
                        host = self.host_of_node.get(node)
                        if uuid != request.uuid and host in usable:
                            usable[host] -= (usable[host] if count is None
                                             else count)
            first = False
            if sum(max(count, 0) // request.gpus
                   for count in usable.values()) >= request.num_servers:
                found.append('%s waits, with %s free and %s kept for '
                             'others' % (request, dict(free),
                                         self.reservations))
        return found

    def overdue(self, back):
        """Leases that should have ended a minute ago."""
        limit = datetime.timedelta(seconds=60)
        return ['%s is overdue by %s' % (lease, self.now - lease.expires_at)
                for lease in self.leases.values()
                if lease.state in ('ACTIVE', 'EXPIRING', 'ERROR') and
                lease.expires_at and
                self.now - max(lease.expires_at, back) > limit]

    def half_done(self):
        """Requests and leases in a state that passes by itself."""
        return (['%s is being started' % request for request in self.requests
                 if request.state == 'DISPATCHING'] +
                ['%s is being built' % lease
                 for lease in self.leases.values()
                 if lease.state == 'BUILDING'])

    def unknown(self):
        """Servers in BUILD that nobody builds."""
        return ['the server %s is in BUILD and has no lease' % server
                for server, (gpus, hinted) in self.building.items()
                if hinted and server not in self.leases] + [
            '%s is in BUILD, its lease: %s' % (
                server, self.leases.get(server.id))
            for server in self.servers.values()
            if server.vm_state == 'building']

    def unleased(self):
        """Servers that asked for a lease, have devices, and no lease."""
        running = ('ACTIVE', 'EXPIRING', 'ERROR')
        holders = {server for _, _, _, server in self.devices}
        return ['%s runs, its lease: %s' % (
            server, self.leases.get(server.id))
            for server in self.servers.values()
            if (server.vm_state == 'active' or
                server.vm_state == 'error' and server.id in holders) and
            server.gpus and server.hinted and not (
                server.id in self.leases and
                self.leases[server.id].state in running)]

    def leases_of_nobody(self):
        """Current leases without the server that they are for."""
        found = []
        for lease in self.leases.values():
            server = self.servers.get(lease.server_id)
            waits = lease.state == 'QUEUED' and (
                lease.server_id in self.building or
                (server and server.offloaded))
            runs = (lease.state != 'QUEUED' and server and
                    not server.offloaded)
            if not (waits or runs or lease.state == 'BUILDING'):
                found.append('%s is for %s' % (lease, server or 'no server'))
        return found

    def stuck(self):
        """Servers that are busy with something that nobody does."""
        return ['%s is stuck' % server for server in self.servers.values()
                if server.task_state and not (
                    server.task_state == 'unshelving' and
                    server.id in self.leases)]

    def moved(self):
        """Servers whose move is not over."""
        return ['%s moves: its migration is %s' % (
            self.servers[server], status)
            for server, status in self.moves.values()
            if server in self.servers]

    def abandoned(self):
        """Servers without a lease that are busy.

        Nova leaves them so when a service dies in the middle of what it was
        asked for; those with a lease are freed when that ends.
        """
        return [server for server in self.servers.values()
                if server.task_state and server.id not in self.leases]

    def leaked_by_nova(self):
        """Ids of servers whose allocation Nova itself has leaked.

        Its conductor buries a server when the scheduler does not answer in
        time, and asks nobody to give back what is claimed after that. None of
        these ever had a lease: those are not buried for it.
        """
        return sorted((self.unanswered - self.leased) &
                      self.allocations.keys())

    def lost_by_nova(self):
        """The same of servers that never got further than the API.

        Its conductor died while it asked the scheduler, and nobody looks for
        them. Those that are just being started look alike: it is for a time
        at which nothing is started any more.
        """
        return sorted({server for server, (_, hinted) in self.building.items()
                       if not hinted} & self.allocations.keys())

    def told(self):
        """The whole of it, for the report of a failure."""
        lines = [*map(str, self.servers.values()),
                 *map(str, self.leases.values()), *map(str, self.requests)]
        lines += ['device %s %s %s %s' % row for row in self.devices]
        lines += ['guest %s %s' % item for item in self.guests.items()]
        lines += ['allocation %s %s' % (consumer, sorted(providers))
                  for consumer, providers in self.allocations.items()]
        lines += ['BuildRequest %s' % server for server in self.building]
        lines.append('reservations %s' % self.reservations)
        return '\n'.join(lines)


def _wants(spec):
    """The GPUs, and whether the hint gpu_lease is in a RequestSpec."""
    spec = spec['nova_object.data']
    flavor = spec['flavor']['nova_object.data']
    alias = flavor.get('extra_specs', {}).get('pci_passthrough:alias', ':0')
    return (int(alias.partition(':')[2]),
            'gpu_lease' in (spec.get('scheduler_hints') or {}))
