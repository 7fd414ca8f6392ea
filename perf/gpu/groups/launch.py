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


"""What it takes to start a kernel."""

import contextlib

import numpy

from perf.gpu import case
from perf.gpu.groups import kernels
from perf.gpu.groups import memory
from perf.gpu.groups import timing


@contextlib.contextmanager
def _launch(backend, each):
    kernel = kernels.load(backend.cupy, 'nothing')
    argument = (numpy.int32(0),)
    with memory.stream(backend.cupy) as stream:
        def start():
            kernel((1,), (1,), argument)

        def start_and_wait():
            kernel((1,), (1,), argument)
            stream.synchronize()

        if each:
            yield timing.by_host(start_and_wait)
        else:
            yield timing.by_host(start, stream.synchronize)


def cases(_sizes, **_options):
    """The cases of this group.

    Both contain what CuPy itself needs for a launch, one to a few
    microseconds of one host core.
    """
    for name, each, method in (
            ('latency', True, 'an empty kernel, waited for each time'),
            ('rate', False, 'empty kernels queued one after the other, time '
             'of each')):
        def opened(backend, each=each):
            return _launch(backend, each)
        yield case.Case(
            name='launch/' + name, unit='us', better='lower', scale=1e6,
            method='%s; by the host\'s clock' % method, open=opened,
            needs=('cupy', 'nvrtc'))
