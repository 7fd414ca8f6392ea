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


"""What a hypervisor costs the processor and the kernel.

The same questions as UnixBench asks, which the thesis used: arithmetic,
system calls, pipes, context switches, processes, files. sysbench adds its own
where it is installed.
"""

import contextlib
import functools
import hashlib
import os
import re
import subprocess
import sys
import tempfile

from perf.gpu import case
from perf.gpu.groups import timing

_BLOCK = 64 * case.KIB
_FILE = 4 * case.MIB


@contextlib.contextmanager
def _hash(_backend):
    block = bytes(_BLOCK)
    yield timing.by_host(lambda: hashlib.sha256(block).digest())


@contextlib.contextmanager
def _syscall(_backend):
    yield timing.by_host(os.getppid)


@contextlib.contextmanager
def _pipe(_backend):
    """A block through a pipe and back into the same process."""
    block = bytes(4 * case.KIB)
    read, write = os.pipe()
    try:
        def work():
            os.write(write, block)
            os.read(read, len(block))
        yield timing.by_host(work)
    finally:
        os.close(read)
        os.close(write)


# What answers each byte of its input; a program of its own, as a fork of this
# process would take threads and a CUDA context with it.
_ECHO = ('import os\n'
         'while os.read(0, 1): os.write(1, b"x")\n')


@contextlib.contextmanager
def _switch(_backend):
    """A byte to another process and back: two switches."""
    with subprocess.Popen([sys.executable, '-S', '-c', _ECHO],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          bufsize=0) as other:
        def work():
            other.stdin.write(b'x')
            other.stdout.read(1)
        work()
        yield timing.by_host(work)
        other.stdin.close()


@contextlib.contextmanager
def _process(_backend):
    yield timing.by_host(lambda: subprocess.run(['/bin/true'], check=True))


@contextlib.contextmanager
def _file(_backend):
    """A file written, read again and deleted, in the page cache."""
    block = bytes(_BLOCK)
    with tempfile.TemporaryDirectory(prefix='perf-gpu-') as folder:
        path = os.path.join(folder, 'file')

        def work():
            with open(path, 'wb', buffering=0) as file:
                for _ in range(_FILE // _BLOCK):
                    file.write(block)
            with open(path, 'rb', buffering=0) as file:
                while file.read(_BLOCK):
                    pass
            os.unlink(path)
        yield timing.by_host(work)


_SYSBENCH = {
    'cpu': r'events per second:\s+([0-9.]+)',
    'memory': r'\(([0-9.]+) MiB/sec\)',
}


def sysbench_rate(test, text):
    """The figure in what sysbench prints.

    :param test: ``cpu`` or ``memory``.
    :raises: ValueError if the figure is not there or is none.
    """
    found = re.search(_SYSBENCH[test], text)
    if not found or float(found.group(1)) <= 0:
        raise ValueError('sysbench %s printed no rate: %s' % (
            test, text.strip()[-200:]))
    return float(found.group(1))


@contextlib.contextmanager
def _sysbench(_backend, test, threads, events):
    """sysbench for a number of events: its shortest time is a whole second."""
    command = ['sysbench', test, '--threads=%d' % threads, '--time=0']
    if test == 'memory':
        command += ['--memory-block-size=1M',
                    '--memory-total-size=%dM' % (events * threads)]
    else:
        command.append('--events=%d' % (events * threads))

    def run(loops):
        spent = 0
        for _ in range(loops):
            done = subprocess.run([*command, 'run'], check=True, text=True,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
            # What one event took: the value is a rate again.
            spent += 1 / sysbench_rate(test, done.stdout)
        return spent
    yield run


def cases(sizes, **_options):
    """The cases of this group."""
    simple = (
        ('hash', _hash, 'MB/s', 'higher', _BLOCK / 1e6,
         'SHA-256 of 64 KiB'),
        ('syscall', _syscall, 'us', 'lower', 1e6, 'getppid() from Python'),
        ('pipe', _pipe, 'us', 'lower', 1e6,
         '4 KiB into a pipe and out of it'),
        ('switch', _switch, 'us', 'lower', 1e6,
         'a byte to another process and back, through pipes'),
        ('process', _process, 'ms', 'lower', 1e3, '/bin/true, waited for'),
        ('file', _file, 'MB/s', 'higher', 2 * _FILE / 1e6,
         '4 MiB written, read and deleted, in the page cache'),
    )
    for name, opened, unit, better, scale, method in simple:
        yield case.Case(name='cpu/' + name, unit=unit, better=better,
                        scale=scale, open=opened,
                        method='%s; by the host\'s clock' % method)
    everyone = len(os.sched_getaffinity(0))
    for test, unit in (('cpu', 'events/s'), ('memory', 'MiB/s')):
        for name, threads in (('one', 1), ('all', everyone)):
            yield case.Case(
                name='cpu/sysbench-%s/%s' % (test, name), unit=unit,
                better='higher', scale=1, min_sample=0,
                open=functools.partial(_sysbench, test=test, threads=threads,
                                       events=sizes.sysbench_events),
                method='sysbench %s on %s' % (
                    test, 'one CPU' if name == 'one' else 'all CPUs'),
                needs=('program:sysbench',))
