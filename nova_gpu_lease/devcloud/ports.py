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

"""Free loopback ports for a cloud, chosen once.

Each cloud gets a block of ports below the kernel's ephemeral range, so that
no outgoing connection takes one of them later. A small file shared by the
clouds of a user keeps two that start at the same time out of one block.
"""

import contextlib
import errno
import fcntl
import json
import os
import random
import socket

from nova_gpu_lease.devcloud import exceptions

HOST = '127.0.0.1'
_FIRST = 20000
_LAST = 32000
_BLOCK = 16


def is_free(port):
    """Tell whether nobody listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


@contextlib.contextmanager
def _register(directory):
    """Yield the blocks in use by state directory, and write them back."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / 'ports.json'
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with open(descriptor, 'r+') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            blocks = json.load(stream)
        except ValueError:
            blocks = {}
        blocks = {owner: first for owner, first in blocks.items()
                  if os.path.isdir(owner)}
        yield blocks
        stream.seek(0)
        stream.truncate()
        json.dump(blocks, stream)


def choose(owner, names, directory):
    """Choose a block of free ports and give one to each name.

    :param owner: the state directory the ports are for
    :param names: names of the services, at most as many as a block has ports
    :param directory: where the clouds of this user keep the shared file
    :returns: dict of name to port
    :raises: DevcloudError if no block is free
    """
    with _register(directory) as blocks:
        candidates = list(range(_FIRST, _LAST, _BLOCK))
        random.shuffle(candidates)
        taken = set(blocks.values())
        for first in candidates:
            chosen = range(first, first + len(names))
            if first not in taken and all(is_free(port) for port in chosen):
                blocks[str(owner)] = first
                return dict(zip(names, chosen))
    raise exceptions.DevcloudError(
        f'No {len(names)} free ports in a row between {_FIRST} and {_LAST} '
        f'on {HOST}.')


def release(owner, directory):
    """Give the block of a state directory back."""
    with _register(directory) as blocks:
        blocks.pop(str(owner), None)
