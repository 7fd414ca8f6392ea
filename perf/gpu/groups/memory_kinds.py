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


"""Ways to give a kernel its data, as in the thesis's unified-memory test.

One loop is a whole job: the host writes two matrices, the GPU multiplies them,
the host reads the product. The ways differ in who moves the data and when.
"""

import contextlib
import functools

import numpy

from perf.gpu import case
from perf.gpu.groups import kernels
from perf.gpu.groups import memory
from perf.gpu.groups import timing

_CPU = -1    # cudaCpuDeviceId

_METHOD = ('host writes two matrices, own kernel multiplies, host reads the '
           'product; %s; by the host\'s clock')


class _Job:
    """What all ways have in common.

    :param backend: the GPU.
    :param size: bytes of one matrix.
    """

    def __init__(self, backend, size):
        self.backend = backend
        self.runtime = backend.runtime
        self.size = size
        self.rows = int((size // 4) ** 0.5)
        self.kernel = kernels.load(backend.cupy, 'matmul')

    def write(self, a, b):
        """The host's part before: every element of both factors."""
        for pointer in (a, b):
            memory.view(pointer, self.size // 4).fill(1.0)

    def multiply(self, a, b, c):
        blocks = self.rows // kernels.TILE
        self.kernel((blocks, blocks), (kernels.TILE, kernels.TILE),
                    (a, b, c, numpy.int32(self.rows)))

    def read(self, c):
        """The host's part after: every element of the product."""
        total = memory.view(c, self.size // 4).sum(dtype=numpy.float64)
        if total != float(self.rows) ** 3:
            raise ArithmeticError(
                'The GPU multiplied wrongly: the elements of the product add '
                'up to %r, not to %r' % (total, float(self.rows) ** 3))


@contextlib.contextmanager
def _shared(backend, size, kind):
    """One memory for both: zero copy, or managed without hints."""
    job = _Job(backend, size)
    runtime = backend.runtime
    take = memory.managed if kind == 'managed' else functools.partial(
        memory.pinned, mapped=True)
    with take(runtime, size) as a, take(runtime, size) as b, \
            take(runtime, size) as c, \
            memory.stream(backend.cupy) as stream:
        def work():
            job.write(a, b)
            job.multiply(a, b, c)
            stream.synchronize()
            job.read(c)
        yield timing.by_host(work)


@contextlib.contextmanager
def _hinted(backend, size, mode):
    """Managed memory, its home said and its moves ordered beforehand."""
    job = _Job(backend, size)
    runtime, device = backend.runtime, backend.device
    with memory.managed(runtime, size) as a, \
            memory.managed(runtime, size) as b, \
            memory.managed(runtime, size) as c, \
            memory.stream(backend.cupy) as stream:
        for pointer in (a, b, c):
            runtime.memAdvise(
                pointer, size, runtime.cudaMemAdviseSetPreferredLocation,
                device)

        def step():
            if mode == 'sync':
                stream.synchronize()

        def work():
            job.write(a, b)
            for pointer in (a, b, c):
                runtime.memPrefetchAsync(pointer, size, device, stream.ptr)
                step()
            job.multiply(a, b, c)
            step()
            runtime.memPrefetchAsync(c, size, _CPU, stream.ptr)
            stream.synchronize()
            job.read(c)
        yield timing.by_host(work)


@contextlib.contextmanager
def _copied(backend, size, kind, mode):
    """Memory of each side's own and copies between them."""
    job = _Job(backend, size)
    runtime = backend.runtime
    take = memory.pinned if kind == 'pinned' else memory.pageable
    with contextlib.ExitStack() as stack:
        here = [stack.enter_context(take(runtime, size)) for _ in range(3)]
        there = [stack.enter_context(memory.device(runtime, size))
                 for _ in range(3)]
        stream = stack.enter_context(memory.stream(backend.cupy))

        def copy(target, source, way):
            if mode == 'sync':
                stream.synchronize()
                runtime.memcpy(target, source, size, way)
            else:
                runtime.memcpyAsync(target, source, size, way, stream.ptr)

        def work():
            job.write(*here[:2])
            for target, source in zip(there[:2], here[:2]):
                copy(target, source, runtime.memcpyHostToDevice)
            if mode == 'sync':
                # The last bytes of a pageable copy may still be on their way.
                runtime.deviceSynchronize()
            job.multiply(*there)
            copy(here[2], there[2], runtime.memcpyDeviceToHost)
            stream.synchronize()
            job.read(here[2])
        yield timing.by_host(work)


def cases(sizes, **_options):
    """The cases of this group."""
    ways = {
        'managed-hints/sync': (
            functools.partial(_hinted, mode='sync'),
            'managed memory with a preferred location and prefetches, each '
            'waited for', ('managed',)),
        'managed-hints/async': (
            functools.partial(_hinted, mode='async'),
            'managed memory with a preferred location and prefetches, queued',
            ('managed',)),
        'managed': (
            functools.partial(_shared, kind='managed'),
            'managed memory without hints', ('managed',)),
        'zero-copy': (
            functools.partial(_shared, kind='zero-copy'),
            'mapped page-locked host memory', ()),
    }
    for kind in ('pageable', 'pinned'):
        for mode in ('sync', 'async'):
            ways['%s/%s' % (kind, mode)] = (
                functools.partial(_copied, kind=kind, mode=mode),
                '%s host memory copied by %s' % (
                    kind, 'cudaMemcpy' if mode == 'sync' else
                    'cudaMemcpyAsync'), ())
    for way, (opened, method, needs) in ways.items():
        for size in sizes.memory_kinds:
            yield case.Case(
                name='memory/%s/%s' % (way, case.size_name(size)), unit='ms',
                better='lower', scale=1e3, method=_METHOD % method,
                open=functools.partial(opened, size=size),
                needs=('cupy', 'nvrtc', *needs), host_bytes=3 * size,
                device_bytes=3 * size)
