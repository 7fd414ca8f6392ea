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


"""A machine without a GPU: what runs on NumPy and the kernel alone."""

import shutil

import psutil

# A case never takes more of what is free than this.
SHARE_OF_FREE = 0.5


class Backend:
    """What cases may ask of the machine they run on.

    :param reason: why there is no GPU, for the cases that need one.
    """

    name = 'cpu'

    def __init__(self, reason='the CPU backend was asked for'):
        self.no_gpu = reason

    def missing(self, need):
        """Why a need of a case is not met, None if it is.

        :param need: ``cupy``, ``torch``, ``nvrtc``, ``managed`` (concurrent
            managed memory), ``fp8``, ``gpus:NUMBER`` or ``program:NAME``.
        """
        if need.startswith('program:'):
            program = need.partition(':')[2]
            if shutil.which(program) is None:
                return '%s is not installed' % program
            return None
        return 'needs a GPU: %s' % self.no_gpu

    def short_of_memory(self, host, device):
        """Why so many bytes cannot be allocated here, None if they can.

        :param host: bytes of main memory.
        :param device: bytes of GPU memory.
        """
        return short_of(host, psutil.virtual_memory().available,
                        'main memory')

    def describe(self):
        """What the machine's description says of the GPU."""
        return {'gpus': []}

    def release(self):
        """Give back what libraries keep for later."""

    def clocks(self):
        """Clocks and throttling now; nothing is known without a GPU."""
        return {}


def short_of(wanted, free, kind):
    """Why so much memory is not taken, None if it may be."""
    if wanted <= SHARE_OF_FREE * free:
        return None
    return 'needs %d MiB of %s, and half of the %d MiB that are free is ' \
        'less' % (wanted >> 20, kind, free >> 20)
