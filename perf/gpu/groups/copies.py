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


"""Copies: bandwidth of large ones, latency of small ones."""

import contextlib
import functools

import numpy

from perf.gpu import case
from perf.gpu.groups import memory
from perf.gpu.groups import timing

_SYNC = ('cudaMemcpy and cudaDeviceSynchronize for each copy, by the '
         'host\'s clock')
_ASYNC = ('cudaMemcpyAsync on one stream, CUDA events around all copies of a '
          'sample')
_KINDS = {'pageable': memory.pageable, 'pinned': memory.pinned}


@contextlib.contextmanager
def _between(backend, direction, kind, mode, size):
    """Copies between host and device."""
    runtime = backend.runtime
    with memory.device(runtime, size) as there, \
            _KINDS[kind](runtime, size) as here, \
            memory.stream(backend.cupy) as stream:
        if direction == 'h2d':
            target, source = there, here
            way = runtime.memcpyHostToDevice
        else:
            target, source = here, there
            way = runtime.memcpyDeviceToHost

        def together():
            runtime.memcpy(target, source, size, way)
            runtime.deviceSynchronize()

        def queued():
            runtime.memcpyAsync(target, source, size, way, stream.ptr)

        if mode == 'sync':
            yield timing.by_host(together)
        else:
            yield timing.by_events(backend.cupy, stream, queued)


@contextlib.contextmanager
def _inside(backend, size):
    """Copies within the memory of one device."""
    runtime = backend.runtime
    with memory.device(runtime, size) as source, \
            memory.device(runtime, size) as target, \
            memory.stream(backend.cupy) as stream:
        yield timing.by_events(
            backend.cupy, stream, lambda: runtime.memcpyAsync(
                target, source, size, runtime.memcpyDeviceToDevice,
                stream.ptr))


@contextlib.contextmanager
def _host(_backend, size):
    source = numpy.full(size, 1, dtype=numpy.uint8)
    target = numpy.zeros_like(source)
    yield timing.by_host(lambda: numpy.copyto(target, source))


def _bandwidth(name, size, opened, method, moved=1, **more):
    return case.Case(
        name='copy/%s/%s' % (name, case.size_name(size)), unit='MB/s',
        better='higher', scale=moved * size / 1e6, method=method,
        open=opened, **more)


def _latency(name, size, opened, method, **more):
    return case.Case(
        name='latency/%s/%s' % (name, case.size_name(size)), unit='us',
        better='lower', scale=1e6, method=method, open=opened, **more)


def cases(sizes, **_options):
    """The cases of this group; 1 MB/s is 10^6 bytes a second."""
    for make, chosen in ((_bandwidth, sizes.copies),
                         (_latency, sizes.small_copies)):
        for direction in ('h2d', 'd2h'):
            for kind in _KINDS:
                for mode, method in (('sync', _SYNC), ('async', _ASYNC)):
                    for size in chosen:
                        yield make(
                            '%s/%s/%s' % (direction, kind, mode), size,
                            functools.partial(
                                _between, direction=direction, kind=kind,
                                mode=mode, size=size),
                            method, needs=('cupy',), host_bytes=size,
                            device_bytes=size)
    for size in sizes.copies:
        yield _bandwidth(
            'd2d', size, functools.partial(_inside, size=size),
            _ASYNC + '; bytes read and bytes written both count', moved=2,
            needs=('cupy',), device_bytes=2 * size)
    for size in sizes.small_copies:
        yield _latency('d2d', size, functools.partial(_inside, size=size),
                       _ASYNC, needs=('cupy',), device_bytes=2 * size)
    # The host's own memory, the largest size of the small ones: what the
    # hypervisor costs a copy that no device takes part in.
    size = max(sizes.small_copies)
    yield _bandwidth(
        'host', size, functools.partial(_host, size=size),
        'numpy.copyto by the host\'s clock; bytes read and bytes written both '
        'count', moved=2, host_bytes=2 * size)
