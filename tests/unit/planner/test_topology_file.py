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


"""What a topology file may say, and that mistakes are found by line."""

import pathlib

import ddt
from oslotest import base

from nova_gpu_lease import exception
from nova_gpu_lease.planner import topology_file

SAMPLE = pathlib.Path(__file__).parents[3] / 'etc/topology/topology.yaml'


@ddt.ddt
class ParseTest(base.BaseTestCase):

    def test_the_sample(self):
        found = topology_file.parse(SAMPLE.read_text())
        self.assertEqual(['gpu01', 'gpu02', 'gpu03', 'gpu04', 'gpu05'],
                         sorted(found.places))
        self.assertEqual(
            topology_file.Place(('prague', 'leaf2', 'rack3'), (2, 2, 1)),
            found.places['gpu05'])
        self.assertEqual(
            topology_file.Device(1, 'b'),
            found.devices['gpu04']['0000:ca:00.0'])
        self.assertEqual(4, len(found.devices['gpu01']))
        self.assertNotIn('gpu05', found.devices)

    def test_any_depth_without_levels(self):
        found = topology_file.parse(
            'network: {a: [h1], b: {c: {d: [h2]}, e: []}}')
        self.assertEqual({
            'h1': topology_file.Place(('a',), (1,)),
            'h2': topology_file.Place(('b', 'c', 'd'), (1, 1, 1))},
            found.places)

    def test_devices_alone(self):
        found = topology_file.parse(
            'devices: [{hosts: [h], nvlink_groups: {x: [17:00.0, 0000:31:00.0'
            ']}}]')
        self.assertEqual({}, found.places)
        self.assertEqual({'h': {
            '0000:17:00.0': topology_file.Device(None, 'x'),
            '0000:31:00.0': topology_file.Device(None, 'x')}}, found.devices)

    @ddt.unpack
    @ddt.data(
        ('', 0, 'it is empty'),
        ('network: }', 1, 'not YAML'),
        ('- a', 1, 'a list is not accepted; a mapping with the keys levels, '
         'network, devices is'),
        ('levels: [{name: a}]', 1, '"network" or "devices" is needed'),
        ('network: {}\nracks: {}', 2, 'unknown key "racks"; accepted: '
         'levels, network, devices'),
        ('network: {}\nnetwork: {}', 2, '"network" is given twice'),
        ('network:\n  s1:\n    - h1\n    - h1', 4, 'host "h1" is below s1; '
         'line 3 has it below s1 already'),
        ('network:\n  s1: [h1]\n  s2:\n    - h2\n    - h1', 5, 'host "h1" is '
         'below s2; line 2 has it below s1 already, and a host has one'),
        ('network:\n  s1: h1', 2, 's1: "h1" is not accepted; a list of hosts '
         'or a mapping'),
        ('network:\n  s1:\n', 2, 's1: nothing is not accepted'),
        ('network:\n  a b: []', 2, 'the name "a b" is not accepted; names '
         'without blanks'),
        ('network:\n  s1:\n   - x/y', 3, 's1: "x/y" is not accepted; names '
         'without blanks'),
        ('network:\n  s1:\n   - [x]', 3, 's1: a list is not accepted'),
        ('network: &a\n  s1: *a', 1, 'more than 16 levels'),
        ('levels: [{name: site}, {name: rack}]\nnetwork:\n  s1:\n    r1: [a]'
         '\n  s2: [b]', 5, 's2 has hosts in level 1; "levels" says that they '
         'are in level 2: below site/rack'),
        ('levels:\n - {name: a,\n    ratio: 1:2}\nnetwork: {}', 3, 'ratio: '
         '"1:2" is not accepted; how many times more bandwidth'),
        ('levels:\n - {ratio: 2}\nnetwork: {}', 2, 'a level needs a "name"'),
        ('levels:\n - rack\nnetwork: {}', 2, 'a level: "rack" is not '
         'accepted; a mapping with the keys name, ratio is'),
        ('devices:\n - hosts: [h]\n   numa_nodes:\n    0:\n     - 17.00.0', 5,
         'numa_nodes: "17.00.0" is not accepted; a PCI address is, such as '
         '"0000:17:00.0"'),
        ('devices:\n - hosts: [h]\n   numa_nodes:\n    x: []', 4,
         'the name "x" is not accepted; a number is'),
        ('devices:\n - hosts: [h]\n   nvlink_groups:\n    a: [17:00.0]\n'
         '    b: [0000:17:00.0]', 5, '0000:17:00.0 is in "a" already'),
        ('devices:\n - numa_nodes: {}', 2, 'an entry of devices needs '
         '"hosts"'),
        ('devices:\n - hosts: [h]\n - hosts:\n   - h', 4, 'the devices of '
         'host "h" are given twice'),
        ('network: {s: [h]}\ndevices:\n - hosts: [h, i]', 3,
         'host "i" is not in "network"'),
    )
    def test_mistakes(self, text, line, problem):
        exc = self.assertRaises(
            exception.InvalidTopology, topology_file.parse, text, 'net.yaml')
        first = str(exc).splitlines()[0]
        self.assertIn(problem, first)
        if line:
            self.assertTrue(
                first.startswith('net.yaml, line %d: ' % line), first)

    def test_all_mistakes_are_listed(self):
        exc = self.assertRaises(
            exception.InvalidTopology, topology_file.parse,
            'network:\n  s1: [h1, h1]\n  s2: 3\nx: 1')
        self.assertEqual([4, 2, 3], [
            int(line.split('line ')[1].split(':')[0])
            for line in str(exc).splitlines()])
        many = 'network:\n  s1: [%s]' % ', '.join(['h'] * 40)
        exc = self.assertRaises(
            exception.InvalidTopology, topology_file.parse, many)
        lines = str(exc).splitlines()
        self.assertEqual(21, len(lines))
        self.assertIn('and more', lines[-1])


@ddt.ddt
class PlaceTest(base.BaseTestCase):

    @ddt.data('site1/switch2', '/site1/switch2/', ' site1/switch2')
    def test_a_place(self, text):
        self.assertEqual(('site1', 'switch2'), topology_file.place(text))

    @ddt.data('', '/', 'a//b', 'a b', 'a,b', '/'.join('a' * 17))
    def test_no_place(self, text):
        exc = self.assertRaises(ValueError, topology_file.place, text)
        self.assertIn('"%s" is not a place' % text, str(exc))
