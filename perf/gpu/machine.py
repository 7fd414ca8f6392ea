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


"""The description of a machine: what may explain a difference.

Every value is read from where the kernel or a tool tells it; what is not told
is left out. Paths are below a root that tests give.
"""

import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import subprocess

_LIBRARIES = ('numpy', 'cupy-cuda12x', 'cupy-cuda13x', 'torch',
              'nvidia-ml-py')


def _text(path):
    """The contents of a file, None if it cannot be read."""
    try:
        return path.read_text().strip('\0 \n')
    except OSError:
        return None


def _number(path):
    text = _text(path)
    return int(text) if text and re.fullmatch(r'-?\d+', text) else None


def _fields(text):
    """``name: value`` lines, the first of each name."""
    found = {}
    for line in (text or '').splitlines():
        name, colon, value = line.partition(':')
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def hypervisor(root, detect='systemd-detect-virt'):
    """The name of the hypervisor, ``none`` in a host, None if unknown."""
    if shutil.which(detect):
        done = subprocess.run([detect, '--vm'], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
        if done.stdout.strip():
            return done.stdout.strip()
    flags = _fields(_text(root / 'proc/cpuinfo')).get('flags')
    if flags is None:
        return None
    return 'unknown' if 'hypervisor' in flags.split() else 'none'


def processor(root):
    """Model, CPUs, NUMA nodes and the CPUs this process may use."""
    cpuinfo = _text(root / 'proc/cpuinfo') or ''
    # The speed a governor allows, where there is one.
    governor = _text(root / 'sys/devices/system/cpu/cpu0/cpufreq/'
                     'scaling_governor')
    nodes = {path.name: _text(path / 'cpulist') for path in sorted(
        (root / 'sys/devices/system/node').glob('node[0-9]*'))}
    return {
        'model': _fields(cpuinfo).get('model name'),
        'cpus': len(re.findall(r'^processor\s*:', cpuinfo, re.MULTILINE)),
        'allowed_cpus': sorted(os.sched_getaffinity(0)),
        'numa_nodes': nodes or None,
        'governor': governor,
        'isolated': _text(root / 'sys/devices/system/cpu/isolated') or None,
    }


def memory(root):
    """Main memory and its huge pages."""
    info = _fields(_text(root / 'proc/meminfo'))

    def kib(name):
        match = re.match(r'(\d+)', info.get(name, ''))
        return int(match.group(1)) if match else None
    total = kib('MemTotal')
    transparent = _text(root / 'sys/kernel/mm/transparent_hugepage/enabled')
    chosen = re.search(r'\[(\w+)\]', transparent or '')
    return {
        'total_mib': total and total >> 10,
        'huge_pages': kib('HugePages_Total'),
        'huge_page_kib': kib('Hugepagesize'),
        'transparent_huge_pages': chosen and chosen.group(1),
    }


def devices(root, gpus):
    """Where the GPUs hang, as the kernel sees it: NUMA node and link.

    :param gpus: what the driver says of them; their ``address`` is used.
    """
    found = {}
    for gpu in gpus:
        # The driver writes eight digits of domain, sysfs four.
        domain, _, rest = gpu.get('address', '').lower().partition(':')
        address = '%s:%s' % (domain[-4:], rest)
        path = root / 'sys/bus/pci/devices' / address
        if not rest or not path.is_dir():
            continue
        found[address] = _known({
            'numa_node': _number(path / 'numa_node'),
            'link_speed': _text(path / 'current_link_speed'),
            'link_speed_max': _text(path / 'max_link_speed'),
            'link_width': _number(path / 'current_link_width'),
            'link_width_max': _number(path / 'max_link_width'),
            'iommu': (path / 'iommu_group').exists(),
        })
    return found


def libraries():
    """The versions of what measures."""
    found = {'python': platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _known(values):
    return {key: value for key, value in values.items() if value is not None}


def describe(backend, root='/'):
    """All of it.

    :param backend: what the cases run on; it describes its GPUs.
    :param root: where ``proc`` and ``sys`` are.
    :returns: a dictionary fit for JSON, without empty values. No host name
        and no address: results are shown around.
    """
    root = pathlib.Path(root)
    gpu = backend.describe()
    return {
        'hypervisor': hypervisor(root) or 'unknown',
        'product': ' '.join(filter(None, (
            _text(root / 'sys/class/dmi/id' / name)
            for name in ('sys_vendor', 'product_name')))),
        'kernel': platform.release(),
        'command_line': _text(root / 'proc/cmdline') or '',
        'processor': _known(processor(root)),
        'memory': _known(memory(root)),
        'libraries': libraries(),
        'pci': devices(root, gpu['gpus']),
        **gpu,
    }
