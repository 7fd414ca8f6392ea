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

"""The conductor's RPC methods of namespace ``gpu_lease``, client side."""

import oslo_messaging as messaging

from nova.conductor import rpcapi as nova_rpcapi
from nova.objects import base as objects_base
from nova import profiler
from nova import rpc

NAMESPACE = 'gpu_lease'

#: In the filter properties of a cast that builds a server: the generation of
#: its lease at that dispatch.
STAMP = 'gpu_lease_generation'

#: The fault of a server that a nova-compute, as it started, found half-built,
#: or only sent to it. If it is on no host its build may be tried again.
INTERRUPTED = 'nova-compute was restarted before it had built the server'
#: The same of one that was being shelved.
SHELVE_INTERRUPTED = 'nova-compute was restarted before it had shelved it'

#: Seconds to wait for an answer. All of these calls are short; one that a
#: conductor took with it when it died is repeated by whoever asked.
TIMEOUT = 15


@profiler.trace_cls('rpc')
class ConductorAPI:
    """What nova-compute and nova-api ask of a nova-gpu-lease-conductor.

    Version history:

    * 1.0 - sync_host, lease_due, build_allowed, build_finished, wake
    * 1.1 - build_allowed and build_finished have a generation,
      server_changed
    * 1.2 - lease_off, woken
    * 1.3 - is_building
    """

    def __init__(self):
        target = messaging.Target(topic=nova_rpcapi.RPC_TOPIC,
                                  namespace=NAMESPACE, version='1.3')
        self.client = rpc.get_client(
            target, serializer=objects_base.NovaObjectSerializer())

    def sync_host(self, context, host, servers, devices_changed):
        """Tell what runs on a host, and learn which leases it has.

        :param host: the host of the nova-compute.
        :param servers: a list of {'id', 'vm_state', 'task_state',
            'launched_at', 'flavor', 'off'}, one for each server on the
            host; launched_at is ISO 8601 or None, flavor a name, off is for
            the caller itself.
        :param devices_changed: whether the free devices of the host, or the
            host itself, changed since the last call: wakes the dispatcher.
        :returns: a list of {'uuid', 'server_id', 'state', 'generation',
            'started_at', 'expires_at', 'duration', 'auto_extend'}, one for
            each current lease of the host; times ISO 8601 or None, duration
            in seconds.
        """
        return self.client.prepare(version='1.0', timeout=TIMEOUT).call(
            context, 'sync_host', host=host, servers=servers,
            devices_changed=devices_changed)

    def lease_due(self, context, lease_uuid, generation):
        """Say that the end of a lease has come.

        :param generation: that of the lease as the caller knows it.
        :returns: the lease as it is then, as from sync_host; None when it is
            gone.
        """
        return self.client.prepare(version='1.0', timeout=TIMEOUT).call(
            context, 'lease_due', lease_uuid=lease_uuid,
            generation=generation)

    def lease_off(self, context, lease_uuid, generation, seconds):
        """Say that a server was powered off for so long that its lease ends.

        :param generation: that of the lease as the caller knows it.
        :param seconds: how long it was to be off for that.
        :returns: as lease_due; the lease is what it was if the server is not
            off any more.
        """
        return self.client.prepare(version='1.2', timeout=TIMEOUT).call(
            context, 'lease_off', lease_uuid=lease_uuid,
            generation=generation, seconds=seconds)

    def build_allowed(self, context, server_id, host, generation):
        """Ask whether a build that reached a host is still wanted.

        If it is, it counts as begun: nobody else gets it from then on.

        :param generation: the STAMP of the cast, or None without one.
        :returns: False when the server's lease is not being built, or is
            being built on another host, or by a later dispatch.
        """
        return self.client.prepare(version='1.1', timeout=TIMEOUT).call(
            context, 'build_allowed', server_id=server_id, host=host,
            generation=generation)

    def is_building(self, context, server_id, host):
        """Ask whether a server has a lease that is being built on a host."""
        return self.client.prepare(version='1.3', timeout=TIMEOUT).call(
            context, 'is_building', server_id=server_id, host=host)

    def build_finished(self, context, host, server_id, ok, message,
                       generation):
        """Tell how a build ended.

        :param ok: whether the server runs.
        :param message: why it does not, a str or None.
        :param generation: the STAMP of the cast it was built by, or None.
        """
        self.client.prepare(version='1.1').cast(
            context, 'build_finished', host=host, server_id=server_id, ok=ok,
            message=message, generation=generation)

    def server_changed(self, context, server_id):
        """Tell that a server was moved, or changed its flavor."""
        self.client.prepare(version='1.1').cast(
            context, 'server_changed', server_id=server_id)

    def wake(self, context):
        """Have the queue looked at soon."""
        self.client.prepare(version='1.0').cast(context, 'wake')

    def woken(self, context):
        """Tell all conductors that the wake-up counter was raised.

        They look at it by themselves, only later; a message that is lost is
        not missed.
        """
        self.client.prepare(version='1.2', fanout=True, retry=0).cast(
            context, 'woken')
