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

"""The fake guests of a host and the faults to come, as files.

The files are the hypervisor: they outlive nova-compute, and a command may
change them while it runs, as a guest that powers itself off would.
Nothing here knows Nova.
"""

import collections.abc
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import threading

RUNNING = 1
SHUTDOWN = 4
FAULTS = ('spawn', 'snapshot')


@dataclasses.dataclass
class Guest:
    """One guest.

    :ivar state: Nova's number of the power state
    :ivar devices: PCI addresses of the devices it has
    :ivar disk: what was written to its disk; a snapshot carries it on
    """

    uuid: str
    name: str
    state: int = RUNNING
    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    devices: list = dataclasses.field(default_factory=list)
    disk: str = ''


@contextlib.contextmanager
def _locked(directory):
    """Keep other processes from changing files of a directory."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(directory / '.lock', 'w') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _write(path, data):
    """Write a JSON file so that a reader sees the old or the new."""
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(data))
    os.replace(temporary, path)


class Guests(collections.abc.Mapping):
    """The guests of one host by UUID, always as the files say."""

    def __init__(self, home):
        """Use the guests under a host's state directory."""
        self.directory = pathlib.Path(home) / 'guests'
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What our own process wrote last, to notice others' changes.
        self._known = {uuid: self[uuid].state for uuid in self}
        self._lock = threading.RLock()

    def _path(self, uuid):
        return self.directory / f'{uuid}.json'

    def __getitem__(self, uuid):
        try:
            return Guest(**json.loads(self._path(uuid).read_text()))
        except FileNotFoundError:
            raise KeyError(uuid) from None

    def __iter__(self):
        return iter(sorted(path.stem for path in
                           self.directory.glob('*.json')))

    def __len__(self):
        return sum(1 for _ in self)

    def put(self, guest):
        """Create or replace a guest."""
        with self._lock, _locked(self.directory):
            _write(self._path(guest.uuid), dataclasses.asdict(guest))
            self._known[guest.uuid] = guest.state

    def change(self, uuid, **values):
        """Change a guest.

        :raises: KeyError if it does not exist
        """
        with self._lock, _locked(self.directory):
            guest = dataclasses.replace(self[uuid], **values)
            _write(self._path(uuid), dataclasses.asdict(guest))
            self._known[uuid] = guest.state

    def remove(self, uuid):
        """Remove a guest, if it exists."""
        with self._lock, _locked(self.directory):
            self._path(uuid).unlink(missing_ok=True)
            self._known.pop(uuid, None)

    def changes(self):
        """Return what somebody else changed since the last call.

        :returns: list of (UUID, new state)
        """
        with self._lock:
            changed = []
            for uuid in list(self._known):
                with contextlib.suppress(KeyError):
                    state = self[uuid].state
                    if state != self._known[uuid]:
                        changed.append((uuid, state))
                        self._known[uuid] = state
            return changed


def find(hosts, uuid):
    """Return the Guests that a guest is among.

    :param hosts: directory with one directory for each host
    :raises: KeyError if no host has it
    """
    for home in sorted(pathlib.Path(hosts).iterdir()):
        # A moved guest exists twice until the move is confirmed.
        if (home / 'guests' / f'{uuid}.json').exists():
            return Guests(home)
    raise KeyError(uuid)


def fail_next(directory, fault, count):
    """Make the next operations of a kind fail.

    :param directory: state directory of a host, or their parent for all
    :param fault: one of FAULTS
    :param count: how many; 0 takes it back
    """
    directory = pathlib.Path(directory)
    with _locked(directory / 'faults'):
        _write(directory / 'faults' / f'{fault}.json', count)


def take_fault(home, fault):
    """Tell whether an operation is to fail, and count it.

    :param home: state directory of the host
    """
    home = pathlib.Path(home)
    for directory in (home / 'faults', home.parent / 'faults'):
        path = directory / f'{fault}.json'
        if not path.exists():
            continue
        with _locked(directory):
            count = json.loads(path.read_text())
            if count > 0:
                _write(path, count - 1)
                return True
    return False
