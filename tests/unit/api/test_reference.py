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


import os
import re

from nova_gpu_lease.api.schemas import lease
from nova_gpu_lease.api.schemas import queue
from nova_gpu_lease import errors
from nova_gpu_lease import states
from tests.unit.api import base


class ReferenceTestCase(base.APITestCase):
    """doc/source/reference/api.rst says what the code does."""

    def setUp(self):
        super().setUp()
        path = os.path.join(os.path.dirname(__file__), *['..'] * 3, 'doc',
                            'source', 'reference', 'api.rst')
        with open(path) as page:
            self.text = page.read()
        self.words = set(re.findall('``([^`]+)``', self.text))

    def test_reference_of_parameters(self):
        for schema in (lease.INDEX, queue.INDEX):
            self.assertLessEqual(set(schema['properties']), self.words)
        self.assertLessEqual(set(lease.SORT_KEYS), self.words)

    def test_reference_of_fields(self):
        self.queue()
        self.context = self.admin()
        shown = self.send('/os-gpu-leases?all_projects=1').json
        self.assertLessEqual(set(shown['gpu_leases'][0]), self.words)
        shown = self.send('/os-gpu-leases/queue?all_projects=1').json
        for field in shown['gpu_queue'][0]:
            self.assertIn('"%s":' % field, self.text)

    def test_reference_of_states(self):
        self.assertLessEqual(set(states.LEASE_STATES), self.words)

    def test_reference_of_codes(self):
        codes = {value for name, value in vars(errors).items()
                 if name.isupper() and name != 'UNDEFINED'}
        self.assertEqual(
            codes, {word for word in self.words
                    if word.startswith('gpu_lease.')} & codes)
