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


from unittest import mock

import ddt
from nova import objects
from nova.scheduler import weights as nova_weights
from nova.scheduler.weights import pci
from oslo_utils import uuidutils

from nova_gpu_lease.db import api as db
from nova_gpu_lease.planner import model
from nova_gpu_lease.planner import score
from nova_gpu_lease.scheduler import landscape
from nova_gpu_lease.scheduler import weights
from tests.unit.db import base
from tests.unit.scheduler import hosts
from tests.unit.scheduler.hosts import pool

#: Free devices of three hosts.
MIXED = {'a': [pool('gpu', 3), pool('big', 1)],
         'b': [pool('gpu', 1), pool('big', 4), pool('nic', 8)],
         'c': [pool('gpu', 2)]}


@ddt.ddt
class GPULeaseWeigherTest(hosts.TestCase):
    def setUp(self):
        super().setUp()
        self.flags(aliases=['gpu', 'big', 'any'])

    def order(self, pools, spec, aggregates=None, others=()):
        """The names of hosts, best first."""
        states = [hosts.host(name, some) for name, some in pools.items()]
        for state in states:
            state.aggregates = (aggregates or {}).get(state.host, [])
        weighed = nova_weights.HostWeightHandler().get_weighed_objects(
            [weights.GPULeaseWeigher(), *others], states, spec)
        return ''.join(one.obj.host for one in weighed)

    @ddt.data(
        # What is asked for, order with the default, with a negative
        # multiplier and with zero: then all are as they came.
        ({'gpu': 1}, 'bca', 'acb', 'abc'),
        ({'big': 1}, 'cab', 'bac', 'abc'),
        ({'any': 2}, 'cab', 'bac', 'abc'),
        ({'gpu': 1, 'big': 1}, 'cab', 'bac', 'abc'),
        # Hosts with GPUs are last, and others as they came.
        ({}, 'abc', 'abc', 'abc'),
        ({'nic': 1}, 'abc', 'abc', 'abc'))
    @ddt.unpack
    def test_order(self, counts, packed, spread, off):
        for multiplier, expected in ((100, packed), (-100, spread), (0, off)):
            self.flags(weight_multiplier=multiplier)
            self.assertEqual(expected,
                             self.order(MIXED, hosts.spec(**counts)))

    def test_hosts_without_gpu_are_best_without_gpu(self):
        pools = {'a': [pool('gpu', 1)], 'b': [pool('nic', 4)], 'c': []}
        for spec in (hosts.spec(), hosts.spec(nic=1)):
            self.assertEqual('bca', self.order(pools, spec))
        spec = hosts.spec()
        spec.pci_requests = None
        self.assertEqual('bca', self.order(pools, spec))

    def test_host_whose_gpus_are_all_used_is_known(self):
        with mock.patch.object(landscape, 'gpu_nodes',
                               return_value={hosts.node_uuid('a')}):
            self.assertEqual('ba', self.order({'a': [], 'b': []},
                                              hosts.spec()))

    def test_multiplier_of_aggregate(self):
        aggregate = objects.Aggregate(
            metadata={'gpu_lease_weight_multiplier': '-1'})
        self.assertEqual('cab', self.order(
            MIXED, hosts.spec(gpu=1), {'b': [aggregate]}))

    def test_stronger_than_the_weigher_for_all_devices(self):
        self.assertEqual('bca', self.order(
            MIXED, hosts.spec(gpu=1), others=[pci.PCIWeigher()]))

    @ddt.data(100, 0, -100)
    def test_planned_host_is_first(self, multiplier):
        self.flags(weight_multiplier=multiplier)
        servers = [uuidutils.generate_uuid() for _ in 'abc']
        leases = self.place(*servers)
        for lease, name in zip(leases, 'abc'):
            db.lease_set(lease, node_uuid=hosts.node_uuid(name))
        for server, name in zip(servers, 'abc'):
            self.assertEqual(name, self.order(
                MIXED, hosts.spec(server, gpu=1))[0])

    def test_host_of_running_lease_is_not_preferred(self):
        server = uuidutils.generate_uuid()
        self.activate(server, lease={'node_uuid': hosts.node_uuid('a')})
        self.assertEqual('bca', self.order(MIXED, hosts.spec(server, gpu=1)))

    def test_least_left_before_scarce_before_equal(self):
        pools = {'a': [pool('big', 2)], 'b': [pool('gpu', 2)],
                 'c': [pool('big', 1)], 'd': [pool('gpu', 2)]}
        # There are fewer big ones.
        self.assertEqual('cbda', self.order(pools, hosts.spec(any=1)))
        with mock.patch.object(landscape, 'supply', return_value={
                frozenset(['gpu', 'any']): 4, frozenset(['big', 'any']): 9}):
            # Used ones count, too.
            self.assertEqual('cabd', self.order(pools, hosts.spec(any=1)))

    def test_leases_that_end_at_the_same_time_come_together(self):
        server = uuidutils.generate_uuid()
        pools = {name: [pool('gpu', 2)] for name in 'abcd'}
        hour = base.seconds(3600)
        for name, length in (('a', 9), ('b', 1), ('c', 4)):
            self.activate(uuidutils.generate_uuid(), lease={
                'node_uuid': hosts.node_uuid(name)},
                duration=length * 3600)
        db.plan_save({})
        self.activate(server, started_at=base.NOW + 8 * hour, duration=3600)
        # What nobody uses stays whole.
        self.assertEqual('acbd', self.order(
            pools, hosts.spec(server, gpu=1)))
        # Without a lease it never ends; nor does any of theirs.
        self.assertEqual('abcd', self.order(pools, hosts.spec(gpu=1)))

    def test_weights_are_ranks(self):
        states = [hosts.host(name, [pool('gpu', count)]) for name, count in (
            ('a', 8), ('b', 1), ('c', 1), ('d', 2))]
        weighed = nova_weights.HostWeightHandler().get_weighed_objects(
            [weights.GPULeaseWeigher()], states, hosts.spec(gpu=1))
        self.assertEqual(
            [('b', 100), ('c', 100), ('d', 50), ('a', 0)],
            [(one.obj.host, one.weight) for one in weighed])

    @ddt.data('gpu', 'any')
    def test_order_is_that_of_the_planner(self, alias):
        """The best host is the one that the planner would start on."""
        states = {name: hosts.host(name, pools)
                  for name, pools in MIXED.items()}
        nodes = {name: model.Node(name, tuple(
            model.Pool(str(number), some['count'],
                       weights.devices.matcher()(some))
            for number, some in enumerate(pools)))
            for name, pools in MIXED.items()}
        best = min(nodes, key=lambda name: score.default(
            False, score.left(nodes[name].pools, {alias: 1}),
            score.apart(score.NEVER, score.UNUSED),
            score.rarest(nodes[name].pools, {alias: 1}, {}), name))
        weighed = nova_weights.HostWeightHandler().get_weighed_objects(
            [weights.GPULeaseWeigher()], list(states.values()),
            hosts.spec(**{alias: 1}))
        self.assertEqual(best, weighed[0].obj.host)
