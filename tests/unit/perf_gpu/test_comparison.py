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


"""Two results side by side."""

import copy
import pathlib

import fixtures
from oslotest import base

from perf.gpu import case
from perf.gpu import comparison
from perf.gpu import errors
from perf.gpu import groups
from tests.unit.perf_gpu import helpers

STEADY = [1.0, 1.001, 0.999, 1.0, 1.001, 0.999]


def times(factor):
    return [factor * value for value in STEADY]


def pair(**tests):
    """A host and a guest.

    :param tests: by name, with ``__`` for ``/``, the guest's factor of time.
    """
    names = {name.replace('__', '/'): factor
             for name, factor in tests.items()}
    return (helpers.result({name: ('ms', 'lower', times(1))
                            for name in names}, 'host'),
            helpers.result({name: ('ms', 'lower', times(factor))
                            for name, factor in names.items()}, 'guest'))


class CompareTest(base.BaseTestCase):

    def test_verdicts(self):
        found = comparison.compare(*pair(
            copy__a=1.25, copy__b=1.02, copy__c=1.1, copy__d=0.8))
        self.assertEqual(
            {'copy/a': 'over', 'copy/b': 'within', 'copy/c': 'undecided',
             'copy/d': 'within'},
            {row.name: row.verdict for row in found.rows})
        self.assertEqual(
            ['slower', 'none', 'slower', 'faster'],
            [row.ratio.change for row in found.rows])
        self.assertEqual(['copy/a'], [row.name for row in found.over])

    def test_limit_is_that_of_the_caller(self):
        results = pair(copy__a=1.25)
        self.assertEqual([], comparison.compare(*results, limit=0.5).over)
        self.assertEqual(1, len(comparison.compare(*results, limit=0).over))

    def test_rates_are_worse_when_smaller(self):
        host = helpers.result({'copy/a': ('MB/s', 'higher', times(100))})
        guest = helpers.result({'copy/a': ('MB/s', 'higher', times(80))})
        row, = comparison.compare(host, guest).rows
        self.assertAlmostEqual(1.25, row.ratio.value)
        self.assertAlmostEqual(100, row.host, places=3)
        self.assertAlmostEqual(80, row.guest, places=3)

    def test_more_tests_make_wider_joint_intervals(self):
        one = comparison.compare(*pair(copy__a=1)).rows[0].ratio
        many = comparison.compare(*pair(**{
            'copy__%d' % number: 1 for number in range(50)})).rows[0].ratio
        self.assertAlmostEqual(one.high, many.high)
        self.assertAlmostEqual(one.high, one.joint_high)
        self.assertGreater(many.joint_high, one.joint_high)

    def test_rows_are_in_the_order_of_groups_and_sizes(self):
        found = comparison.compare(*pair(
            cpu__pipe=1, matmul__x__1024=1, matmul__x__128=1, odd__one=1,
            copy__d2d__4MiB=1))
        self.assertEqual(
            ['copy/d2d/4MiB', 'matmul/x/128', 'matmul/x/1024', 'cpu/pipe',
             'odd/one'], [row.name for row in found.rows])
        self.assertEqual(['copy', 'matmul', 'cpu', 'odd'],
                         list(found.groups()))

    def test_too_few_rounds_have_no_verdict(self):
        host, guest = pair(copy__a=2, copy__b=1)
        del guest['tests']['copy/a']['rounds'][2:]
        found = comparison.compare(host, guest)
        self.assertIsNone(found.rows[0].ratio)
        self.assertEqual('too few rounds', found.rows[0].verdict)
        self.assertEqual([], found.over)
        # It does not count among the tests that could raise an alarm.
        alone = comparison.compare(*pair(copy__b=1)).rows[0].ratio
        self.assertEqual(alone, found.rows[1].ratio)

    def test_tests_of_one_side_are_left_out(self):
        host, guest = pair(copy__a=1, copy__b=1)
        del guest['tests']['copy/b']
        found = comparison.compare(host, guest)
        self.assertEqual(['copy/a'], [row.name for row in found.rows])


class RefusedTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.host, self.guest = pair(copy__a=1)

    def _refused(self):
        return str(self.assertRaises(
            errors.PerfError, comparison.compare, self.host, self.guest))

    def test_other_backend(self):
        self.guest['backend'] = 'cpu'
        self.assertIn('measured on a gpu, the guest on a cpu',
                      self._refused())

    def test_other_sizes(self):
        self.host['sizes'] = 'tiny'
        self.assertIn('with tiny sizes', self._refused())

    def test_no_test_in_common(self):
        self.guest['tests'] = {}
        self.assertIn('no test in common (1 and 0 tests)', self._refused())

    def test_other_unit(self):
        self.guest['tests']['copy/a']['unit'] = 's'
        self.assertIn("has the unit 'ms' in the host and 's' in the guest",
                      self._refused())


class NotesTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.host, self.guest = pair(copy__a=1)

    def _notes(self):
        return '\n'.join(
            comparison.compare(self.host, self.guest).notes)

    def test_nothing_to_say(self):
        self.assertEqual('', self._notes())

    def test_machines_that_look_wrong(self):
        self.host['machine']['hypervisor'] = 'kvm'
        self.guest['machine']['hypervisor'] = 'none'
        self.assertIn('host is itself virtual', self._notes())
        self.assertIn('right order?', self._notes())

    def test_gpus_and_libraries_that_differ(self):
        for result, model, version in ((self.host, 'A', '1'),
                                       (self.guest, 'B', '2')):
            result['machine'].update(
                gpus=[{'model': model}], libraries={'torch': version})
        self.assertIn('The GPU differs: A in the host, B in the guest.',
                      self._notes())
        self.assertIn('version of torch differs', self._notes())

    def test_throttling(self):
        self.guest['tests']['copy/a']['rounds'][1]['throttled'] = ['heat']
        self.assertIn('throttled in 1 measurements: heat', self._notes())

    def test_runs_that_are_not_whole(self):
        self.host['interrupted'] = True
        self.guest['failed'] = {'copy/b': 'no memory'}
        self.assertIn('The run of the host was interrupted', self._notes())
        self.assertIn('Failed in the guest: copy/b', self._notes())

    def test_rounds_that_differ(self):
        values = (1, 1.2, 0.9, 1.1)
        for one, value in zip(self.host['tests']['copy/a']['rounds'],
                              values):
            one['value'] = value
        self.assertIn('Not known to within 1 %', self._notes())

    def test_methods_that_differ(self):
        self.guest['tests']['copy/a']['method'] = 'by eye'
        self.assertIn('Measured differently on the two sides: copy/a',
                      self._notes())

    def test_no_gpu(self):
        self.host['backend'] = self.guest['backend'] = 'cpu'
        self.assertIn('No GPU was measured', self._notes())


class ReferenceTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.reference = comparison.load_reference()

    def test_figures_of_the_thesis(self):
        tests = self.reference['tests']
        # The thesis orders its columns differently from table to table: what
        # its text says of each table is what has to come out.
        for name, ratio in (
                ('matrixMul/512', 1.36), ('matrixMul/4096', 1.02),
                ('CIFAR-10 training', 1.128), ('bandwidth/h2d/128', 1.147),
                ('bandwidth/d2h/128', 1.521),
                ('unified memory/zero copy/4096 kB', 1.763),
                ('unified memory/managed/65536 kB', 1.062),
                ('UnixBench/1 core', 1.22)):
            self.assertAlmostEqual(ratio, tests[name].ratio, places=2,
                                   msg=name)
        self.assertEqual({'host': 10005.2, 'guest': 8720.8},
                         tests['bandwidth/h2d/128'].values)
        self.assertEqual(57, len(tests))

    def test_figures_stand_beside_tests_that_exist(self):
        names = groups.cases(case.FULL)
        for ours, figure in self.reference['beside'].items():
            self.assertIn(ours, names)
            # A product is a rate here and was a time there.
            if not ours.startswith('matmul/'):
                self.assertEqual(figure.unit, names[ours].unit)
        # All but UnixBench, which is not one test.
        self.assertEqual(55, len(self.reference['beside']))

    def test_rows_have_their_figure_beside(self):
        found = comparison.compare(*pair(
            matmul__nvrtc__512=1, matmul__nvrtc__32=1))
        figures = {row.name: row.reference for row in found.rows}
        self.assertEqual('matrixMul/512', figures['matmul/nvrtc/512'].name)
        self.assertIsNone(figures['matmul/nvrtc/32'])
        self.assertEqual(56, len(found.further))

    def test_other_reference(self):
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'r'
        path.write_text(
            '{"title": "T", "hardware": "H", "notes": [], "pairs": '
            '[["bare", "kata"]], "tests": {"x": {"unit": "s", "better": '
            '"lower", "values": {"kata": 3, "bare": 2}, "beside": '
            '["copy/a"]}}}')
        found = comparison.compare(
            *pair(copy__a=1), reference=comparison.load_reference(path))
        self.assertAlmostEqual(1.5, found.rows[0].reference.ratio)

    def test_reference_that_is_none(self):
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'r'
        for text in ('', '[]', '{"tests": {}}', '{"pairs": [["a", "b"]], '
                     '"tests": {"x": {"unit": "s", "values": {"a": 1}}}}'):
            path.write_text(text)
            error = self.assertRaises(
                errors.PerfError, comparison.load_reference, path)
            self.assertIn('cannot be used', str(error))
        path.unlink()
        self.assertRaises(errors.PerfError, comparison.load_reference, path)


class SymmetryTest(base.BaseTestCase):

    def test_results_are_not_changed(self):
        results = pair(copy__a=1.2)
        before = copy.deepcopy(results)
        comparison.compare(*results)
        self.assertEqual(before, results)
