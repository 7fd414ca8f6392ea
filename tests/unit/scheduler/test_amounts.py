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


"""What servers with devices have allocated besides."""

import collections

import fixtures
from keystoneauth1 import exceptions as ks_exc

from nova_gpu_lease.scheduler import amounts
from tests import base

Answer = collections.namedtuple('Answer', 'allocations')


class AmountsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.seconds = 0.0
        self.useFixture(fixtures.MonkeyPatch(
            'time.monotonic', lambda: self.seconds))
        self.memory = {'a': 1, 'b': 2, 'cpu': 3}
        self.asked = []
        self.amounts = amounts.Amounts()
        self.amounts.begin(['n', 'm'])

    def get_allocations_for_resource_provider(self, context, node):
        self.asked.append(node)
        if self.memory is None:
            raise ks_exc.ConnectFailure()
        return Answer({server: {'resources': {'MEMORY_MB': number}}
                       for server, number in self.memory.items()})

    def of(self, *servers, node='n'):
        found = self.amounts.of(None, self, node, set(servers))
        return found if found is None else {
            server: some.get('MEMORY_MB') for server, some in found.items()}

    def test_read_once(self):
        self.assertEqual({}, self.of())
        self.assertEqual([], self.asked)
        for _ in range(2):
            self.assertEqual({'a': 1}, self.of('a'))
        self.assertEqual({'a': 1, 'b': 2}, self.of('a', 'b'))
        self.assertEqual({'a': 1}, self.of('a'))
        self.assertEqual(['n', 'n'], self.asked)
        # One that has lost its allocation has nothing.
        self.assertEqual({'c': None}, self.of('c'))
        self.assertEqual({'c': None}, self.of('c'))
        self.assertEqual(3, len(self.asked))

    def test_resized_meanwhile(self):
        self.of('a')
        self.memory['a'] = 9
        self.assertEqual({'a': 1}, self.of('a'))
        self.seconds += amounts.OLD + 1
        self.assertEqual({'a': 9}, self.of('a'))

    def test_placement_is_away(self):
        self.memory = None
        self.assertIsNone(self.of('a'))
        self.memory = {'a': 1}
        self.assertEqual({'a': 1}, self.of('a'))
        self.memory = None
        self.seconds += amounts.OLD + 1
        self.assertEqual({'a': 1}, self.of('a'))

    def test_no_more_than_some_nodes_in_one_survey(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.scheduler.amounts.MOST', 1))
        self.amounts.begin(['n', 'm'])
        self.assertEqual({'a': 1}, self.of('a'))
        self.assertIsNone(self.of('a', node='m'))
        self.amounts.begin(['m'])
        self.assertEqual({'a': 1}, self.of('a', node='m'))
        self.amounts.begin(['n'])
        self.assertEqual({'a': 1}, self.of('a'))
        self.assertEqual(['n', 'm', 'n'], self.asked)

    def test_old_ones_are_asked_for_little_by_little(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_gpu_lease.scheduler.amounts.MOST_OLD', 1))
        for node in 'nm':
            self.of('a', node=node)
        self.seconds += amounts.OLD + 1
        self.amounts.begin(['n', 'm'])
        for node in 'nmnm':
            self.assertEqual({'a': 1}, self.of('a', node=node))
        self.assertEqual(['n', 'm', 'n'], self.asked)
        self.amounts.begin(['n', 'm'])
        for node in 'nm':
            self.of('a', node=node)
        self.assertEqual(['n', 'm', 'n', 'm'], self.asked)
