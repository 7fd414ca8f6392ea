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


"""What the driver knows of a GPU: description, clocks, throttling, load.

By nvidia-ml-py, NVIDIA's own binding. Without it, or where the hypervisor
hides a value, the value is absent; nothing is made up.
"""

import importlib
import statistics
import threading

# Bits of nvmlDeviceGetCurrentClocksEventReasons, as in nvml.h. Being idle and
# a clock that the operator set are no throttling.
REASONS = {
    0x4: 'software power cap',
    0x8: 'hardware slowdown',
    0x20: 'software thermal slowdown',
    0x40: 'hardware thermal slowdown',
    0x80: 'power brake',
}
# Seconds between two looks at the load; NVML's own window is no shorter.
LOAD_INTERVAL = 0.1


def throttling(bits):
    """The names of the reasons in a mask, in the order of their bits."""
    return [name for bit, name in REASONS.items() if bits & bit]


class Monitor:
    """One GPU as NVML sees it.

    :param index: its number, used if the address is not known.
    :param bus_id: its PCI address, ``0000:65:00.0``, or None.
    """

    def __init__(self, index, bus_id=None):
        self._nvml = self._handle = None
        try:
            nvml = importlib.import_module('pynvml')
        except ImportError:
            return
        try:
            nvml.nvmlInit()
            self._handle = (
                nvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
                if bus_id else nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError:
            return
        self._nvml = nvml

    def _ask(self, name, *arguments):
        """The answer of one NVML call, None if there is none."""
        if self._nvml is None:
            return None
        try:
            answer = getattr(self._nvml, name)(self._handle, *arguments)
        # A call that this version of the binding or the driver lacks.
        except (AttributeError, self._nvml.NVMLError):
            return None
        return answer.decode() if isinstance(answer, bytes) else answer

    def _link(self):
        return {
            'pcie_generation': self._ask(
                'nvmlDeviceGetCurrPcieLinkGeneration'),
            'pcie_width': self._ask('nvmlDeviceGetCurrPcieLinkWidth')}

    def describe(self):
        """The GPU's description as a list of one, empty without NVML."""
        if self._nvml is None:
            return []
        nvml = self._nvml
        pci = self._ask('nvmlDeviceGetPciInfo')
        address = getattr(pci, 'busId', None)
        power = self._ask('nvmlDeviceGetPowerManagementLimit')
        bar = self._ask('nvmlDeviceGetBAR1MemoryInfo')
        ecc = self._ask('nvmlDeviceGetEccMode')
        found = {
            'model': self._ask('nvmlDeviceGetName'),
            'uuid': self._ask('nvmlDeviceGetUUID'),
            'address': address.decode() if isinstance(address, bytes)
            else address,
            'driver': self._driver(),
            'pcie_generation_max': self._ask(
                'nvmlDeviceGetMaxPcieLinkGeneration'),
            'pcie_width_max': self._ask('nvmlDeviceGetMaxPcieLinkWidth'),
            'sm_mhz_max': self._ask(
                'nvmlDeviceGetMaxClockInfo', nvml.NVML_CLOCK_SM),
            'memory_mhz_max': self._ask(
                'nvmlDeviceGetMaxClockInfo', nvml.NVML_CLOCK_MEM),
            'power_limit_w': power and power / 1000,
            'persistence': self._ask('nvmlDeviceGetPersistenceMode'),
            'ecc': ecc and ecc[0],
            'bar1_mib': bar and bar.bar1Total >> 20,
            **self._link(),
        }
        return [{key: value for key, value in found.items()
                 if value is not None}]

    def _driver(self):
        try:
            version = self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return None
        return version.decode() if isinstance(version, bytes) else version

    def clocks(self):
        """Clocks in MHz, degrees Celsius, the link and throttling, now.

        To be asked right after the work, before the GPU falls back to idle:
        the PCIe link, too, is slower when nothing uses it.
        """
        if self._nvml is None:
            return {}
        nvml = self._nvml
        bits = self._ask('nvmlDeviceGetCurrentClocksThrottleReasons')
        found = {
            'sm_mhz': self._ask('nvmlDeviceGetClockInfo', nvml.NVML_CLOCK_SM),
            'memory_mhz': self._ask(
                'nvmlDeviceGetClockInfo', nvml.NVML_CLOCK_MEM),
            'celsius': self._ask('nvmlDeviceGetTemperature',
                                 nvml.NVML_TEMPERATURE_GPU),
            'throttled': None if bits is None else throttling(bits),
            **self._link(),
        }
        return {key: value for key, value in found.items()
                if value is not None}

    def busy(self):
        """Percent of the last moment in which a kernel ran, None if unknown.

        The same figure that nvidia-smi shows.
        """
        rates = self._ask('nvmlDeviceGetUtilizationRates')
        return None if rates is None else rates.gpu


class Load(threading.Thread):
    """Watches how busy a GPU is while something else runs."""

    def __init__(self, monitor):
        super().__init__(daemon=True)
        self._monitor = monitor
        self._done = threading.Event()
        self._seen = []

    def run(self):
        while not self._done.wait(LOAD_INTERVAL):
            busy = self._monitor.busy()
            if busy is not None:
                self._seen.append(busy)

    def stop(self):
        """End the watch.

        :returns: the mean of what was seen, in percent; None for nothing.
        """
        self._done.set()
        self.join()
        return statistics.fmean(self._seen) if self._seen else None
