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

"""Which cell has what."""

from oslotest import base

from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import options
from tests.unit.devcloud import fixture


class CellsTest(base.BaseTestCase):

    def state(self, **asked):
        return self.useFixture(fixture.StateFixture(**asked)).state

    def test_one_cell_shares_all_with_the_api(self):
        state = self.state()
        self.assertEqual(['cell1'], cells.names(state))
        self.assertEqual([], cells.separate(state))
        self.assertEqual('nova', cells.api_database(state))
        self.assertEqual('', cells.virtual_host(state, 'cell1'))

    def test_several_cells_have_their_own(self):
        state = self.state(hosts=3, cells=2)
        self.assertEqual(['nova', 'nova_cell2'], cells.databases(state))
        self.assertEqual('nova_cell0', cells.api_database(state))
        self.assertEqual('cell2', cells.virtual_host(state, 'cell2'))
        self.assertEqual(
            ['cell1', 'cell2', 'cell1'],
            [cells.of_host(state, 'host%d' % each) for each in (1, 2, 3)])

    def test_number_of_cells_is_for_good(self):
        state = self.state(cells=2)
        options.update(state, {'cells': 2}, False)
        error = self.assertRaises(exceptions.DevcloudError, options.update,
                                  state, {'cells': 1}, False)
        self.assertIn('--cells', str(error))
        self.assertIn('"down" first', str(error))

    def test_cloud_of_an_earlier_version_has_one(self):
        state = self.state()
        del state.data['options']['cells']
        self.assertEqual(1, cells.count(state))
        options.update(state, {'cells': 1}, True)

    def test_no_cell_is_refused(self):
        self.assertRaises(exceptions.DevcloudError, options.new, {'cells': 0})
