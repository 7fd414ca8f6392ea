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


"""Places of hosts, from the topology file and from aggregates."""

import os
import types

import fixtures

from nova_gpu_lease import exception
from nova_gpu_lease.planner import topology_file
from nova_gpu_lease.scheduler import places
from nova_gpu_lease import topology_watch
from tests import base

GOOD = 'network: {site: {rack1: [h1], rack2: [h2]}}'


def aggregate(name, hosts, place=None):
    return types.SimpleNamespace(
        name=name, hosts=hosts.split(),
        metadata={} if place is None else {places.KEY: place})


class FileMixin:
    """Writes a file that [gpu_lease] topology_file names."""

    def setUp(self):
        super().setUp()
        self.path = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'topology.yaml')
        self.flags(topology_file=self.path)
        self.log = self.useFixture(fixtures.FakeLogger())

    def write(self, text):
        with open(self.path, 'w') as stream:
            stream.write(text)


class TopologyFileTest(FileMixin, base.TestCase):

    def test_read_again_when_it_changes(self):
        self.write(GOOD)
        watch = topology_watch.TopologyFile()
        first = watch.read()
        self.assertEqual({'h1', 'h2'}, first.places.keys())
        self.assertIs(first, watch.read())
        self.write(GOOD.replace('h2', 'other'))
        self.assertEqual({'h1', 'other'}, watch.read().places.keys())

    def test_the_last_good_one_is_kept(self):
        self.write(GOOD)
        watch = topology_watch.TopologyFile()
        first = watch.read()
        self.write('network: {site: [h1, h1]}')
        self.assertIs(first, watch.read())
        self.assertIs(first, watch.read())
        self.assertEqual(1, self.log.output.count('line 1: host "h1"'))
        os.unlink(self.path)
        self.assertIs(first, watch.read())
        self.assertIn('No such file', self.log.output)
        self.write(GOOD.replace('h2', 'other'))
        self.assertEqual({'h1', 'other'}, watch.read().places.keys())

    def test_no_file(self):
        self.flags(topology_file=None)
        self.assertEqual(topology_file.Topology(),
                         topology_watch.TopologyFile().read())
        self.assertEqual('', self.log.output)

    def test_what_cannot_be_read(self):
        exc = self.assertRaises(exception.InvalidTopology,
                                topology_watch.load, self.path)
        self.assertEqual('%s cannot be read: No such file or directory.'
                         % self.path, str(exc))
        with open(self.path, 'wb') as stream:
            stream.write(b'\xff\xfe')
        exc = self.assertRaises(exception.InvalidTopology,
                                topology_watch.load, self.path)
        self.assertIn('is not UTF-8', str(exc))


class PlacesTest(FileMixin, base.TestCase):

    def test_the_file_decides(self):
        self.write(GOOD)
        place_of = places.Places().find([aggregate('a', 'h1 h3', 'x/y')])
        self.assertEqual(('site', 'rack1'), place_of('h1').path)
        self.assertEqual((), place_of('h3').path)

    def test_aggregates_where_the_file_has_no_network(self):
        self.write('devices: [{hosts: [h1]}]')
        place_of = places.Places().find([aggregate('a', 'h1 h3', 'x/y')])
        self.assertEqual([topology_file.Place(('x', 'y'), (1, 1))] * 2,
                         [place_of('h1'), place_of('h3')])

    def test_a_contradiction_is_said_once(self):
        self.write('devices: []')
        some = places.Places()
        aggregates = [aggregate('a', 'h', 'x/y'), aggregate('b', 'h', 'x/z')]
        for _ in range(3):
            self.assertEqual((), some.find(aggregates)('h').path)
        self.assertEqual(1, self.log.output.count('has two places'))


class FromAggregatesTest(base.TestCase):

    def test_the_longest_of_one_way(self):
        found, problems = places.from_aggregates([
            aggregate('switch', 'h1 h2', 'x/y'), aggregate('other', 'h1'),
            aggregate('rack', 'h1', 'x/y/z'), aggregate('site', 'h1 h3', 'x')])
        self.assertEqual([], problems)
        self.assertEqual(
            {'h1': ('x', 'y', 'z'), 'h2': ('x', 'y'), 'h3': ('x',)},
            {host: place.path for host, place in found.items()})

    def test_two_ways(self):
        found, problems = places.from_aggregates([
            aggregate('one', 'h1 h2', 'x/y'), aggregate('two', 'h1', 'x/z')])
        self.assertEqual(['h2'], list(found))
        self.assertEqual(1, len(problems))
        self.assertIn('Host h1 has two places: x/y from aggregate one and '
                      'x/z from aggregate two', problems[0])

    def test_no_place(self):
        found, problems = places.from_aggregates([
            aggregate('one', 'h1', 'x//y')])
        self.assertEqual({}, found)
        self.assertIn('Aggregate one, metadata gpu_lease:place: "x//y" is '
                      'not a place', problems[0])


class ContradictionsTest(base.TestCase):

    def test_none(self):
        topology = topology_file.parse(GOOD)
        self.assertEqual([], places.contradictions(
            topology, [aggregate('a', 'h1', 'site')],
            ['h1', 'h2', 'no-gpu'], ['h1', 'h2']))

    def test_of_file_aggregates_and_hosts(self):
        topology = topology_file.parse(GOOD)
        problems = places.contradictions(
            topology, [aggregate('a', 'h1 h3', 'site/rack2')],
            ['h1', 'h3', 'h4'], ['h1', 'h3'])
        self.assertIn('Host h1 is at site/rack1 in the topology file, which '
                      'counts, and at site/rack2', problems[0])
        self.assertIn('far from all others: h3.', problems[1])
        self.assertIn('no compute host of Nova has such a name: h2.',
                      problems[2])

    def test_of_devices_alone(self):
        topology = topology_file.parse('devices: [{hosts: [h1, h9]}]')
        problems = places.contradictions(
            topology, [aggregate('a', 'h1', '')], ['h1', 'h2'], ['h1', 'h2'])
        self.assertIn('"" is not a place', problems[0])
        self.assertIn('such a name: h9.', problems[1])
        self.assertEqual(2, len(problems))
