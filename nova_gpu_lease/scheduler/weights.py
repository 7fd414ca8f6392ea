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


"""Which of the hosts that pass is best for a server with or without a GPU."""

from nova.scheduler import utils
from nova.scheduler import weights

from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease.scheduler import devices
from nova_gpu_lease.scheduler import filters
from nova_gpu_lease.scheduler import landscape
from nova_gpu_lease import states

#: More than all other weighers together can give.
PLANNED = 1e9


class GPULeaseWeigher(weights.BaseHostWeigher):
    """The planned host first; then the one where least is broken up.

    A server with a GPU goes where the fewest devices of the aliases it asks
    for are free; other devices do not count. A server without one goes,
    rather, where no GPUs are. The weights are final: the multiplier is in
    them, so that neither zero nor a negative one loses the planned host.
    """

    # With these Nova's normalisation changes nothing.
    minval = 0.0
    maxval = 1.0

    def weigh_objects(self, weighed_obj_list, weight_properties):
        """Weigh all hosts; at most one query for all of them."""
        hosts = [weighed.obj for weighed in weighed_obj_list]
        raw = [self._weigh_object(host, weight_properties) for host in hosts]
        low, high = min(raw), max(raw)
        result = [
            0.0 if low == high else
            self._multiplier(host) * (weight - low) / (high - low)
            for host, weight in zip(hosts, raw)]
        planned = self._planned_node(weight_properties)
        return [weight + PLANNED if host.uuid == planned else weight
                for host, weight in zip(hosts, result)]

    def _weigh_object(self, host_state, request_spec):
        """The number of devices that would be broken up, negative."""
        pools = host_state.pci_stats.pools if host_state.pci_stats else ()
        wanted = {request.alias_name: request for request in (
            request_spec.pci_requests.requests
            if request_spec.pci_requests else ())
            if filters.is_gpu(request)}
        if wanted:
            return -sum(pool['count'] for pool in pools
                        if devices.matching(pool, _ones(wanted)))
        # Used devices are not among the pools.
        return -1 if host_state.uuid in landscape.gpu_nodes() or any(
            devices.matching(pool, _gpus()) for pool in pools) else 0

    @staticmethod
    def _multiplier(host):
        return utils.get_weight_multiplier(
            host, 'gpu_lease_weight_multiplier',
            CONF.gpu_lease.weight_multiplier)

    @staticmethod
    def _planned_node(spec):
        if not filters.asks_for_gpu(spec):
            return None
        lease, _gang, _reservations = db.scheduling_view(spec.instance_uuid)
        if lease and lease.state == states.LEASE_BUILDING:
            return lease.node_uuid
        return None


def _ones(requests):
    """The same requests for one device each."""
    result = {}
    for name, request in requests.items():
        result[name] = request.obj_clone()
        result[name].count = 1
    return result


def _gpus():
    return {alias: request for alias, request in devices.aliases().items()
            if filters.is_gpu(request)}
