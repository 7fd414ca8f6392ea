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

"""nova-gpu-lease-compute: nova-compute with the hooks of leases."""
# Nova's own script begins with this line, for the same reason.
from nova import monkey_patch; monkey_patch.patch(backend='threading')  # noqa

from nova.cmd import compute as nova_compute
from nova import service

MANAGER = 'nova_gpu_lease.compute.manager.GPULeaseComputeManager'


def main():
    """Run in the place of nova-compute, with the same arguments."""
    # A name, not the class: Nova reads its configuration before it imports
    # what depends on it. The manager refuses a Nova that it does not know.
    service.SERVICE_MANAGERS['nova-compute'] = MANAGER
    nova_compute.main()
