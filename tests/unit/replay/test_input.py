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


"""Traces, hosts, policies and converters: what is read and what is refused."""

import gzip
import pathlib

import fixtures
from oslotest import base

from nova_gpu_lease import planner
from perf.gpu import errors
from perf.replay import convert
from perf.replay import hosts
from perf.replay import policies
from perf.replay import trace

HEAD = 'submit_s,duration_s,gpus,gpu_model,node_count,lease_s\n'


class TestCase(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def write(self, text, name='trace.csv'):
        path = self.folder / name
        path.write_text(text)
        return path

    def refused(self, function, *args):
        return str(self.assertRaises(errors.PerfError, function, *args))


class TraceTest(TestCase):

    def test_rows_read(self):
        path = self.write(HEAD + '0,5,1,any,1,10\n7,6,16,A|B,2,20\n')
        self.assertEqual(
            [trace.Job(0, 0, 5, 10, 1, 1, 'any'),
             trace.Job(1, 7, 6, 20, 2, 8, 'A|B')],
            trace.load(path, 'lease_s'))
        self.assertEqual(16, trace.load(path)[1].size)

    def test_rows_of_a_time(self):
        path = self.write(HEAD + ''.join(
            '%d,5,1,any,1,10\n' % second for second in range(5)))
        self.assertEqual([2, 3], [job.row for job in trace.load(
            path, first=2, last=4)])
        self.assertIn('no job', self.refused(trace.load, path, 'lease_s', 9))

    def test_compressed(self):
        path = self.folder / 'trace.csv.gz'
        with gzip.open(path, 'wt') as file:
            file.write(HEAD + '0,5,1,any,1,10\n')
        self.assertEqual(1, len(trace.load(path)))

    def test_column_missing(self):
        path = self.write(HEAD + '0,5,1,any,1,10\n')
        text = self.refused(trace.load, path, 'requested_s')
        self.assertIn("no column 'requested_s'; it has submit_s", text)

    def test_row_damaged(self):
        for row, what in (('0,x,1,any,1,1', "duration_s is 'x'"),
                          ('0,0,1,any,1,1', "duration_s is '0'"),
                          ('0,1,3,any,2,1', 'shared equally'),
                          ('-1,1,1,any,1,1', "submit_s is '-1'"),
                          ('0,1', "gpus is 'None'")):
            text = self.refused(trace.load, self.write(HEAD + row))
            self.assertIn('line 2: ', text)
            self.assertIn(what, text)

    def test_rows_not_sorted(self):
        text = self.refused(trace.load, self.write(
            HEAD + '5,1,1,any,1,1\n4,1,1,any,1,1\n'))
        self.assertIn('line 3', text)

    def test_file_damaged(self):
        path = self.folder / 'trace.csv.gz'
        path.write_bytes(gzip.compress(HEAD.encode() * 99)[:-9])
        self.assertIn('cannot be read', self.refused(trace.load, path))

    def test_trace_found(self):
        self.write(HEAD, 'mine.csv')
        self.assertEqual(self.folder / 'mine.csv',
                         trace.find('mine', str(self.folder)))
        self.assertIn('REPLAY_TRACES', self.refused(
            trace.find, 'none', str(self.folder)))
        self.useFixture(fixtures.EnvironmentVariable(
            trace.VARIABLE, str(self.folder)))
        self.assertEqual(self.folder / 'mine.csv', trace.find('mine'))

    def test_committed_trace(self):
        jobs = trace.load(trace.find('synthetic'), 'lease_s')
        self.assertEqual(600, len(jobs))
        self.assertEqual({1, 2}, {job.servers for job in jobs})
        self.assertTrue(all(job.lease >= job.duration for job in jobs))


class HostsTest(TestCase):

    def test_number_of_hosts(self):
        found = hosts.parse('3x8')
        self.assertEqual(3, len(found))
        self.assertEqual({(8, 'any')}, {(one.gpus, one.model)
                                        for one in found})

    def test_models(self):
        found = hosts.parse('2x8:A100,1x4:T4')
        self.assertEqual([(8, 'A100'), (8, 'A100'), (4, 'T4')],
                         [(one.gpus, one.model) for one in found])
        self.assertEqual(['host-00000', 'host-00001', 'host-00002'],
                         [one.name for one in found])

    def test_file(self):
        self.write('gpu_model,gpus_per_host,hosts\nA10,1,2\nT4,4,1\n', 'h')
        self.assertEqual([1, 1, 4], [
            one.gpus for one in hosts.parse('h', str(self.folder))])

    def test_no_hosts(self):
        self.write('model,gpus\nA10,1\n', 'bad')
        for text in ('many', '0x8', '8x0', str(self.folder / 'bad')):
            self.refused(hosts.parse, text)

    def test_alternatives_are_aliases(self):
        nodes = hosts.nodes(hosts.parse('1x2:A,1x2:B,1x2:C'),
                            {'any', 'A|B', 'B'})
        self.assertEqual(
            [{'any', 'A|B'}, {'any', 'A|B', 'B'}, {'any'}],
            [set(node.pools[0].aliases) for node in nodes.values()])

    def test_jobs_that_fit_nowhere(self):
        fitting = hosts.Fitting(hosts.parse('2x8:A,1x4:B'))
        for job, fits in (((2, 8, 'A'), True), ((2, 8, 'A|B'), True),
                          ((3, 8, 'any'), False), ((1, 8, 'B'), False),
                          ((1, 1, 'C'), False), ((6, 4, 'any'), False),
                          ((5, 4, 'any'), True)):
            self.assertEqual(fits, fitting.possible(
                trace.Job(0, 0, 1, 1, *job)))


class PoliciesTest(TestCase):

    def test_names_and_changes(self):
        found = policies.parse('fifo, backfill:depth=4:hosts=pack')
        self.assertEqual(['fifo', 'backfill:depth=4:hosts=pack'],
                         list(found))
        self.assertEqual(
            planner.Policy(queue_policy='backfill', reservation_depth=4,
                           host_order='pack'), list(found.values())[1])

    def test_name_unknown(self):
        self.assertIn('conservative', self.refused(policies.parse, 'best'))
        for change in ('depth=x', 'hosts=none', 'speed=1'):
            self.assertIn(change, self.refused(
                policies.parse, 'easy:' + change))


class ConvertTest(TestCase):

    def converted(self, form, text, **more):
        target = self.folder / 'out.csv.gz'
        counts = convert.convert(form, self.write(text), target, **more)
        with trace.open_text(target) as file:
            return counts, file.read().splitlines()

    def test_philly(self):
        counts, lines = self.converted('philly', (
            'timestamp,duration,num_gpus,gpu_time,cluster\n'
            '2017-10-03 08:00:05,60,16,960,x\n'
            '2017-10-03 08:00:00,7.6,1,7,x\n'
            '2017-10-03 08:00:09,5,12,60,x\n'
            '2017-10-03 08:00:09,0,1,0,x\n'))
        self.assertEqual((3, 1), counts)
        self.assertEqual(
            ['submit_s,duration_s,gpus,gpu_model,node_count',
             '0,8,1,any,1', '5,60,16,any,2', '9,5,12,any,2'], lines)

    def test_philly_gpus_not_divisible(self):
        _, lines = self.converted('philly', (
            'timestamp,duration,num_gpus\n0,9,9\n'))
        self.assertEqual('0,9,9,any,3', lines[1])

    def test_swf(self):
        row = '%d %d 0 %d %d -1 -1 %d %d -1 1 1 1 1 1 1 -1 -1\n'
        counts, lines = self.converted('swf', (
            '; Version: 2.2\n\n' +
            row % (1, 100, 50, 8, 8, 60) + row % (2, 90, 70, 4, -1, 60) +
            row % (3, 110, 5, 2, 4, -1) + row % (4, 120, -1, 1, 1, 10)))
        self.assertEqual((3, 1), counts)
        self.assertEqual(
            ['submit_s,duration_s,gpus,gpu_model,node_count,requested_s',
             '0,70,4,any,4,70', '10,50,8,any,8,60', '20,5,4,any,4,5'], lines)

    def test_nothing_to_convert(self):
        for form, text in (('swf', '; empty\n'), ('swf', '1 2 3\n'),
                           ('philly', 'time,gpus\n1,2\n')):
            self.refused(convert.convert, form, self.write(text),
                         self.folder / 'out.csv')
        self.refused(convert.convert, 'swf', self.folder / 'none',
                     self.folder / 'out.csv')
