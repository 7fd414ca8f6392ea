#!/usr/bin/env python3
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


"""Run a command and see to it that no process of it outlives it.

usage: tools/contain.py MINUTES COMMAND [ARGUMENT...]

Processes that leave their parent become children of this one (Linux calls it
a subreaper), so nothing escapes, whatever it does to its session, its name or
its environment. Left-overs are named, stopped and make the exit status 1; so
does a command that runs for longer than MINUTES.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
# Seconds for what is just ending by itself, and for what was told to end.
GRACE = 5


class Ended(Exception):
    """A signal or the time limit ends the command."""


def descendants():
    """Return the living processes below this one: {pid: command line}."""
    parents, names = {}, {}
    for path in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            # The fields after the command's name, which may hold anything.
            state, parent = (path / 'stat').read_text().rpartition(
                ')')[2].split()[:2]
            line = (path / 'cmdline').read_bytes().replace(b'\0', b' ')
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.name)] = int(parent)
        if state != 'Z':
            names[int(path.name)] = line.decode(errors='replace').strip()
    found, todo = {}, [os.getpid()]
    while todo:
        parent = todo.pop()
        children = [pid for pid in parents if parents[pid] == parent]
        todo.extend(children)
        found.update((pid, names[pid]) for pid in children if pid in names)
    return found


def reap():
    """Collect children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def gone(seconds):
    """Wait for all descendants to end; return whether they did."""
    until = time.monotonic() + seconds
    while True:
        reap()
        if not descendants():
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.1)


def send(signum):
    for pid in descendants():
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass


def stop_all():
    send(signal.SIGTERM)
    while not gone(GRACE):
        send(signal.SIGKILL)


def run(command):
    """Run the command to its end; return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)


def on_signal(signum, frame):
    raise Ended(signal.Signals(signum).name)


def main():
    minutes, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for signum in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM,
                   signal.SIGHUP):
        signal.signal(signum, on_signal)
    signal.alarm(minutes * 60)
    try:
        status = run(command)
    except Ended as exc:
        signal.alarm(0)
        why = ('it ran for more than %d minutes' % minutes
               if str(exc) == 'SIGALRM' else str(exc))
        print('%s: stopped: %s' % (' '.join(command), why), flush=True)
        stop_all()
        return 1
    signal.alarm(0)
    if gone(GRACE):
        return min(abs(status), 125)
    print('%s: processes were left behind:' % ' '.join(command))
    for pid, line in sorted(descendants().items()):
        print('  %d %s' % (pid, line), flush=True)
    stop_all()
    return 1


if __name__ == '__main__':
    sys.exit(main())
