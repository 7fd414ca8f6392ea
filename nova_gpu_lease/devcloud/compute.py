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

"""nova-compute with the devcloud's fake hypervisor.

Nova imports its driver as ``nova.virt.<name>`` only, so the module is put
under such a name before Nova starts.
"""

import importlib
import sys

NAME = 'nova.virt.gpu_lease_devcloud'


def _start(module):
    # The service's module first: importing it patches what Nova wants
    # patched before anything else of Nova is loaded.
    service = importlib.import_module(module)
    sys.modules[NAME] = importlib.import_module(
        'nova_gpu_lease.devcloud.driver')
    return service.main()


def main():
    """Run this package's nova-compute."""
    return _start('nova_gpu_lease.cmd.compute')


def stock():
    """Run Nova's own nova-compute."""
    return _start('nova.cmd.compute')
