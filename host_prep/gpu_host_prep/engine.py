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

"""Puts files on a host and takes them off again.

Whatever happens in between, each file is the old one or the new one, and
``restore`` finds in the journal what it was before the very first change.
"""

import dataclasses
import difflib

from gpu_host_prep import exceptions
from gpu_host_prep import journal as journals
from gpu_host_prep import merge


@dataclasses.dataclass(frozen=True)
class Change:
    """One file that is to become another; None means no file."""

    path: str
    old: bytes | None
    new: bytes | None
    old_mode: int | None
    new_mode: int | None
    file: merge.File | None = None

    def diff(self):
        """The change as a unified diff."""
        lines = list(difflib.unified_diff(
            *([] if content is None else
              content.decode('utf-8', 'replace').splitlines()
              for content in (self.old, self.new)),
            '/dev/null' if self.old is None else self.path,
            '/dev/null' if self.new is None else self.path, lineterm=''))
        if self.old is not None and self.new is not None and \
                self.old_mode != self.new_mode:
            lines.append(f'{self.path}: mode {self.old_mode:04o} becomes '
                         f'{self.new_mode:04o}')
        return '\n'.join(lines)


def changes(root, journal, files):
    """What has to change so that a host has these files and no others of us.

    :param files: :class:`gpu_host_prep.merge.File` objects
    :returns: list of Change
    """
    found = []
    for file in files:
        old, mode = root.file(file.path)
        # Who may read a shared file is its owner's affair.
        wanted = file.mode if file.how == merge.OWNED or mode is None else mode
        found.append(Change(file.path, old, file.content(old), mode, wanted,
                            file))
    wanted = {file.path for file in files}
    for path, entry in journal.files.items():
        if path not in wanted:
            found.append(_reverse(root, journal, path, entry))
    return [change for change in found
            if (change.old, change.old_mode) != (change.new, change.new_mode)]


def apply(root, journal, found, refresh, commands=True):
    """Change files, then run what makes the changes known.

    :param found: from :func:`changes`
    :param refresh: dict of path to its commands, see ``writers.Wanted``
    :param commands: whether to run them now
    :raises: HostPrepError if a command fails; the next run tries it again
    """
    pending = [tuple(command) for command in journal.pending]
    earlier = [tuple(command) for command in journal.refresh]
    for change in found:
        pending += refresh.get(change.path, ()) if change.file else earlier
    # Kept until they ran: a crash must not leave an initramfs from before.
    journal.pending = list(dict.fromkeys(pending))
    journal.refresh = list(dict.fromkeys(
        earlier + [command for each in refresh.values()
                   for command in each]))
    for change in found:
        if root.file(change.path)[0] != change.old:
            raise exceptions.HostPrepError(
                f'{change.path} was changed since the difference was shown; '
                'run it again.')
        _note(root, journal, change)
        journal.save(root)
        _put(root, change)
        if change.file is None:
            del journal.files[change.path]
    if found:
        journal.save(root)
    if commands:
        run_pending(root, journal)


def run_pending(root, journal):
    """Run the commands that wait, and forget each that succeeded."""
    while journal.pending:
        root.run(*journal.pending[0])
        del journal.pending[0]
        journal.save(root)


def _note(root, journal, change):
    """Put into the journal what is needed to undo a change."""
    if change.file is None:
        return
    folder = journals.folder_of(change.path)
    missing = []
    while not root.exists(folder):
        missing.insert(0, folder)
        folder = journals.folder_of(folder)
    journal.folders = list(dict.fromkeys([*journal.folders, *missing]))
    entry = journal.files.get(change.path)
    if entry is None:
        backup = None if change.old is None else journal.keep(
            root, change.old)
        entry = journals.Entry(change.file.how, [], change.old_mode, backup,
                               [])
        journal.files[change.path] = entry
    elif (entry.how != merge.OWNED and change.old is not None and
          not _is_known(root, journal, entry, change.old)):
        # Somebody else changed a file that is shared: what they wrote is
        # what it is without us from now on.
        theirs = merge.without_ours(entry.how, entry.ours, change.old,
                                    journal.original(root, entry))
        entry.backup = journal.keep(root, theirs)
        entry.mode = change.old_mode
        entry.written = []
    if entry.how != merge.OWNED:
        entry.ours = list(dict.fromkeys([*entry.ours, *change.file.ours]))
    entry.written = list(dict.fromkeys(
        [*entry.written, journals.digest(change.new)]))


def _is_known(root, journal, entry, content):
    return (journals.digest(content) in entry.written or
            content == journal.original(root, entry))


def _put(root, change):
    if change.new is None:
        root.remove(change.path)
        return
    root.make_folders(journals.folder_of(change.path))
    root.replace(change.path, change.new, change.new_mode)


def _reverse(root, journal, path, entry):
    """The change that makes a file what it was before us."""
    old, mode = root.file(path)
    original = journal.original(root, entry)
    if old is not None and entry.how != merge.OWNED and not _is_known(
            root, journal, entry, old):
        rest = merge.without_ours(entry.how, entry.ours, old, original)
        if rest.strip() or entry.existed:
            return Change(path, old, rest, mode, mode)
    return Change(path, old, original, mode, entry.mode)


def restoration(root, journal):
    """What has to change so that everything is as before us.

    :returns: (list of Change, list of paths that others changed since and
        that would lose it)
    """
    found, foreign = [], []
    for path, entry in journal.files.items():
        change = _reverse(root, journal, path, entry)
        if (change.old, change.old_mode) == (change.new, change.new_mode):
            continue
        found.append(change)
        if entry.how == merge.OWNED and change.old is not None and \
                not _is_known(root, journal, entry, change.old):
            foreign.append(path)
    return found, foreign


def restore(root, journal, found, commands=True):
    """Put the files back, in the opposite order, and run the commands.

    :raises: HostPrepError if a command fails; running it again goes on
    """
    if found:
        journal.pending = [tuple(command) for command in journal.refresh]
        journal.save(root)
    for change in reversed(found):
        _put(root, change)
    if commands:
        run_pending(root, journal)
    for folder in reversed(journal.folders):
        root.remove_folder(folder)
    journal.files, journal.folders = {}, []


def check_foreign(foreign):
    """Refuse to throw away what others wrote.

    :raises: HostPrepError with the files
    """
    if foreign:
        raise exceptions.HostPrepError(
            f'{", ".join(foreign)}: changed by somebody else since; look at '
            'the difference, then use --force to lose it, or remove the '
            'files yourself.')
