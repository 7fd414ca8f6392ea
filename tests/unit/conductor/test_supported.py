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

"""What a conductor refuses to start with."""

import fixtures
from nova.conductor import manager as nova_manager
import oslo_messaging as messaging

from nova_gpu_lease.conductor import supported
from nova_gpu_lease import exception
from tests import base


class SupportedTest(base.TestCase):

    def test_installed_nova_is_supported(self):
        self.assertIsNone(supported.check())

    def test_unknown_nova_is_refused(self):
        @messaging.expected_exceptions(ValueError)
        def migrate_server(self, context, instance, something_new):
            pass

        def unshelve_instance(self, context, instance):
            pass

        for name, value in (('migrate_server', migrate_server),
                            ('unshelve_instance', unshelve_instance),
                            ('target', messaging.Target(version='2.0'))):
            with fixtures.MockPatchObject(
                    nova_manager.ComputeTaskManager, name, value):
                self.assertRaises(exception.UnsupportedNova, supported.check)
