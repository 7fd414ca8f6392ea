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


"""The cases, one module per group."""

from perf.gpu.groups import copies
from perf.gpu.groups import cpu
from perf.gpu.groups import launch
from perf.gpu.groups import matmul
from perf.gpu.groups import memory_kinds
from perf.gpu.groups import peer
from perf.gpu.groups import training

_GROUPS = (copies, memory_kinds, matmul, launch, training, peer, cpu)


def cases(sizes, cifar10=None):
    """Every case there is, whether it can run here or not.

    :param sizes: a :class:`perf.gpu.case.Sizes`.
    :param cifar10: the folder of the CIFAR-10 set's binary files, None for
        synthetic images.
    :returns: a dictionary from name to :class:`perf.gpu.case.Case`, in the
        order of a report.
    """
    found = {}
    for group in _GROUPS:
        for case in group.cases(sizes, cifar10=cifar10):
            if case.name in found:
                raise ValueError('Two cases are called %s' % case.name)
            found[case.name] = case
    return found
