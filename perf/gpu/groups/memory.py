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


"""Memory of all kinds by plain CUDA allocations, freed when a case ends.

No pools and no caches: what a pool hands out may be warm, and stays taken.
"""

import contextlib
import ctypes

import numpy


def view(pointer, count, kind=ctypes.c_float):
    """A NumPy array over memory that somebody else owns."""
    return numpy.ctypeslib.as_array((kind * count).from_address(pointer))


@contextlib.contextmanager
def device(runtime, size):
    """GPU memory; the address."""
    pointer = runtime.malloc(size)
    try:
        runtime.memset(pointer, 1, size)
        runtime.deviceSynchronize()
        yield pointer
    finally:
        runtime.free(pointer)


@contextlib.contextmanager
def pinned(runtime, size, mapped=False):
    """Page-locked host memory, written once; the address.

    :param mapped: whether kernels are to reach it. The address is the same on
        the GPU (unified addressing, which 64-bit Linux always has).
    """
    pointer = runtime.hostAlloc(
        size, runtime.hostAllocMapped if mapped else runtime.hostAllocDefault)
    try:
        ctypes.memset(pointer, 1, size)
        yield pointer
    finally:
        runtime.freeHost(pointer)


@contextlib.contextmanager
def pageable(_runtime, size):
    """Ordinary host memory, every page of it touched; the address."""
    array = numpy.full(size, 1, dtype=numpy.uint8)
    yield array.ctypes.data


@contextlib.contextmanager
def managed(runtime, size):
    """Managed memory, which moves to whoever touches it; the address."""
    pointer = runtime.mallocManaged(size)
    try:
        yield pointer
    finally:
        runtime.deviceSynchronize()
        runtime.free(pointer)


@contextlib.contextmanager
def stream(cupy):
    """A stream of its own as CuPy's current one."""
    own = cupy.cuda.Stream(non_blocking=True)
    with own:
        yield own
    own.synchronize()
