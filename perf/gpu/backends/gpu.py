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


"""An NVIDIA GPU: CuPy for the runtime and NVRTC, PyTorch for its libraries.

Both are optional and imported when they are used first, so that a machine that
lacks one skips its cases and says why.
"""

import functools
import importlib
import os

from perf.gpu.backends import cpu
from perf.gpu.backends import nvml


def _import(name):
    """A module, or the reason why it cannot be had.

    :returns: (module or None, reason or None).
    """
    try:
        return importlib.import_module(name), None
    # A library for another driver fails in many ways, not by ImportError
    # alone; all of them are reasons to skip.
    except Exception as error:
        text = (str(error).splitlines() or [''])[0]
        return None, '%s cannot be imported (%s: %s)' % (
            name, type(error).__name__, text)


def unusable():
    """Why no GPU can be measured in this process, None if one can."""
    if not os.path.exists('/proc/driver/nvidia/version') and \
            not os.path.exists('/dev/nvidiactl') and \
            not os.path.exists('/dev/dxg'):
        return 'the NVIDIA driver is not loaded'
    reasons = []
    for name, count in (('cupy', _cupy_devices), ('torch', _torch_devices)):
        module, reason = _import(name)
        if module is None:
            reasons.append(reason)
            continue
        found, reason = count(module)
        if found:
            return None
        reasons.append(reason)
    return '; '.join(reasons)


def _cupy_devices(cupy):
    try:
        return cupy.cuda.runtime.getDeviceCount(), 'CuPy sees no device'
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return 0, 'CuPy: %s' % error


def _torch_devices(torch):
    if torch.version.cuda is None:
        return 0, 'PyTorch %s was built without CUDA' % torch.__version__
    return torch.cuda.device_count(), 'PyTorch sees no device'


class Backend(cpu.Backend):
    """The first GPU that is visible; all of them for what needs peers."""

    name = 'gpu'
    device = 0

    def __init__(self):
        super().__init__(reason=None)
        self.nvml = nvml.Monitor(self.device, self._bus_id())

    @functools.cached_property
    def cupy(self):
        """CuPy, None where it does not reach the GPU."""
        return None if self._missing_cupy() else _import('cupy')[0]

    @functools.cached_property
    def torch(self):
        """PyTorch, None where it does not reach the GPU."""
        return None if self._missing_torch() else _import('torch')[0]

    @property
    def runtime(self):
        return self.cupy.cuda.runtime

    def missing(self, need):
        kind, _, detail = need.partition(':')
        if kind == 'program':
            return super().missing(need)
        if kind == 'gpus':
            return self._missing_gpus(int(detail))
        return getattr(self, '_missing_' + kind)()

    def _missing_cupy(self):
        module, reason = _import('cupy')
        if module is None:
            return reason
        count, reason = _cupy_devices(module)
        return None if count else reason

    def _missing_torch(self):
        module, reason = _import('torch')
        if module is None:
            return reason
        count, reason = _torch_devices(module)
        return None if count else reason

    def _missing_gpus(self, wanted):
        count = self.count()
        if count >= wanted:
            return None
        return 'needs %d GPUs, the machine shows %d' % (wanted, count)

    def _missing_nvrtc(self):
        reason = self._missing_cupy()
        if reason:
            return reason
        try:
            self.cupy.cuda.nvrtc.getVersion()
        # CuPy raises what its loader met, an ImportError or a RuntimeError.
        except Exception as error:
            return 'NVRTC cannot be loaded (%s)' % error
        return None

    def _missing_managed(self):
        reason = self._missing_cupy()
        if reason:
            return reason
        known = self.runtime.deviceGetAttribute(
            self.runtime.cudaDevAttrConcurrentManagedAccess, self.device)
        return None if known else (
            'the GPU and its driver offer no concurrent managed memory, which '
            'hints and prefetches need')

    def _missing_fp8(self):
        reason = self._missing_torch()
        if reason:
            return reason
        if not hasattr(self.torch, '_scaled_mm'):
            return 'this PyTorch multiplies no fp8'
        capability = self.torch.cuda.get_device_capability(self.device)
        if capability >= (8, 9):
            return None
        return 'fp8 needs compute capability 8.9, the GPU has %d.%d' % (
            capability)

    def count(self):
        """How many GPUs are visible."""
        if self.cupy is not None:
            return _cupy_devices(self.cupy)[0]
        return _torch_devices(self.torch)[0]

    def memory(self):
        """Bytes of GPU memory, (free, in all)."""
        if self.cupy is not None:
            return self.runtime.memGetInfo()
        return self.torch.cuda.mem_get_info(self.device)

    def short_of_memory(self, host, device):
        return super().short_of_memory(host, device) or cpu.short_of(
            device, self.memory()[0], 'GPU memory')

    def release(self):
        """Give back what the libraries' caches hold."""
        if self.cupy is not None:
            self.cupy.get_default_memory_pool().free_all_blocks()
            self.cupy.get_default_pinned_memory_pool().free_all_blocks()
        if self.torch is not None:
            self.torch.cuda.empty_cache()

    def _bus_id(self):
        """The PCI address of the device as CUDA counts, None if unknown.

        NVML counts differently from CUDA where CUDA_VISIBLE_DEVICES is set.
        """
        if self.cupy is None:
            return None
        return self.runtime.deviceGetPCIBusId(self.device)

    def describe(self):
        versions = {}
        if self.cupy is not None:
            versions['cuda_runtime'] = self.runtime.runtimeGetVersion()
            versions['cuda_driver_api'] = self.runtime.driverGetVersion()
            versions['cupy'] = self.cupy.__version__
        if self.torch is not None:
            versions['torch'] = self.torch.__version__
            versions['torch_cuda'] = self.torch.version.cuda
            versions['cudnn'] = self.torch.backends.cudnn.version()
        return {'gpus': self.nvml.describe(), 'gpu_count': self.count(),
                'gpu_memory_mib': self.memory()[1] >> 20,
                'libraries': versions}

    def clocks(self):
        return self.nvml.clocks()
