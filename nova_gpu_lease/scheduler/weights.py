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
from nova_gpu_lease.planner import score
from nova_gpu_lease.scheduler import devices
from nova_gpu_lease.scheduler import filters
from nova_gpu_lease.scheduler import landscape
from nova_gpu_lease.scheduler import view

#: More than all other weighers together can give.
PLANNED = 1e9


class GPULeaseWeigher(weights.BaseHostWeigher):
    """The planned host first; then the one where least is broken up.

    A server with a GPU goes where the planner would put it, see
    planner.score: Nova adds up what its weighers say, so the rank in that
    order is the weight. A server without one goes, rather, where no GPUs are.
    The weights are final: the multiplier is in them, so that neither zero nor
    a negative one loses the planned host.
    """

    # With these Nova's normalisation changes nothing.
    minval = 0.0
    maxval = 1.0

    def weigh_objects(self, weighed_obj_list, weight_properties):
        """Weigh all hosts; no query but the filter's."""
        hosts = [weighed.obj for weighed in weighed_obj_list]
        if not filters.asks_for_gpu(weight_properties):
            return _weights(hosts, _with_gpus(hosts))
        known = view.of(weight_properties)
        result = _weights(hosts, score.ranks(
            _keys(hosts, weight_properties, known)))
        planned = known.planned.get(weight_properties.instance_uuid)
        return [weight + PLANNED if host.uuid == planned else weight
                for host, weight in zip(hosts, result)]

    def _weigh_object(self, host_state, request_spec):
        """Nova wants it; one host alone is neither better nor worse."""
        return 0.0


def _weights(hosts, ranks):
    """From 1 for the first rank to 0 for the last, times the multiplier.

    :param ranks: for each host; 0 is the best, and somebody has it.
    """
    last = max(ranks)
    if not last:
        return [0.0] * len(hosts)
    everywhere = CONF.gpu_lease.weight_multiplier
    return [
        # Most hosts are in no aggregate that says anything.
        (utils.get_weight_multiplier(host, 'gpu_lease_weight_multiplier',
                                     everywhere)
         if host.aggregates else everywhere) * (1 - rank / last)
        for host, rank in zip(hosts, ranks)]


def _with_gpus(hosts):
    """Ranks of hosts for a server without a GPU: 1 where GPUs are."""
    # Used devices are not among the pools.
    known = landscape.gpu_nodes()
    gpus = {alias for alias, request in devices.aliases().items()
            if filters.is_gpu(request)}
    matches = devices.matcher()
    ranks = [
        1 if host.uuid in known or host.pci_stats and any(
            not gpus.isdisjoint(matches(pool))
            for pool in host.pci_stats.pools) else 0
        for host in hosts]
    # With GPUs everywhere none is better.
    return ranks if 0 in ranks else [0] * len(ranks)


def _keys(hosts, spec, known):
    """The planner's keys of hosts, without the order of the hosts.

    What is equal to the planner is left to Nova's other weighers.
    """
    asked = filters.gpu_requests(spec)
    free = _free(hosts, asked)
    scarcity = score.scarcities(landscape.supply() or _sum(free))
    number = sum(request.count for request in asked)
    return [
        score.default(
            False, sum(some.values()) - number,
            score.apart(known.era, known.ends.get(host.uuid, score.UNUSED)),
            max([scarcity.get(model, 0) for model in some], default=0), 0)
        for host, some in zip(hosts, free)]


def _free(hosts, asked):
    """The free devices of hosts that a request could use, by model.

    :param asked: its InstancePCIRequests for GPUs.
    :returns: for each host, {frozenset of aliases: number}.
    """
    names = frozenset(devices.aliases())
    # One look at a pool tells both.
    matches = devices.wanted(asked, devices.aliases())
    models = {}
    result = []
    for host in hosts:
        free = {}
        for pool in host.pci_stats.pools if host.pci_stats else ():
            found = matches(pool)
            if found not in models:
                models[found] = None if found <= names else found & names
            model = models[found]
            if model is not None:
                free[model] = free.get(model, 0) + pool['count']
        result.append(free)
    return result


def _sum(counts):
    total = {}
    for some in counts:
        for model, number in some.items():
            total[model] = total.get(model, 0) + number
    return total
