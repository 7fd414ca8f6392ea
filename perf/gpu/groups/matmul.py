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


"""Products of square matrices: own kernel, cuBLAS, NumPy."""

import contextlib
import functools

import numpy

from perf.gpu import case
from perf.gpu.groups import kernels
from perf.gpu.groups import memory
from perf.gpu.groups import timing

# The way to cuBLAS for each kind of number. "highest" and "high" are what
# PyTorch calls fp32 without and with tensor cores.
_BLAS = {'fp32': ('float32', 'highest'), 'tf32': ('float32', 'high'),
         'bf16': ('bfloat16', 'highest')}


def operations(rows):
    """Multiplications and additions of one product."""
    return 2 * rows ** 3


@contextlib.contextmanager
def _nvrtc(backend, rows):
    """The kernel of the thesis's test: tiles in shared memory."""
    cupy, runtime = backend.cupy, backend.runtime
    kernel = kernels.load(cupy, 'matmul')
    size = 4 * rows * rows
    blocks = rows // kernels.TILE
    with memory.device(runtime, size) as a, \
            memory.device(runtime, size) as b, \
            memory.device(runtime, size) as c, \
            memory.stream(cupy) as stream:
        ones = numpy.ones(rows * rows, dtype=numpy.float32)
        for pointer in (a, b):
            runtime.memcpy(pointer, ones.ctypes.data, size,
                           runtime.memcpyHostToDevice)
        # A small copy may return before its last bytes have arrived, and the
        # stream of the kernel waits for nobody.
        runtime.deviceSynchronize()
        arguments = (a, b, c, numpy.int32(rows))

        def multiply():
            kernel((blocks, blocks), (kernels.TILE, kernels.TILE), arguments)

        multiply()
        stream.synchronize()
        runtime.memcpy(ones.ctypes.data, c, size, runtime.memcpyDeviceToHost)
        check(ones, rows)
        yield timing.by_events(cupy, stream, multiply)


def check(product, rows):
    """Refuse to time a product of ones that is not right.

    :raises: ArithmeticError, which fails the case with this text.
    """
    if not (numpy.asarray(product) == rows).all():
        raise ArithmeticError('The GPU multiplied wrongly: a product of '
                              'matrices of ones should hold %d only' % rows)


@contextlib.contextmanager
def _cublas(backend, rows, kind):
    torch = backend.torch
    name, precision = _BLAS[kind]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        a, b, c = (torch.ones(rows, rows, dtype=getattr(torch, name),
                              device='cuda') for _ in range(3))
        yield timing.by_torch_events(torch, lambda: torch.mm(a, b, out=c))
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def _fp8(backend, rows):
    """cuBLASLt by the one door PyTorch has to it for fp8."""
    torch = backend.torch
    a, b = (torch.ones(rows, rows, device='cuda').to(torch.float8_e4m3fn)
            for _ in range(2))
    one = torch.ones((), device='cuda')
    # The second factor has to be stored by columns.
    columns = b.t()

    def multiply():
        return torch._scaled_mm(a, columns, scale_a=one, scale_b=one,
                                out_dtype=torch.bfloat16)
    yield timing.by_torch_events(torch, multiply)


@contextlib.contextmanager
def _numpy(_backend, rows):
    a = numpy.ones((rows, rows), dtype=numpy.float32)
    b = numpy.ones_like(a)
    c = numpy.empty_like(a)
    yield timing.by_host(lambda: numpy.matmul(a, b, out=c))


def _case(name, rows, opened, method, **more):
    return case.Case(
        name='matmul/%s/%d' % (name, rows), unit='GFLOP/s', better='higher',
        scale=operations(rows) / 1e9, method=method, open=opened, **more)


def cases(sizes, **_options):
    """The cases of this group."""
    for rows in sizes.matmul:
        yield _case('nvrtc', rows, functools.partial(_nvrtc, rows=rows),
                    'own tiled fp32 kernel compiled by NVRTC, CUDA events',
                    needs=('cupy', 'nvrtc'), host_bytes=4 * rows * rows,
                    device_bytes=12 * rows * rows)
    for kind in _BLAS:
        for rows in sizes.blas:
            yield _case(
                'cublas-' + kind, rows,
                functools.partial(_cublas, rows=rows, kind=kind),
                'torch.mm in %s, CUDA events' % kind, needs=('torch',),
                device_bytes=12 * rows * rows)
    for rows in sizes.blas:
        yield _case('cublas-fp8', rows, functools.partial(_fp8, rows=rows),
                    'torch._scaled_mm of e4m3 into bf16, CUDA events',
                    needs=('torch', 'fp8'), device_bytes=14 * rows * rows)
    for rows in sizes.numpy_matmul:
        yield _case('numpy', rows, functools.partial(_numpy, rows=rows),
                    'numpy.matmul in fp32, by the host\'s clock',
                    host_bytes=12 * rows * rows)
