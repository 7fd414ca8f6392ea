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


"""One thing to measure, and how it is chosen and named.

Names are paths from the general to the particular, so that the first part is
the group and a sorted list reads well: ``copy/h2d/pinned/async/128MiB``.
"""

import contextlib
import dataclasses
import re
import typing

KIB = 1 << 10
MIB = 1 << 20


def size_name(size):
    """A number of bytes in the largest binary unit that divides it."""
    for unit, name in ((MIB, 'MiB'), (KIB, 'KiB')):
        if size % unit == 0:
            return '%d%s' % (size // unit, name)
    return '%dB' % size


def order(name):
    """The key by which names are sorted: 4KiB before 1MiB, 128 before 1024."""
    key = []
    for part in name.split('/'):
        match = re.fullmatch(r'(\d+)(B|KiB|MiB)?', part)
        if match:
            unit = {'KiB': KIB, 'MiB': MIB}.get(match.group(2), 1)
            key.append((0, int(match.group(1)) * unit, ''))
        else:
            key.append((1, 0, part))
    return key


def series(name):
    """A name without the size at its end, and that size.

    :returns: (name, bytes or rows); (name, None) if it ends with none.
    """
    rest, _, last = name.rpartition('/')
    kind, size, _ = order(last)[0]
    return (rest, size) if rest and kind == 0 else (name, None)


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement.

    :param name: unique, see above; equal names are compared.
    :param unit: of the value, for people.
    :param better: ``higher`` or ``lower``.
    :param scale: the value is ``scale`` divided by the seconds of one loop if
        higher is better, else ``scale`` times these seconds.
    :param method: how the seconds are taken, one sentence for the report.
    :param open: called with the backend; a context manager that gives a
        function from a number of loops to the seconds that all of them took.
        What it allocates is freed when the context ends.
    :param needs: what the backend must offer, see ``Backend.missing``.
    :param host_bytes: main memory the case allocates at once.
    :param device_bytes: GPU memory the case allocates at once.
    :param min_sample: seconds a sample takes at least. Several loops make one
        where a single loop is short against the clock; 0 for cases whose one
        loop is long and not to be repeated.
    """

    name: str
    unit: str
    better: str
    scale: float
    method: str
    open: typing.Callable[
        [typing.Any],
        contextlib.AbstractContextManager[typing.Callable[[int], float]]]
    needs: tuple = ()
    host_bytes: int = 0
    device_bytes: int = 0
    min_sample: float = 0.002

    @property
    def group(self):
        return self.name.partition('/')[0]

    def value(self, seconds):
        """The value of one loop that took so many seconds."""
        if self.better == 'higher':
            return self.scale / seconds
        return self.scale * seconds

    def blocked(self, backend):
        """Why the case cannot run here, None if it can."""
        for need in self.needs:
            reason = backend.missing(need)
            if reason:
                return reason
        return backend.short_of_memory(self.host_bytes, self.device_bytes)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the cases are.

    ``full`` are the sizes of the thesis and beyond, ``tiny`` keeps the whole
    path short enough for continuous integration. Results of different sizes
    are not compared.
    """

    name: str
    copies: tuple          # bytes, for bandwidth
    small_copies: tuple    # bytes, for latency
    memory_kinds: tuple    # bytes of one matrix
    matmul: tuple          # rows, own kernel
    blas: tuple            # rows, cuBLAS
    numpy_matmul: tuple    # rows, NumPy
    batch: int             # images
    sysbench_events: int   # of each thread


FULL = Sizes(
    name='full',
    copies=tuple(size * MIB for size in (128, 256, 512, 1024, 2048)),
    small_copies=tuple(size * KIB for size in (4, 64, 1024, 16384, 65536)),
    memory_kinds=tuple(size * MIB for size in (1, 4, 16, 64)),
    matmul=(128, 256, 512, 1024, 2048, 4096, 8192),
    blas=(1024, 4096, 8192), numpy_matmul=(1024,), batch=128,
    sysbench_events=1000)
TINY = Sizes(
    name='tiny', copies=(MIB, 4 * MIB), small_copies=(4 * KIB, 64 * KIB),
    memory_kinds=(64 * KIB,), matmul=(64, 128), blas=(128,),
    numpy_matmul=(64, 128), batch=16, sysbench_events=100)
SIZES = {sizes.name: sizes for sizes in (FULL, TINY)}
