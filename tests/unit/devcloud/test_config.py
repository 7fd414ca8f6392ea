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

"""Settings and options of ``up``."""

import ddt
from oslotest import base

from nova_gpu_lease.devcloud import config
from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import options
from tests.unit.devcloud import fixture


@ddt.ddt
class SettingTest(base.BaseTestCase):

    @ddt.data(
        ('DEFAULT.debug=true', ['nova', 'DEFAULT', 'debug', 'true']),
        ('pci.alias={"a": "b=c"}', ['nova', 'pci', 'alias', '{"a": "b=c"}']),
        ('keystone:token.expiration=60',
         ['keystone', 'token', 'expiration', '60']),
        ('gpu_lease.max_wait=', ['nova', 'gpu_lease', 'max_wait', '']),
    )
    @ddt.unpack
    def test_accepted(self, text, parsed):
        self.assertEqual(parsed, config.parse_setting(text))

    @ddt.data('debug=true', 'DEFAULT.debug', 'cinder:a.b=c', 'a.b=c\n[d]',
              '', '=')
    def test_refused(self, text):
        self.assertRaises(exceptions.DevcloudError, config.parse_setting,
                          text)

    def test_render(self):
        self.assertEqual('[a]\nb = 1\nc = 2\nc = 3\n\n[d]\n',
                         config.render({'a': {'b': 1, 'c': [2, 3]}, 'd': {}}))

    def test_override(self):
        settings = [config.parse_setting(text) for text in (
            'a.b=2', 'c.d=1', 'c.d=2', 'glance:a.b=3')]
        self.assertEqual(
            {'a': {'b': ['2'], 'x': 0}, 'c': {'d': ['1', '2']}},
            config.override({'a': {'b': 1, 'x': 0}}, settings, 'nova'))


class OptionsTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.state = self.useFixture(fixture.StateFixture(
            hosts=1, gpus_per_host=4, settings=['DEFAULT.debug=true'])).state

    def refuse(self, asked, running=True):
        return str(self.assertRaises(
            exceptions.DevcloudError, options.update, self.state, asked,
            running))

    def test_nothing_asked_keeps_all(self):
        before = dict(self.state.data['options'])
        options.update(self.state, {'hosts': None, 'settings': None}, True)
        self.assertEqual(before, self.state.data['options'])

    def test_the_same_is_fine(self):
        options.update(self.state, {
            'hosts': 1, 'gpus_per_host': 4, 'conductors': 1,
            'settings': ['DEFAULT.debug=true']}, True)

    def test_other_hardware(self):
        for running in (True, False):
            message = self.refuse({'hosts': 2}, running)
            self.assertIn('--hosts', message)
            self.assertIn('1 hosts with 4 GPUs', message)

    def test_other_settings_need_a_stop(self):
        asked = {'conductors': 2, 'settings': [], 'pci_in_placement': True}
        message = self.refuse(asked)
        self.assertIn('--conductors, --set, --pci-in-placement', message)
        self.assertIn('--keep-state', message)
        options.update(self.state, asked, False)
        self.assertEqual(2, self.state.option('conductors'))
        self.assertEqual([], self.state.option('settings'))

    def test_layout_and_numbers(self):
        self.assertRaises(exceptions.DevcloudError, options.new,
                          {'layout': 'x.yaml', 'hosts': 3})

    def test_unknown_option(self):
        self.assertRaises(TypeError, options.new, {'colour': 'red'})
