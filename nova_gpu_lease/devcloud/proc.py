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

"""What /proc says about processes."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    session: int
    start_time: int
    running: bool


def boot_id():
    """Return what tells this boot of the machine from another."""
    return pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()


def inspect(pid):
    """Return the Process of a pid, or None if there is none."""
    try:
        text = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command in parentheses may hold anything, ")" included.
    fields = text[text.rindex(')') + 2:].split()
    return Process(pid=int(pid), session=int(fields[3]),
                   start_time=int(fields[19]), running=fields[0] not in 'ZX')


def environment_of(pid):
    """Return the environment a process was started with, as a dict.

    Empty for a process that is gone or belongs to somebody else.
    """
    try:
        data = pathlib.Path(f'/proc/{pid}/environ').read_bytes()
    except OSError:
        return {}
    return dict(item.split('=', 1) for item in
                data.decode('utf-8', 'replace').split('\0') if '=' in item)
