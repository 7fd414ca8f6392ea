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


"""One query for filter and weigher together."""

import gc
from unittest import mock

import fixtures
from nova.scheduler import weights as nova_weights
from oslo_utils import uuidutils

from nova_gpu_lease.db import api as db
from nova_gpu_lease.scheduler import filters
from nova_gpu_lease.scheduler import view
from nova_gpu_lease.scheduler import weights
from tests.unit.scheduler import hosts


class ViewTest(hosts.TestCase):
    def setUp(self):
        super().setUp()
        self.filter = filters.GPULeaseFilter()
        self.weigher = weights.GPULeaseWeigher()
        self.queries = self.useFixture(fixtures.MockPatchObject(
            db, 'scheduling_view', wraps=db.scheduling_view)).mock

    def schedule(self, spec, names='ab'):
        """Filter and weigh as Nova does.

        :returns: the names of the hosts, best first.
        """
        states = list(self.filter.filter_all(
            [hosts.host(name, [hosts.pool('gpu', 4)]) for name in names],
            spec))
        return [weighed.obj.host for weighed in
                nova_weights.HostWeightHandler().get_weighed_objects(
                    [self.weigher], states, spec)]

    def test_one_query_for_filter_and_weigher(self):
        for number in (2, 5):
            self.schedule(hosts.spec(gpu=1), 'abcdef'[:number])
            self.assertEqual(1, self.queries.call_count)
            self.queries.reset_mock()
        self.flags(aliases=['gpu'])
        self.schedule(hosts.spec(nic=1))
        self.schedule(hosts.spec())
        self.queries.assert_not_called()

    def test_weigher_alone_asks_itself(self):
        states = [hosts.host(name, [hosts.pool('gpu')]) for name in 'ab']
        nova_weights.HostWeightHandler().get_weighed_objects(
            [self.weigher], states, hosts.spec(gpu=1))
        self.assertEqual(1, self.queries.call_count)

    def test_gang_is_asked_for_once(self):
        servers = [uuidutils.generate_uuid() for _ in 'abc']
        for lease, name in zip(self.place(*servers), 'abb'):
            db.lease_set(lease, node_uuid=hosts.node_uuid(name))
        spec = hosts.spec(servers[0], gpu=1)
        for server, name in zip(servers, 'abb'):
            spec.instance_uuid = server
            self.assertEqual(name, self.schedule(spec, 'abc')[0])
        self.assertEqual(1, self.queries.call_count)

    def test_others_see_the_plan_of_the_moment(self):
        """Those of one call, too: it may take a while."""
        spec = hosts.spec(gpu=1)
        self.assertEqual(['a', 'b'], self.schedule(spec))
        db.plan_save({hosts.node_uuid('a'): [['other', 'gpu', None]]})
        spec.instance_uuid = uuidutils.generate_uuid()
        self.assertEqual(['b'], self.schedule(spec))
        self.assertEqual(2, self.queries.call_count)

    def test_requests_of_other_threads_have_their_own(self):
        specs = [hosts.spec(gpu=1) for _ in range(2)]
        for number, spec in enumerate(specs):
            with mock.patch.object(view, '_query', return_value=view.View(
                    spec.instance_uuid, {}, {}, {'n': number}, -1)):
                view.read(spec)
        self.assertEqual([0, 1], [view.of(spec).ends['n'] for spec in specs])

    def test_nothing_is_kept(self):
        before = len(view._read)
        self.schedule(hosts.spec(gpu=1))
        gc.collect()
        self.assertLessEqual(len(view._read), before)
