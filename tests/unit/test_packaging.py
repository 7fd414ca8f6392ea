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


"""The files around the code name what exists in it."""

import ast
import configparser
import pathlib
import re

from nova import conf as nova_conf

from nova_gpu_lease.conf import opts
from tests import base

ROOT = pathlib.Path(__file__).parents[2]
ETC = ROOT / 'etc'


def _setup_cfg():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / 'setup.cfg')
    return parser


def _lines(text):
    """The lines of a requirements file, without comments."""
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _name(requirement):
    name = re.match(r'[A-Za-z0-9._-]+', requirement).group()
    return re.sub(r'[-_.]+', '-', name).lower()


class EntryPointsTest(base.TestCase):

    def test_every_entry_point_exists(self):
        # Read, not imported: some scripts change the process they run in.
        for group, text in _setup_cfg()['entry_points'].items():
            for line in _lines(text):
                module, _, name = line.partition('=')[2].strip().partition(
                    ':')
                path = ROOT.joinpath(*module.split('.'))
                path = path / '__init__.py' if path.is_dir() else \
                    path.with_suffix('.py')
                names = {node.name for node in
                         ast.parse(path.read_text()).body
                         if isinstance(node, ast.FunctionDef)}
                # A validators' module has no name here, but register().
                self.assertIn(name or 'register', names, '%s: %s' % (
                    group, line))


class RequirementsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.pins = dict(
            line.split('==') for line in
            _lines((ROOT / 'constraints.txt').read_text()))
        self.names = {_name(pin) for pin in self.pins}

    def test_every_requirement_is_pinned(self):
        texts = [path.read_text() for path in ROOT.glob('*requirements.txt')]
        texts += [path.read_text() for folder in ('osc_plugin', 'host_prep')
                  for path in (ROOT / folder).glob('*requirements.txt')]
        # Nothing here runs on a GPU: what needs one was not tested together
        # with the rest, and a pin would say that it was.
        texts += [text for extra, text in _setup_cfg()['extras'].items()
                  if extra != 'gpu']
        for text in texts:
            for requirement in _lines(text):
                self.assertIn(_name(requirement), self.names)

    def test_pins_are_exact(self):
        for pin, version in self.pins.items():
            self.assertRegex(version, r'^[0-9][0-9a-z.]*$', pin)

    def test_nova_of_the_pins_is_the_nova_of_the_requirements(self):
        wanted = [line for line in
                  _lines((ROOT / 'requirements.txt').read_text())
                  if _name(line) == 'nova']
        self.assertEqual(['nova>=%s,<35.0.0' % self.pins['nova']], wanted)


class ExamplesTest(base.TestCase):

    def test_nova_conf_has_options_that_exist(self):
        known = {(str(group), opt.dest) for group, options in
                 opts.list_opts() for opt in options}
        section = 'DEFAULT'
        for line in (ETC / 'nova.conf.example').read_text().splitlines():
            if line.startswith('['):
                section = line.strip('[]')
            # Options that are commented out count; other comments do not.
            match = re.match(r'#?([a-z_]+) = ', line)
            if not match:
                continue
            name = match.group(1)
            if (section, name) not in known:
                self.assertIn(name, nova_conf.CONF[section])

    def test_nova_conf_parses(self):
        self.conf.conf(['--config-file', str(ETC / 'nova.conf.example')],
                       project='nova')
        self.addCleanup(self.conf.conf.reset)
        # Set later, if at all: every new GPU server has a lease then.
        self.assertIsNone(self.conf.conf.gpu_lease.default_duration)
        self.assertEqual(7 * 86400, self.conf.conf.gpu_lease.max_duration)
        for option in ('enabled_filters', 'available_filters'):
            self.assertIn('GPULeaseFilter', ' '.join(
                self.conf.conf.filter_scheduler[option]))

    def test_units_start_scripts_that_exist(self):
        scripts = _setup_cfg()['entry_points']['console_scripts']
        units = sorted((ETC / 'systemd').glob('*.service'))
        self.assertEqual(3, len(units))
        for unit in units:
            text = unit.read_text()
            script = re.search(r'^ExecStart=/usr/bin/(\S+)', text,
                               re.MULTILINE).group(1)
            self.assertEqual(unit.stem, script)
            self.assertIn('\n%s = ' % script, scripts)
            self.assertIn('\nConflicts=%s.service\n' % script.replace(
                'gpu-lease-', ''), text)
