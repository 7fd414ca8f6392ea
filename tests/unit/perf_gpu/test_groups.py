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


"""The cases: what they say of themselves, and those that need no GPU, run."""

import importlib.util
import os
import pathlib
import stat

import fixtures
import numpy
from oslotest import base

from perf.gpu import backends
from perf.gpu.backends import cpu as cpu_backend
from perf.gpu.backends import gpu
from perf.gpu.backends import nvml
from perf.gpu import case
from perf.gpu import errors
from perf.gpu import groups
from perf.gpu.groups import cifar10
from perf.gpu.groups import cpu
from perf.gpu.groups import kernels
from perf.gpu.groups import matmul
from perf.gpu.groups import resnet
from perf.gpu.groups import training

# As sysbench 1.0.20 prints it.
SYSBENCH_CPU = '''
CPU speed:
    events per second:  4067.02

General statistics:
    total time:                          1.0001s
'''
SYSBENCH_MEMORY = '''
Total operations: 4096 (29378.26 per second)

4096.00 MiB transferred (29378.26 MiB/sec)
'''


def _needs(module):
    """A reason to skip where an optional library is missing."""
    return None if importlib.util.find_spec(module) else \
        '%s is not installed' % module


class CasesTest(base.BaseTestCase):

    def test_what_needs_a_gpu_is_skipped_with_the_reason(self):
        backend = cpu_backend.Backend('the driver is not loaded')
        for name, found in groups.cases(case.FULL).items():
            reason = found.blocked(backend)
            if 'cupy' in found.needs or 'torch' in found.needs:
                self.assertEqual(
                    'needs a GPU: the driver is not loaded', reason, name)
            elif not found.needs:
                self.assertIsNone(reason, name)

    def test_every_case_without_a_gpu_runs(self):
        backend = cpu_backend.Backend()
        ran = set()
        for name, found in groups.cases(case.TINY).items():
            if found.blocked(backend):
                continue
            with found.open(backend) as run:
                seconds = run(2)
            self.assertGreater(found.value(seconds / 2), 0, name)
            ran.add(found.group)
        self.assertEqual({'copy', 'matmul', 'training', 'cpu'}, ran)

    def test_names_say_what_was_asked_for(self):
        names = set(groups.cases(case.FULL))
        for size in (128, 256, 512, 1024, 2048):
            self.assertIn('copy/d2d/%dMiB' % size, names)
            for way in ('h2d', 'd2h'):
                for kind in ('pageable', 'pinned'):
                    for mode in ('sync', 'async'):
                        self.assertIn('copy/%s/%s/%s/%dMiB' % (
                            way, kind, mode, size), names)
        for name in ('latency/h2d/pinned/sync/4KiB', 'latency/d2d/64MiB',
                     'memory/managed-hints/async/64MiB',
                     'memory/zero-copy/1MiB', 'matmul/nvrtc/8192',
                     'matmul/cublas-fp8/8192', 'launch/latency',
                     'training/resnet20/fp32/128', 'peer/copy/64MiB',
                     'peer/all-reduce/8/64MiB', 'cpu/sysbench-cpu/all'):
            self.assertIn(name, names)

    def test_values_are_in_their_units(self):
        cases = groups.cases(case.FULL)
        # 128 MiB in a second, read and written; 2 n^3 operations.
        for name, seconds, value in (
                ('copy/h2d/pinned/sync/128MiB', 1, 134.217728),
                ('copy/d2d/128MiB', 1, 2 * 134.217728),
                ('latency/h2d/pinned/sync/4KiB', 5e-6, 5),
                ('matmul/nvrtc/1024', 2, 1.073741824),
                ('memory/managed/1MiB', 0.25, 250),
                ('training/resnet20/fp32/128', 0.5, 256),
                ('peer/all-reduce/4/64MiB', 1, 1.5 * 67.108864)):
            self.assertAlmostEqual(value, cases[name].value(seconds), msg=name)

    def test_more_memory_than_half_of_what_is_free_is_not_taken(self):
        backend = cpu_backend.Backend()
        self.assertIsNone(backend.short_of_memory(1 << 20, 0))
        self.assertIn('of main memory', backend.short_of_memory(1 << 50, 0))
        self.assertIsNone(cpu_backend.short_of(50, 100, 'GPU memory'))
        self.assertIn('GPU memory', cpu_backend.short_of(
            51, 100, 'GPU memory'))

    def test_order_is_by_size(self):
        names = ['copy/a/1024MiB', 'copy/a/4KiB', 'copy/a/128MiB', 'copy/a']
        self.assertEqual(
            ['copy/a', 'copy/a/4KiB', 'copy/a/128MiB', 'copy/a/1024MiB'],
            sorted(names, key=case.order))
        self.assertEqual(('copy/a', 4096), case.series('copy/a/4KiB'))
        self.assertEqual(('matmul/nvrtc', 512),
                         case.series('matmul/nvrtc/512'))
        self.assertEqual(('cpu/pipe', None), case.series('cpu/pipe'))

    def test_backend_of_choice(self):
        self.assertEqual('cpu', backends.choose('cpu').name)
        if gpu.unusable() is None:
            self.skipTest('this machine has a GPU')
        self.assertEqual('cpu', backends.choose('auto').name)
        error = self.assertRaises(errors.PerfError, backends.choose, 'gpu')
        self.assertIn('No GPU can be measured', str(error))

    def test_throttling_is_named(self):
        self.assertEqual([], nvml.throttling(0x1 | 0x2))
        self.assertEqual(
            ['software power cap', 'hardware thermal slowdown'],
            nvml.throttling(0x1 | 0x4 | 0x40))

    def test_monitor_without_a_driver_knows_nothing(self):
        if gpu.unusable() is None:
            self.skipTest('this machine has a GPU')
        monitor = nvml.Monitor(0)
        self.assertEqual([], monitor.describe())
        self.assertEqual({}, monitor.clocks())
        load = nvml.Load(monitor)
        load.start()
        self.assertIsNone(load.stop())


class ProcessorTest(base.BaseTestCase):

    def test_rate_of_sysbench(self):
        self.assertEqual(4067.02, cpu.sysbench_rate('cpu', SYSBENCH_CPU))
        self.assertEqual(29378.26,
                         cpu.sysbench_rate('memory', SYSBENCH_MEMORY))
        for text in ('', 'FATAL: no such test', 'events per second: 0.00'):
            self.assertRaises(ValueError, cpu.sysbench_rate, 'cpu', text)

    def test_sysbench_is_called_where_it_is_installed(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        program = folder / 'sysbench'
        program.write_text('#!/bin/sh\necho "$@" >>%s/calls\n'
                           'echo "events per second: 50.0"\n' % folder)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        found = groups.cases(case.TINY)['cpu/sysbench-cpu/one']
        backend = cpu_backend.Backend()
        self.useFixture(fixtures.EnvironmentVariable('PATH', '/nowhere'))
        self.assertEqual('sysbench is not installed', found.blocked(backend))
        self.useFixture(fixtures.EnvironmentVariable(
            'PATH', '%s:%s' % (folder, os.defpath)))
        self.assertIsNone(found.blocked(backend))
        with found.open(backend) as run:
            self.assertAlmostEqual(50, found.value(run(1)))
        self.assertEqual('cpu --threads=1 --time=0 --events=100 run\n',
                         (folder / 'calls').read_text())


class TrainingTest(base.BaseTestCase):

    def test_network_in_numpy_learns(self):
        data = cifar10.load(None)
        network = training.Perceptron(data, batch=128)
        losses = [network.step() for _ in range(400)]
        # The labels are random: to fall below the logarithm of ten classes
        # is to have learnt the images.
        self.assertLess(numpy.mean(losses[-10:]), 1.5)
        self.assertGreater(losses[0], 2)

    def test_set_is_read_from_its_binary_version(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        records = numpy.zeros((3, 3073), dtype=numpy.uint8)
        records[:, 0] = (7, 0, 9)
        records[1, 1:] = 255
        records.tofile(folder / 'data_batch_1.bin')
        images, labels = cifar10.load(folder)
        self.assertEqual([7, 0, 9], labels.tolist())
        self.assertEqual((3, 3, 32, 32), images.shape)
        self.assertEqual((-1, 1), (images[0].max(), images[1].min()))

    def test_set_that_is_damaged_or_absent(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        error = self.assertRaises(errors.PerfError, cifar10.load, folder)
        self.assertIn('cannot be read', str(error))
        (folder / 'data_batch_1.bin').write_bytes(bytes(3074))
        error = self.assertRaises(errors.PerfError, cifar10.load, folder)
        self.assertIn('3074 bytes', str(error))

    def test_resnet20_learns_on_the_cpu(self):
        reason = _needs('torch')
        if reason:
            self.skipTest(reason)
        import torch
        data = cifar10.load(None)
        for bf16 in (False, True):
            network = resnet.Training(torch, 'cpu', [
                part[:32] for part in data], 32, bf16)
            # He et al., table 6: 0.27 million.
            self.assertAlmostEqual(0.27e6, sum(
                one.numel() for one in network.model.parameters()),
                delta=0.005e6)
            losses = [float(network.step().detach()) for _ in range(12)]
            self.assertLess(losses[-1], losses[0])


class KernelsTest(base.BaseTestCase):

    def test_kernels_compile(self):
        reason = _needs('cupy')
        if reason:
            self.skipTest(reason)
        from cupy.cuda import nvrtc
        try:
            nvrtc.getVersion()
        except (ImportError, RuntimeError) as error:
            self.skipTest('NVRTC cannot be loaded: %s' % error)
        for number in nvrtc.getSupportedArchs():
            program = nvrtc.createProgram(kernels.SOURCE, 'a.cu', (), ())
            nvrtc.compileProgram(program, (
                '--gpu-architecture=sm_%d' % number,))
            self.assertIn(b'matmul', nvrtc.getCUBIN(program))

    def test_sizes_are_whole_tiles(self):
        for sizes in case.SIZES.values():
            rows = [*sizes.matmul]
            for size in sizes.memory_kinds:
                rows.append(int((size // 4) ** 0.5))
                self.assertEqual(size, 4 * rows[-1] ** 2)
            for number in rows:
                self.assertEqual(0, number % kernels.TILE)

    def test_wrong_product_is_not_timed(self):
        matmul.check(numpy.full(16, 4.0), 4)
        product = numpy.full(16, 4.0)
        product[3] = 3
        self.assertRaises(ArithmeticError, matmul.check, product, 4)
