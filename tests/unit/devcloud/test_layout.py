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

"""Layouts, from numbers and from files."""

import json

import ddt
from oslotest import base

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import layout
from nova_gpu_lease.devcloud import layout_file

MIXED = '''\
hosts:
  - name: rack1
    zone: east
    vcpus: 64
    gpus:
      - {model: h100, count: 2, numa_node: 0, nvlink_group: a}
      - {model: h100, count: 2, numa_node: 1, nvlink_group: b}
  - name: rack2
    zone: east
    gpus:
      - {count: 2}
      - {model: mystery}
      - {model: riddle}
  - name: plain
    memory_mb: 8192
'''


class UniformTest(base.BaseTestCase):

    def test_hosts_are_equal(self):
        cloud = layout.uniform(3, 2)
        self.assertEqual(['host1', 'host2', 'host3'],
                         [host.name for host in cloud.hosts])
        self.assertEqual({cloud.hosts[0].gpus},
                         {host.gpus for host in cloud.hosts})
        self.assertEqual({'gpu': '2330'}, cloud.models)
        self.assertEqual({}, cloud.zones)

    def test_addresses_are_distinct(self):
        gpus = layout.uniform(1, layout.MAX_GPUS).hosts[0].gpus
        self.assertEqual(layout.MAX_GPUS, len({g.address for g in gpus}))
        for gpu in gpus:
            self.assertRegex(gpu.address, '^0000:[0-9a-f]{2}:00.0$')

    def test_hosts_without_gpus(self):
        self.assertEqual((), layout.uniform(1, 0).hosts[0].gpus)

    def test_bad_numbers(self):
        for numbers in ((0, 1), (1, -1), (1, layout.MAX_GPUS + 1)):
            self.assertRaises(exceptions.LayoutError, layout.uniform,
                              *numbers)


@ddt.ddt
class LayoutFileTest(base.BaseTestCase):

    def test_mixed(self):
        cloud = layout_file.parse(MIXED)
        rack1, rack2, plain = cloud.hosts
        self.assertEqual({'east': ['rack1', 'rack2']}, cloud.zones)
        self.assertEqual((64, 65536), (rack1.vcpus, rack1.memory_mb))
        self.assertEqual([(0, 'a'), (0, 'a'), (1, 'b'), (1, 'b')],
                         [(g.numa_node, g.nvlink_group) for g in rack1.gpus])
        self.assertEqual(['gpu', 'gpu', 'mystery', 'riddle'],
                         [g.model for g in rack2.gpus])
        self.assertEqual(((), 8192), (plain.gpus, plain.memory_mb))
        self.assertEqual(4, len(set(cloud.models.values())))
        self.assertIs(rack2, cloud.host('rack2'))
        self.assertRaises(KeyError, cloud.host, 'rack3')

    def test_survives_json(self):
        cloud = layout_file.parse(MIXED)
        data = json.loads(json.dumps(cloud.to_dict()))
        self.assertEqual(cloud, layout.Layout.from_dict(data))

    @ddt.data(
        ('', 'the key "hosts"'),
        ('hosts: [', 'line 1: not valid YAML'),
        ('hosts: []', 'line 1: hosts: at least one'),
        ('hosts: few', 'line 1: hosts: a list'),
        ('- hosts', 'line 1: layout: a mapping'),
        ('racks: []', 'line 1: layout.racks: unknown key; accepted: hosts'),
        ('hosts: [{}]', 'hosts[0].name: missing'),
        ('hosts: [few]', 'hosts[0]: a mapping is needed'),
        ('hosts:\n- name: a\n- name: a', 'line 3: hosts[1].name: "a" is used'),
        ('hosts:\n- name: a b', 'line 2: hosts[0].name: "a b" is not'),
        ('hosts:\n- name: a\n  gpu: 2', 'line 3: hosts[0].gpu: unknown key; '
         'accepted: name, zone, vcpus, memory_mb, disk_gb, gpus'),
        ('hosts:\n- name: a\n  name: b', 'line 3: hosts[0].name: given twice'),
        ('hosts:\n- name: a\n  vcpus: many',
         'line 3: hosts[0].vcpus: "many" is not accepted; an integer'),
        ('hosts:\n- name: a\n  gpus:\n  - count: 0',
         'line 4: hosts[0].gpus[0].count: "0" is not'),
        ('hosts:\n- name: a\n  gpus:\n  - numa_node: -1', 'numa_node'),
        ('hosts:\n- name: a\n  gpus:\n  - count: 201', 'more than 200'),
    )
    @ddt.unpack
    def test_mistake(self, text, message):
        error = self.assertRaises(exceptions.LayoutError, layout_file.parse,
                                  text, name='my.yaml')
        self.assertIn('my.yaml', str(error))
        self.assertIn(message, str(error))

    def test_missing_file(self):
        error = self.assertRaises(exceptions.LayoutError, layout_file.load,
                                  '/nowhere/at/all.yaml')
        self.assertIn('/nowhere/at/all.yaml', str(error))
