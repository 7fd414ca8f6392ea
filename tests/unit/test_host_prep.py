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


"""What ``gpu-host-prep nova-conf`` prints, read by Nova's own parsers.

The tool itself never needs Nova, so this test lives where Nova is; and its
guide, which is not in its own folder either, is compared with it here.
"""

import argparse
import logging
import pathlib
import re
import shlex
import tempfile

import fixtures
from gpu_host_prep import checks
from gpu_host_prep import guard
from gpu_host_prep import machine
from gpu_host_prep import nova_conf
from gpu_host_prep import selection as selections
from gpu_host_prep import state as states
from gpu_host_prep.tests.fakes import layouts
from gpu_host_prep.tests.fakes import sysfs
from nova.api.validation.extra_specs import validators
import nova.conf
from nova.conf import compute as compute_options
from nova.conf import pci as pci_options
from nova.conf import scheduler as scheduler_options
from nova import objects
from nova.objects import fields
from nova.pci import request as pci_request
from nova.pci import whitelist
from nova.scheduler import filters
from nova.scheduler import weights
from nova.virt import hardware
from openstackclient.compute.v2 import flavor as flavor_command
from oslo_config import cfg
from oslo_config import fixture as config_fixture

from nova_gpu_lease.conf import gpu_lease as lease_options
from tests import base

RTX_2070 = ('cards:\n- id: "10de:1f02"\n'
            'hugepages: {size: 1G, count: 8}\n'
            'nova: {default_duration: 4h, max_duration: 7d}\n')
H200 = 'cards:\n- model: H200\nhugepages: {size: 1G, count: 1800}\n'


class DocumentationTest(base.TestCase):

    def test_guide_has_every_code_and_no_other(self):
        text = (pathlib.Path(__file__).parents[2] / 'doc' / 'source' /
                'admin' / 'gpu-host.rst').read_text()
        _before, deviations, refusals = re.split(
            r'\n(?:Deviations|Refusals)\n=+\n', text)
        for table, codes in ((deviations, checks.codes()),
                             (refusals, guard.CODES)):
            self.assertEqual(set(codes), set(re.findall(
                r'^``([a-z-]+)``', table, re.MULTILINE)))

    def test_state_of_the_guide_is_accepted(self):
        text = (pathlib.Path(__file__).parents[2] / 'doc' / 'source' /
                'admin' / 'gpu-host.rst').read_text()
        for block in re.findall(r'code-block:: yaml\n\n((?:   .*\n|\n)+)',
                                text):
            states.load(block, 'the guide')


class NovaConfTest(base.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        # Making a command's parser logs every formatter that there is.
        self.useFixture(fixtures.FakeLogger('stevedore',
                                            level=logging.WARNING))

    def printed(self, layout, text):
        """What the command prints, by parts, and the selected cards."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        host = machine.read(sysfs.Machine(folder.name, layout))
        state = states.load(text, 'state.yaml')
        selection = selections.select(host, state, 'state.yaml')
        return {part: nova_conf.text(host, state, selection, part)
                for part in nova_conf.PARTS}, selection

    def options(self, text):
        """Read text as Nova's services do."""
        conf = cfg.ConfigOpts()
        for module in (compute_options, pci_options, scheduler_options,
                       lease_options):
            module.register_opts(conf)
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as stream:
            stream.write(text)
            stream.flush()
            conf(['--config-file', stream.name], project='nova')
        return conf

    def use(self, conf):
        """Make these the options of this process."""
        fixture = self.useFixture(
            config_fixture.Config(nova.conf.CONF))
        fixture.config(group='pci', alias=conf.pci.alias,
                       device_spec=conf.pci.device_spec)
        fixture.config(group='filter_scheduler', pci_in_placement=True)
        pci_request.get_alias_from_config.cache_clear()
        self.addCleanup(pci_request.get_alias_from_config.cache_clear)
        fixture.config(group='compute',
                       cpu_dedicated_set=conf.compute.cpu_dedicated_set,
                       cpu_shared_set=conf.compute.cpu_shared_set)

    def flavors(self, text):
        """The flavors that the commands would create, by name."""
        command = flavor_command.CreateFlavor(
            argparse.Namespace(client_manager=None), None)
        found = {}
        for line in text.splitlines():
            if not line or line.startswith('#'):
                continue
            words = shlex.split(line)
            self.assertEqual(['openstack', 'flavor', 'create'], words[:3])
            given = command.get_parser('create').parse_args(words[3:])
            found[given.name] = objects.Flavor(
                name=given.name, vcpus=given.vcpus, memory_mb=given.ram,
                root_gb=given.disk, ephemeral_gb=0, swap=0,
                extra_specs=given.properties)
        return found

    def assert_assignable(self, conf, selection):
        """Nova takes the selected GPUs, and nothing else of the host."""
        spec = whitelist.Whitelist(conf.pci.device_spec)
        taken = [card.gpu.address for card in selection.cards]
        for function in selection.host.functions.values():
            device = {'address': function.address,
                      'vendor_id': function.vendor,
                      'product_id': function.device,
                      'dev_type': nova_conf.device_type(function)}
            if function.physical_function:
                device['parent_addr'] = function.physical_function
            self.assertEqual(function.address in taken,
                             bool(spec.device_assignable(device)),
                             function.address)

    def assert_flavor(self, flavor, labels, cards):
        """Nova accepts a flavor, and finds the cards for its labels."""
        for name, value in flavor.extra_specs.items():
            validators.validate(name, value)
        requests = pci_request.get_pci_requests_from_flavor(flavor).requests
        self.assertEqual(labels, {request.alias_name: request.count
                                  for request in requests})
        for card in cards:
            self.assertIn(
                {'vendor_id': card.vendor, 'product_id': card.device,
                 'dev_type': nova_conf.device_type(card)},
                [{key: spec[key] for key in ('vendor_id', 'product_id',
                                             'dev_type')}
                 for request in requests for spec in request.spec])

    def assert_numa(self, flavor, page_kib):
        topology = hardware.numa_get_constraints(
            flavor, objects.ImageMeta(properties=objects.ImageMetaProps()))
        self.assertEqual(1, len(topology.cells))
        cell = topology.cells[0]
        self.assertEqual(flavor.vcpus, len(cell.pcpuset))
        self.assertEqual(page_kib, cell.pagesize)
        self.assertEqual(0, flavor.memory_mb * 1024 % page_kib)
        self.assertEqual(fields.CPUEmulatorThreadsPolicy.SHARE,
                         topology.emulator_threads_policy)

    def test_consumer_card(self):
        parts, selection = self.printed(layouts.RTX_2070, RTX_2070)
        conf = self.options(parts['compute'])
        self.use(conf)
        self.assert_assignable(conf, selection)
        self.assertTrue(conf.pci.report_in_placement)
        self.assertEqual({2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15},
                         hardware.get_cpu_dedicated_set())
        self.assertEqual({0, 1, 8, 9}, hardware.get_cpu_shared_set())
        flavors = self.flavors(parts['flavors'])
        self.assertEqual({'gpu-rtx2070', 'gpu-rtx2070-windows'},
                         set(flavors))
        for flavor in flavors.values():
            self.assert_flavor(flavor, {'rtx2070': 1},
                               [selection.cards[0].gpu])
            self.assert_numa(flavor, 1048576)
        self.assertEqual('true', flavors['gpu-rtx2070-windows'].extra_specs[
            'hw:hide_hypervisor_id'])

    def test_options_of_the_controllers(self):
        parts, _selection = self.printed(layouts.RTX_2070, RTX_2070)
        conf = self.options(parts['control'])
        self.assertTrue(conf.filter_scheduler.pci_in_placement)
        self.assertEqual(14400, conf.gpu_lease.default_duration)
        self.assertEqual(7 * 86400, conf.gpu_lease.max_duration)
        known = {name.rpartition('.')[2]: name for each in
                 conf.filter_scheduler.available_filters for name in
                 self._loaded(filters.HostFilterHandler(), each)}
        for name in conf.filter_scheduler.enabled_filters:
            self.assertIn(name, known)
        for each in conf.filter_scheduler.weight_classes:
            self.assertTrue(self._loaded(weights.HostWeightHandler(), each))

    def _loaded(self, handler, name):
        return [f'{each.__module__}.{each.__name__}'
                for each in handler.get_matching_classes([name])]

    def test_equal_card_that_stays(self):
        text = 'cards:\n- address: "0000:02:00.0"\n'
        parts, selection = self.printed(layouts.two_equal_cards(), text)
        self.assert_assignable(self.options(parts['compute']), selection)

    def test_data_centre_cards_with_sriov(self):
        parts, selection = self.printed(layouts.HGX_H200, H200)
        conf = self.options(parts['compute'])
        self.use(conf)
        self.assert_assignable(conf, selection)
        flavors = self.flavors(parts['flavors'])
        self.assert_flavor(flavors['gpu-h200-x4'], {'h200': 4},
                           [card.gpu for card in selection.cards])
        for flavor in flavors.values():
            self.assert_numa(flavor, 1048576)

    def test_virtual_function_of_amd(self):
        parts, selection = self.printed(layouts.MI300X,
                                        'cards:\n- id: "1002:74b5"\n')
        conf = self.options(parts['compute'])
        self.use(conf)
        self.assert_assignable(conf, selection)
        flavor = self.flavors(parts['flavors'])['gpu-mi300xvf']
        self.assert_flavor(flavor, {'mi300xvf': 1},
                           [selection.cards[0].gpu])

    def test_two_models_of_the_same_name(self):
        # Placement wants one id for each alias.
        layout = layouts.TESLA_M60.replacing(
            '0000:3d:00.0', id='10de:1db1').replacing(
                '0000:3e:00.0', id='10de:1db5')
        parts, selection = self.printed(
            layout, 'cards:\n- id: "10de:1db1"\n- id: "10de:1db5"\n')
        conf = self.options(parts['compute'])
        self.use(conf)
        self.assert_assignable(conf, selection)
        flavors = self.flavors(parts['flavors'])
        for name, card in zip(('v100sxm-1db1', 'v100sxm-1db5'),
                              selection.cards):
            self.assert_flavor(flavors[f'gpu-{name}'], {name: 1}, [card.gpu])

    def test_two_labels_in_one_flavor(self):
        layout = layouts.GRACE_HOPPER.replacing('0002:01:00.0',
                                                interfaces=())
        parts, selection = self.printed(layout, 'cards:\n- model: GH200\n')
        conf = self.options(parts['control'])
        self.assertEqual(['gh200'], conf.gpu_lease.aliases)
        self.use(self.options(parts['compute']))
        flavor = self.flavors(parts['flavors'])['gpu-gh200-ib']
        self.assert_flavor(
            flavor, {'gh200': 1, 'ib': 1},
            [selection.cards[0].gpu,
             selection.host.functions['0002:01:00.0']])
