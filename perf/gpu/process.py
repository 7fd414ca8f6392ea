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


"""The process of one round, seen from the run that wants it."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

import perf.gpu

# Seconds without a word from a round, after which it hangs. Starting PyTorch
# on a slow disk, and one loop of the largest case, take less.
SILENCE = 180


class Interrupted(Exception):
    """Ctrl-C, at a place where nothing is half done."""


class Process:
    """The process of one round, read line by line.

    :param orders: see :class:`perf.gpu.worker.Worker`.
    :param lines: a queue for its lines, with None for its end. Whoever puts
        :class:`Interrupted` there ends the reading.
    """

    def __init__(self, orders, lines):
        root = str(pathlib.Path(perf.gpu.__file__).parents[2])
        path = os.pathsep.join(filter(None, (
            root, os.environ.get('PYTHONPATH'))))
        self._log = tempfile.TemporaryFile()
        # A session of its own: Ctrl-C is for the parent, which then decides.
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'perf.gpu.worker'], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._log, text=True,
            start_new_session=True, env={**os.environ, 'PYTHONPATH': path})
        self._lines = lines
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._process.stdin.write(json.dumps(orders) + '\n')
            self._process.stdin.close()
        except BrokenPipeError:
            # It died at once; events() says so.
            pass

    def _read(self):
        for line in self._process.stdout:
            # Who is killed may leave half a line.
            if line.endswith('\n'):
                self._lines.put(line)
        self._lines.put(None)

    def events(self):
        """What the process says, until it ends.

        :raises: queue.Empty if it hangs, Interrupted if somebody said so.
        """
        while (line := self._lines.get(timeout=SILENCE)) is not None:
            if line is Interrupted:
                raise Interrupted
            yield json.loads(line)

    def end(self):
        """Wait for the end; what does not end is killed.

        :returns: the exit status, negative for a signal.
        """
        try:
            return self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return self.stop()

    def stop(self):
        """End it now."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        self._reader.join()
        return status

    def complaints(self):
        """The last lines that it wrote to its standard error output."""
        self._log.seek(0)
        text = self._log.read().decode(errors='replace').strip()
        return ' / '.join(text.splitlines()[-3:])
