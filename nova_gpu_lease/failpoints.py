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


"""Named places at which a test has this process killed.

Off, and as good as free, unless the environment variable names a file when
the process starts. A process that reaches a place whose name is a line of that
file removes the line and is killed at once, by SIGKILL: nothing is cleaned up.
Tests of what happens after a crash use it; nothing else does.
"""

import os
import signal

VARIABLE = 'NOVA_GPU_LEASE_FAILPOINTS'

_FILE = os.environ.get(VARIABLE)

#: Every place, in the order in which a server passes them.
NAMES = (
    # nova-conductor: from the cast to the lease ACTIVE
    'cast-taken', 'queued', 'trust-made', 'dispatching', 'claimed',
    'record-created', 'mapped', 'build-request-deleted', 'cast', 'cast-sent',
    'placed',
    # nova-compute; the guest is the devcloud's
    'build-allowed', 'device-claimed', 'spawning', 'guest-started',
    'build-ended',
    # nova-conductor
    'build-told',
    # nova-conductor, at the end
    'due', 'expiring', 'end-begun', 'end-cast', 'end-asked',
    # nova-compute: what the driver of the devcloud does for it
    'guest-off', 'snapshot-taken', 'guest-removed',
    # nova-conductor
    'end-seen')


def hit(name):
    """Die here if a test wants it.

    :param name: one of NAMES.
    """
    if _FILE is not None:
        _look(name)


def before(name, function):
    """A function that passes a place before it does what another does."""
    def passing(*args, **kwargs):
        hit(name)
        return function(*args, **kwargs)
    return passing


def _look(name):
    try:
        with open(_FILE) as armed:
            names = armed.read().split()
    except FileNotFoundError:
        return
    if name not in names:
        return
    names.remove(name)
    with open(_FILE, 'w') as armed:
        armed.write('\n'.join(names))
    os.kill(os.getpid(), signal.SIGKILL)
