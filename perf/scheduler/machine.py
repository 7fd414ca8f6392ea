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
"""What was measured on: the machine and the versions."""

import importlib.metadata
import os
import pathlib
import platform

from perf.gpu import machine

_PACKAGES = ('nova', 'nova-gpu-lease', 'oslo.db', 'SQLAlchemy')


def describe(root='/'):
    """A dictionary fit for JSON; no host name, results are shown around.

    :param root: where ``proc`` and ``sys`` are.
    """
    root = pathlib.Path(root)
    versions = {'python': platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # Run from a checkout.
            continue
    cpu = machine.processor(root)
    return {
        'cpu': cpu['model'], 'cpus': len(cpu['allowed_cpus']),
        'memory_mib': machine.memory(root)['total_mib'],
        'kernel': platform.release(),
        'load': round(os.getloadavg()[0], 1), 'versions': versions}
