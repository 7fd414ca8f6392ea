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

"""What the tests of server actions have in common: two hosts, one lease.

``doc/source/reference/server-actions.rst`` has a row for each of these tests.
"""

import copy

from nova import context as nova_context
from nova import objects

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.db import api as db
from tests.functional import base


class ActionMixin:
    """What is done with a leased server on one of two hosts, and checked."""

    def leased(self, name='one', hints=None, **values):
        """A server that runs with a lease; its id."""
        server = self.create(name, hints, **values)
        self.wait_for_lease(server, 'ACTIVE')
        self.wait_for_status(server, 'ACTIVE')
        return server

    def act(self, server, action, body=None, api=None):
        """Do something with a server, as an administrator."""
        (api or self.admin_api).post_server_action(server, {action: body})

    def other(self, host):
        return {'host1': 'host2', 'host2': 'host1'}[host]

    def admin_of(self, microversion):
        """An administrator's client that speaks another microversion."""
        api = copy.copy(self.admin_api)
        api.microversion = microversion
        return api

    def wait_until_idle(self, server, status):
        """Wait until a server has a status and does nothing."""
        self.wait_for_status(server, status)
        self.wait_for('the end of the task', lambda: self.api.get_server(
            server)['OS-EXT-STS:task_state'] is None)

    def faults(self, server):
        """The messages of all faults that a server had."""
        instance = self.instance(server)
        return [fault.message for fault in
                objects.InstanceFaultList.get_by_instance_uuids(
                    instance._context, [server])]

    def held(self, server):
        """How many devices a server holds on each host that has some."""
        counts = {host: sum(holder == server for holder
                            in self.devices(host).values())
                  for host in self.computes}
        return {host: count for host, count in counts.items() if count}

    def wait_for_held(self, server, counts):
        """Wait until a server holds so many devices on each host."""
        self.wait_for(lambda: 'holds %s' % self.held(server),
                      lambda: self.held(server) == counts)

    def assert_goes_on(self, server, before, **changed):
        """The lease is the same one, and ends when it was to end."""
        lease = self.lease(server)
        for name in ('id', 'status', 'started_at', 'expires_at', 'devices',
                     'flavor', 'duration', 'end_action'):
            self.assertEqual(changed.get(name, before[name]), lease[name],
                             name)

    def end(self, server):
        """Let the lease of a server end now.

        What its compute says when the time has come is said here.
        """
        self.wait_for('the lease', lambda: db.lease_set(
            db.lease_current(server), expires_at=clock.now()))
        lease = db.lease_current(server)
        rpcapi.ConductorAPI().lease_due(
            nova_context.get_admin_context(), lease.uuid, lease.generation)
        self.assertNotEqual('ACTIVE', self.lease(server)['status'])

    def assert_ends_shelved(self, server):
        """Let the lease end: the server is shelved and all is free."""
        self.end(server)
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.assertEqual('shelved', self.wait_for_lease(
            server, 'EXPIRED')['end_action'])
        self.wait_for_held(server, {})
        self.assert_no_leaks()

    def blocked(self):
        """host1 is full, all of host2 is next for the head of the queue.

        :returns: the ids of a server on host1, one on host2, and the head.
        """
        here = [self.leased('here-%d' % number, host='host1',
                            api=self.admin_api) for number in (1, 2)]
        # It ends first, so that the head is promised this host.
        there = self.leased('there', hints={'gpu_lease': '30m'},
                            host='host2', api=self.admin_api)
        head = self.create('head', flavor=self.flavor('gpu:2'))
        self.wait_for_lease(head, 'QUEUED')
        self.wait_for('a plan', lambda: self.waiting() == [['head']] and
                      self.lease(head)['expected_start'])
        return here[0], there, head

    def assert_plan_adapts(self, server, there, head):
        """The head waits until nobody is on host2 who was moved there.

        The arguments are those of blocked(), once the first was moved.
        """
        self.assertEqual('QUEUED', self.lease(head)['status'])
        self.api.delete_server(there)
        self.wait_for_held(there, {})
        self.assertEqual('QUEUED', self.lease(head)['status'])
        self.api.delete_server(server)
        self.wait_for_status(head, 'ACTIVE')
        self.assertEqual('host2', self.host_of(head))


class ActionTestCase(ActionMixin, base.CloudTestCase):
    """Two hosts with two GPUs each."""

    GPUS = {'host1': {'gpu': 2}, 'host2': {'gpu': 2}}
