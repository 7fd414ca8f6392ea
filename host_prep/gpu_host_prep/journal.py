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

"""What was changed on a host, so that it can be put back.

The journal is written before the change that it tells of. It lies with the
backups in one directory; each of its files is replaced as a whole, so after a
crash it is one of its versions and never half of one.
"""

import dataclasses
import hashlib
import json
import os

from gpu_host_prep import exceptions

FOLDER = '/var/lib/gpu-host-prep'
LOCK = f'{FOLDER}/lock'
_JOURNAL = f'{FOLDER}/journal.json'
_BACKUPS = f'{FOLDER}/backup'
_VERSION = 1


@dataclasses.dataclass
class Entry:
    """One file: what it was before us.

    :param ours: of a shared file, the lines or words that we put in
    :param mode: permission bits; None if there was no file
    :param backup: name of the copy; None if there was no file
    :param written: digests of what we wrote, or were about to
    """

    how: str
    ours: list
    mode: int | None
    backup: str | None
    written: list

    @property
    def existed(self):
        return self.backup is not None


@dataclasses.dataclass
class Journal:
    """Everything that ``restore`` needs.

    :param files: dict of path to Entry
    :param folders: directories that we made, outermost first
    :param functions: dict of address to the driver and override before us
    :param pending: commands that have to be run for files that changed
    :param refresh: commands that make all our files known; run by restore
    """

    files: dict = dataclasses.field(default_factory=dict)
    folders: list = dataclasses.field(default_factory=list)
    functions: dict = dataclasses.field(default_factory=dict)
    pending: list = dataclasses.field(default_factory=list)
    refresh: list = dataclasses.field(default_factory=list)

    @classmethod
    def load(cls, root):
        """Read the journal of a host; an empty one if there is none."""
        content, _mode = root.file(_JOURNAL)
        if content is None:
            return cls()
        data = json.loads(content)
        if data.pop('version', None) != _VERSION:
            raise exceptions.HostPrepError(
                f'{_JOURNAL} was written by another version of '
                'gpu-host-prep; use that one.')
        data['files'] = {path: Entry(**entry)
                         for path, entry in data['files'].items()}
        return cls(**data)

    @property
    def is_empty(self):
        return not (self.files or self.functions or self.pending)

    def save(self, root):
        text = json.dumps({'version': _VERSION, **dataclasses.asdict(self)},
                          indent=1)
        root.replace(_JOURNAL, text.encode() + b'\n', 0o600)

    def keep(self, root, content):
        """Save a copy of a file.

        :returns: the name of the copy
        """
        name = digest(content)[:20]
        path = f'{_BACKUPS}/{name}'
        if not root.exists(path):
            root.replace(path, content, 0o600)
        return name

    def original(self, root, entry):
        """The bytes that a file had before us, or None."""
        if not entry.existed:
            return None
        content, _mode = root.file(f'{_BACKUPS}/{entry.backup}')
        if content is None:
            raise exceptions.HostPrepError(
                f'the backup {_BACKUPS}/{entry.backup} is missing.')
        return content

    def forget(self, root):
        """Remove the journal, once everything is as it was."""
        root.remove(_JOURNAL)
        for name in root.names(_BACKUPS):
            root.remove(f'{_BACKUPS}/{name}')
        root.remove_folder(_BACKUPS)


def prepare(root):
    """Make the directories of the journal."""
    for folder in (FOLDER, _BACKUPS):
        root.make_folders(folder)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def folder_of(path):
    return os.path.dirname(path)
