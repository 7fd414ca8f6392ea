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

"""nova-conductor with the GPU lease queue."""

# Nova patches (or does not patch) the standard library on this import.
from nova.cmd import conductor  # noqa: I100
from nova import service

MANAGER = 'nova_gpu_lease.conductor.manager.GPULeaseConductorManager'


def main():
    service.SERVICE_MANAGERS['nova-conductor'] = MANAGER
    conductor.main()


if __name__ == '__main__':
    main()
