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

import testtools

from gpu_lease_client import columns


class TestFormatDuration(testtools.TestCase):

    def test_all_units(self):
        for seconds, text in (
                (0, '0s'), (1, '1s'), (59, '59s'), (60, '1m'), (61, '1m 1s'),
                (3600, '1h'), (3601, '1h 1s'), (7190, '1h 59m 50s'),
                (86399, '23h 59m 59s'), (86400, '1d'), (129600, '1d 12h'),
                (31536001, '365d 1s')):
            self.assertEqual(text, columns.format_duration(seconds))

    def test_two_units_are_cut_not_rounded(self):
        for seconds, text in (
                (0, '0s'), (59, '59s'), (119, '1m 59s'), (7199, '1h 59m'),
                (3601, '1h'), (86399, '23h 59m'), (86401, '1d'),
                (172799, '1d 23h')):
            self.assertEqual(
                text, columns.format_duration(seconds, parts=2))


class TestColumns(testtools.TestCase):

    def _check(self, column, raw, text):
        self.assertEqual(text, column(raw).human_readable())
        self.assertEqual(raw, column(raw).machine_readable())

    def test_raw_value_is_kept(self):
        self._check(columns.OptionalColumn, 3, '3')
        self._check(columns.DurationColumn, 5405, '1h 30m 5s')
        self._check(columns.ShortDurationColumn, 5405, '1h 30m')
        self._check(columns.DevicesColumn, {'gpu': 2}, 'gpu=2')
        self._check(columns.DevicesColumn, {'t4': 1, 'a100': 2},
                    'a100=2, t4=1')
        self._check(columns.ServersColumn, ['vm-1'], 'vm-1')

    def test_missing_value_is_an_empty_cell(self):
        for column in (columns.OptionalColumn, columns.DurationColumn,
                       columns.ShortDurationColumn, columns.DevicesColumn,
                       columns.ServersColumn):
            self._check(column, None, '')

    def test_many_servers_are_cut_for_people_only(self):
        names = ['vm-%d' % each for each in range(50)]
        self._check(columns.ServersColumn, names,
                    'vm-0, vm-1, vm-2 and 47 more')
        self._check(columns.ServersColumn, names[:3], 'vm-0, vm-1, vm-2')
        self._check(columns.ServersColumn, ['vm-0', None], 'vm-0, ?')

    def test_missing_values_sort_last(self):
        made = [columns.DurationColumn(value) for value in (9, None, 1, 0)]
        self.assertEqual(
            [0, 1, 9, None],
            [column.machine_readable() for column in sorted(made)])
