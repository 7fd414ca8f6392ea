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

"""Run the ``main`` of a module as its console script would.

``python -m nova_gpu_lease.devcloud.launch MODULE[:FUNCTION] [ARGUMENT ...]``
works from a source tree that is not installed.
"""

import importlib
import sys


def main():
    """Import the module and call its main function."""
    name, _, function = sys.argv[1].partition(':')
    sys.argv[:] = [name.replace('_', '-').replace('.', '-'), *sys.argv[2:]]
    sys.exit(getattr(importlib.import_module(name), function or 'main')())


if __name__ == '__main__':
    main()
