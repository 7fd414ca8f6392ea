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


"""Several GPUs: copies between two of them, sums over all of them."""

import contextlib
import functools

from perf.gpu import case
from perf.gpu.groups import memory
from perf.gpu.groups import timing

_SIZE = 64 * case.MIB
_COUNTS = (2, 4, 8)


@contextlib.contextmanager
def _copy(backend, size):
    """From the first GPU to the second, directly where they can."""
    cupy, runtime = backend.cupy, backend.runtime
    if runtime.deviceCanAccessPeer(0, 1):
        try:
            runtime.deviceEnablePeerAccess(1)
        except runtime.CUDARuntimeError as error:
            if 'AlreadyEnabled' not in str(error):
                raise
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(memory.device(runtime, size))
        with cupy.cuda.Device(1):
            target = runtime.malloc(size)
        stack.callback(runtime.free, target)
        stream = stack.enter_context(memory.stream(cupy))
        yield timing.by_events(
            cupy, stream, lambda: runtime.memcpyPeerAsync(
                target, 1, source, 0, size, stream.ptr))


@contextlib.contextmanager
def _all_reduce(backend, size, count):
    """The sum over GPUs by NCCL, in one process."""
    torch = backend.torch
    # Zeros stay what they are, however often they are added up.
    tensors = [torch.zeros(size // 4, device='cuda:%d' % number)
               for number in range(count)]

    def wait():
        for number in range(count):
            torch.cuda.synchronize(number)
    wait()
    yield timing.by_host(
        lambda: torch.cuda.nccl.all_reduce(tensors), wait)


def cases(_sizes, **_options):
    """The cases of this group."""
    name = case.size_name(_SIZE)
    yield case.Case(
        name='peer/copy/%s' % name, unit='MB/s', better='higher',
        scale=_SIZE / 1e6, open=functools.partial(_copy, size=_SIZE),
        method='cudaMemcpyPeerAsync from the first GPU to the second, CUDA '
        'events', needs=('cupy', 'gpus:2'), device_bytes=2 * _SIZE)
    for count in _COUNTS:
        yield case.Case(
            name='peer/all-reduce/%d/%s' % (count, name), unit='MB/s',
            better='higher', scale=2 * (count - 1) / count * _SIZE / 1e6,
            open=functools.partial(_all_reduce, size=_SIZE, count=count),
            method='NCCL all-reduce in fp32 over %d GPUs, by the host\'s '
            'clock; bus bandwidth, which is 2 (n - 1) / n of the bytes of one '
            'GPU' % count,
            needs=('torch', 'gpus:%d' % count), device_bytes=_SIZE)
