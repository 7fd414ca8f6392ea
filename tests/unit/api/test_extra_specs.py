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


import fixtures
from nova.api.validation.extra_specs import validators
from nova import exception as nova_exception

from nova_gpu_lease.api import extra_specs
from nova_gpu_lease import terms
from tests import base


class ExtraSpecsTestCase(base.TestCase):

    def setUp(self):
        super().setUp()
        found = {one.name: one for one in extra_specs.register()}
        for name, value in (('VALIDATORS', found),
                            ('NAMESPACES', {'gpu_lease'})):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.api.validation.extra_specs.validators.' + name, value))

    def test_every_extra_spec_is_known(self):
        self.assertEqual(
            {value for name, value in vars(terms).items()
             if name.startswith('SPEC_') and name != 'SPEC_PREFIX'},
            set(validators.VALIDATORS))

    def test_accepted(self):
        for name, values in {
                'default_duration': ('2h', '90', 'PT2H', '1d12h'),
                'max_duration': ('2h', '1w'), 'end_when_off': ('2m', '90s'),
                'on_expiry': ('shelve', 'delete'), 'priority': ('normal',),
                'required': ('true', 'False', '1', 'yes')}.items():
            for value in values:
                validators.validate('gpu_lease:' + name, value)

    def test_priority_is_a_configured_class(self):
        self.flags(priorities=['normal:0', 'urgent:9'])
        validators.validate('gpu_lease:priority', 'urgent')
        error = self.assertRaises(
            nova_exception.ValidationError, validators.validate,
            'gpu_lease:priority', 'vip')
        self.assertIn("'vip'", str(error))
        self.assertIn('normal or urgent', str(error))

    def test_refused(self):
        for name, values in {
                'default_duration': ('', '0', '-1', 'soon', '1.5h', '2h '
                                     '2h'),
                'max_duration': ('0s', 'none'),
                'end_when_off': ('0', 'never'),
                'on_expiry': ('', 'keep', 'SHELVE'),
                'priority': ('', 'vip'), 'required': ('', 'perhaps'),
                'duration': ('2h',), 'default_duration.1': ('2h',)}.items():
            for value in values:
                self.assertRaises(
                    nova_exception.ValidationError, validators.validate,
                    'gpu_lease:' + name, value)
