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

"""What the files of a prepared host say; nothing here writes one.

Each module makes the files of one program; ``wanted`` puts them together.
"""

import dataclasses

from gpu_host_prep import merge
from gpu_host_prep.writers import binding
from gpu_host_prep.writers import bootloader
from gpu_host_prep.writers import initramfs
from gpu_host_prep.writers import modules


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a host should have.

    :param files: a :class:`gpu_host_prep.merge.File` for each file
    :param refresh: dict of a path to the commands that have to be run when
        that file changes, each a tuple of words
    """

    files: tuple[merge.File, ...]
    refresh: dict[str, tuple[tuple[str, ...], ...]]

    def commands(self, paths):
        """What to run after these files changed, each command once."""
        return tuple(dict.fromkeys(
            command for path in paths
            for command in self.refresh.get(path, ())))


def wanted(root, state, selection):
    """Make the content of every file.

    :param root: where programs and existing files are looked for
    """
    initramfs_kind = initramfs.kind(root, state)
    parts = [
        *modules.files(state, selection),
        *binding.files(selection),
        *initramfs.files(initramfs_kind, state, selection)]
    rebuild = initramfs.commands(initramfs_kind)
    refresh = {file.path: rebuild for file in parts if rebuild}
    refresh[binding.RULES] = (*binding.commands(root), *rebuild)
    loader = bootloader.kind(root, state)
    for file in bootloader.files(root, loader, state, selection):
        parts.append(file)
        refresh[file.path] = bootloader.commands(root, loader)
    return Wanted(tuple(parts), refresh)
