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


"""What the cases run on: NumPy alone, or an NVIDIA GPU as well."""

from perf.gpu.backends import cpu
from perf.gpu.backends import gpu
from perf.gpu import errors

CHOICES = ('auto', 'cpu', 'gpu')


def choose(name):
    """The backend of a name.

    :param name: one of :data:`CHOICES`; ``auto`` is the GPU where one can be
        used, else the CPU.
    :raises: PerfError if the GPU is asked for and there is none.
    """
    if name == 'cpu':
        return cpu.Backend()
    reason = gpu.unusable()
    if reason is None:
        return gpu.Backend()
    if name == 'gpu':
        raise errors.PerfError(
            'No GPU can be measured: %s. Use --backend cpu to try the path '
            'without one.' % reason)
    return cpu.Backend(reason)
