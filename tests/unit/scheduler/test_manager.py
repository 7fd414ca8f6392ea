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


from unittest import mock

import ddt
from nova.scheduler import manager as nova_manager
import oslo_messaging as messaging

from nova_gpu_lease import exception
from nova_gpu_lease.scheduler import manager
from tests import base


@ddt.ddt
class CheckNovaTest(base.TestCase):
    def test_installed_nova_is_supported(self):
        manager.check_nova()

    def test_other_rpc_version_is_refused(self):
        with mock.patch.object(nova_manager.SchedulerManager, 'target',
                               messaging.Target(version='5.0')):
            error = self.assertRaises(exception.UnsupportedNova,
                                      manager.check_nova)
        self.assertIn('5.0, not 4.x', str(error))

    @ddt.data(*range(len(manager.TESTED)))
    def test_other_parameters_are_refused(self, number):
        owner, name, _arguments = manager.TESTED[number]
        with mock.patch.object(owner, name, lambda self, other: None):
            error = self.assertRaises(exception.UnsupportedNova,
                                      manager.check_nova)
        self.assertIn('%s takes (other), not (' % name, str(error))
