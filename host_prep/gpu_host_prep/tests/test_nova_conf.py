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

"""What ``nova-conf`` prints; that Nova reads it is tested where Nova is."""

from gpu_host_prep import nova_conf
from gpu_host_prep import numa
from gpu_host_prep.tests import base
from gpu_host_prep.tests.fakes import layouts

PAGES = 'hugepages: {size: 1G, count: 1800}\n'
H200 = 'cards:\n- model: H200\n'


class NovaConfCase(base.TestCase):

    def part(self, part, layout=layouts.RTX_2070, text=base.STATE):
        root = self.machine(layout)
        status, output, errors = self.run_command(
            root, 'nova-conf', '--part', part, self.state_file(text))
        self.assertEqual((0, ''), (status, errors))
        return output

    def flavors(self, *arguments, **options):
        """The commands by the names of their flavors."""
        lines = self.part('flavors', *arguments, **options).splitlines()
        return {line.split()[3]: line for line in lines
                if line.startswith('openstack flavor create')}


class TestOptions(NovaConfCase):

    def test_ids_when_all_are_passed(self):
        self.assertIn('device_spec = {"vendor_id": "10de", "product_id": '
                      '"1f02"}\n', self.part('compute'))

    def test_addresses_when_an_equal_card_stays(self):
        text = base.STATE + 'keep:\n- address: "0000:02:00.0"\n'
        output = self.part('compute', layouts.two_equal_cards(), text)
        self.assertIn('device_spec = {"address": "0000:01:00.0"}\n', output)
        self.assertNotIn('"product_id": "1f02"}', output)
        self.assertNotIn('0000:02:00.0', output)

    def test_device_types(self):
        self.assertIn('"device_type": "type-PCI"', self.part('compute'))
        self.assertIn('"device_type": "type-PF"',
                      self.part('control', layouts.HGX_H200, H200))
        self.assertIn(
            '"device_type": "type-VF"',
            self.part('control', layouts.MI300X,
                      'cards:\n- id: "1002:74b5"\n'))

    def test_cpus_are_divided_by_cores(self):
        # Eight cores of two threads: 0 and 8 are one core.
        output = self.part('compute')
        self.assertIn('cpu_shared_set = 0-1,8-9\n', output)
        self.assertIn('cpu_dedicated_set = 2-7,10-15\n', output)
        output = self.part('compute', text=base.STATE +
                           'isolated_cpus: "4-7,12-15"\n')
        self.assertIn('cpu_dedicated_set = 4-7,12-15\n', output)
        self.assertIn('cpu_shared_set = 0-3,8-11\n', output)
        output = self.part('compute', text=base.STATE +
                           'nova: {reserved_cpus: 1}\n')
        self.assertIn('cpu_shared_set = 0,8\n', output)

    def test_placement_and_filters(self):
        self.assertIn('report_in_placement = true', self.part('compute'))
        output = self.part('control')
        self.assertIn('pci_in_placement = true', output)
        self.assertIn('NUMATopologyFilter,GPULeaseFilter', output)

    def test_leases(self):
        self.assertIn('#default_duration = 4h', self.part('control'))
        output = self.part('control', text=base.STATE +
                           'nova: {default_duration: 2h}\n')
        self.assertIn('\ndefault_duration = 2h', output)

    def test_advice_on_huge_pages(self):
        self.assertIn('hugepages: {size: 1G, count: 56}',
                      self.part('compute'))
        self.assertNotIn('No huge pages', self.part(
            'compute', text=base.STATE + 'hugepages: {size: 1G, count: 8}\n'))

    def test_all_parts(self):
        root = self.machine()
        status, output, _errors = self.run_command(root, 'nova-conf',
                                                   self.state_file())
        self.assertEqual(0, status)
        for text in ('device_spec', '[filter_scheduler]',
                     'openstack flavor create gpu-rtx2070 '):
            self.assertIn(text, output)


class TestFlavors(NovaConfCase):

    def test_share_of_a_node(self):
        # 56 cores less 2, of two threads, for four GPUs; 900 pages of 1 GiB.
        line = self.flavors(layouts.HGX_H200, H200 + PAGES)['gpu-h200']
        self.assertIn('--vcpus 26 --ram 230400 ', line)
        for text in ('pci_passthrough:alias=h200:1', 'hw:numa_nodes=1',
                     'hw:cpu_policy=dedicated', 'hw:mem_page_size=1GB',
                     'hw:emulator_threads_policy=share',
                     'hw:pci_numa_affinity_policy=required'):
            self.assertIn(f'--property {text}', line)

    def test_whole_node(self):
        line = self.flavors(layouts.HGX_H200, H200 + PAGES)['gpu-h200-x4']
        self.assertIn('--vcpus 104 --ram 921600 ', line)
        self.assertIn('pci_passthrough:alias=h200:4', line)

    def test_smallest_node_counts(self):
        # Three cards here, one there: one flavor for both.
        layout = layouts.HGX_H200.replacing('0000:9a:00.0', numa=0)
        root = self.machine(layout)
        selection = self.selection(root, H200)
        size = numa.share(selection.host.machine,
                          self.work(root, H200).state, selection,
                          selection.cards)
        self.assertEqual((20, 5), (size.cpus, size.most))

    def test_huge_pages_of_another_size(self):
        line = self.flavors(text=base.STATE +
                            'hugepages: {size: 2M, count: 4096}\n')
        self.assertIn('--ram 8192 ', line['gpu-rtx2070'])
        self.assertIn('hw:mem_page_size=2MB', line['gpu-rtx2070'])

    def test_no_huge_pages_no_property(self):
        self.assertNotIn('hw:mem_page_size', self.part('flavors'))

    def test_windows_on_consumer_cards_only(self):
        flavors = self.flavors()
        self.assertIn('hw:hide_hypervisor_id=true',
                      flavors['gpu-rtx2070-windows'])
        self.assertNotIn('hw:hide_hypervisor_id', flavors['gpu-rtx2070'])
        self.assertNotIn('gpu-h200-windows',
                         self.flavors(layouts.HGX_H200, H200))

    def test_node_that_is_not_known(self):
        # The listing of the RTX 2070 is of a machine with one node.
        self.assertNotIn('hw:pci_numa_affinity_policy',
                         self.flavors()['gpu-rtx2070'])

    def test_two_labels_in_one_flavor(self):
        layout = layouts.GRACE_HOPPER.replacing('0002:01:00.0',
                                                interfaces=())
        text = 'cards:\n- model: GH200\n'
        line = self.flavors(layout, text)['gpu-gh200-ib']
        self.assertIn('pci_passthrough:alias=gh200:1,ib:1', line)
        self.assertIn('device_spec = {"address": "0002:01:00.0"}',
                      self.part('compute', layout, text))
        output = self.part('control', layout,
                           text + 'nova: {companion: hdr}\n')
        self.assertIn('"name": "hdr", "vendor_id": "15b3"', output)
        self.assertIn('\naliases = gh200\n', output)

    def test_port_that_the_host_uses_is_left_to_it(self):
        flavors = self.flavors(layouts.GRACE_HOPPER,
                               'cards:\n- model: GH200\n')
        self.assertEqual(['gpu-gh200'], list(flavors))

    def test_room_for_cuda(self):
        output = self.part('flavors')
        self.assertIn('image set --min-disk 40', output)
        self.assertIn('--disk 100', output)
        output = self.part('flavors', text=base.STATE +
                           'nova: {disk: 300, min_disk: 80}\n')
        self.assertIn('image set --min-disk 80', output)
        self.assertIn('--disk 300', output)

    def test_two_models_of_the_same_name(self):
        layout = layouts.TESLA_M60.replacing(
            '0000:3d:00.0', id='10de:1db1').replacing(
                '0000:3e:00.0', id='10de:1db5')
        self.assertEqual(
            {'gpu-v100sxm-1db1', 'gpu-v100sxm-1db5'},
            set(self.flavors(layout, 'cards:\n- id: "10de:1db1"\n'
                             '- id: "10de:1db5"\n')))

    def test_aliases_of_models(self):
        for layout, ids, names in (
                (layouts.TESLA_M60, ['10de:13f2'], {'m60'}),
                (layouts.QUADRO_P4000, ['10de:1bb1'], {'quadrop4000'}),
                (layouts.MI300X, ['1002:74a1', '1002:74b5'],
                 {'mi300x', 'mi300xvf'})):
            text = 'cards:\n' + ''.join(f'- id: "{id_}"\n' for id_ in ids)
            selection = self.selection(self.machine(layout), text)
            self.assertEqual(names, set(nova_conf.models(selection)))
