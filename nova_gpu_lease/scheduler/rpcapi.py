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


"""Client side of what we add to nova-scheduler."""

import oslo_messaging as messaging

from nova.objects import base as objects_base
from nova import rpc
from nova.scheduler import rpcapi as nova_rpcapi

from nova_gpu_lease.conf import CONF

NAMESPACE = 'gpu_lease'


class SchedulerAPI:
    """The ``gpu_lease`` namespace on the topic of nova-scheduler.

    * 1.0 - survey
    """

    def __init__(self):
        target = messaging.Target(topic=nova_rpcapi.RPC_TOPIC,
                                  namespace=NAMESPACE, version='1.0')
        self.client = rpc.get_client(
            target, serializer=objects_base.NovaObjectSerializer())

    def survey(self, context, requests):
        """Ask what there is, and who could run where but for the devices.

        :param requests: a list of {'uuid', 'server_id' (of its first
            server), 'num_servers', 'kind', and if needed 'ignore_hosts': a
            list of host names}.
        :returns: as :meth:`nova_gpu_lease.scheduler.survey.Endpoint.survey`.
        """
        # As long as Nova waits for a cell that does not answer, and more; a
        # scheduler that died is noticed all the same.
        client = self.client.prepare(
            timeout=CONF.long_rpc_timeout,
            call_monitor_timeout=CONF.rpc_response_timeout)
        return client.call(context, 'survey', requests=requests)
