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

"""Starting, finding and ending the processes of one service.

Every service runs in a session of its own and carries two marks in its
environment. A process is signalled only if it is known to be ours: the pid
file's process still has the start time that was recorded, or the process is
in that session, or it carries the marks. A recycled pid is never killed.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import typing

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import proc

CLOUD_MARK = 'NOVA_GPU_LEASE_DEVCLOUD'
SERVICE_MARK = 'NOVA_GPU_LEASE_DEVCLOUD_SERVICE'
_PROXIES = ('http_proxy', 'https_proxy', 'ftp_proxy', 'all_proxy')
_TAIL_LINES = 25


@dataclasses.dataclass
class Service:
    """How to run one service and how to tell that it is ready.

    :ivar ready: called until it returns true; it may raise OSError
    :ivar stop_timeout: seconds it gets to end by itself
    :ivar start_timeout: seconds it gets to become ready
    """

    name: str
    command: list
    ready: typing.Callable[[], bool] = lambda: True
    env: dict = dataclasses.field(default_factory=dict)
    cwd: str | None = None
    stop_timeout: float = 15
    start_timeout: float = 120
    port: int | None = None


def base_environment():
    """Return the caller's environment without what would lead us astray."""
    env = {name: value for name, value in os.environ.items()
           if name.lower() not in _PROXIES and
           not name.startswith(('OS_', 'RABBITMQ_', 'MYSQL_', 'ERL_',
                                'UWSGI_'))}
    env['no_proxy'] = env['NO_PROXY'] = '*'
    env['PYTHONUNBUFFERED'] = '1'
    # Process titles are not to overwrite the marks.
    env['SPT_NOENV'] = '1'
    root = str(pathlib.Path(__file__).resolve().parents[2])
    env['PYTHONPATH'] = os.pathsep.join(
        part for part in (root, env.get('PYTHONPATH')) if part)
    return env


class Processes:
    """The processes of all services of one cloud."""

    def __init__(self, state):
        self.state = state
        # Set to end all waiting.
        self.give_up = threading.Event()

    def log(self, name):
        """Return the path of a service's log."""
        return self.state.make('logs') / f'{name}.log'

    def tail(self, name):
        """Return the last lines of a service's log."""
        try:
            lines = self.log(name).read_text(errors='replace').splitlines()
        except FileNotFoundError:
            return ''
        return '\n'.join(lines[-_TAIL_LINES:])

    def environment(self, service):
        """Return the environment to run a service in."""
        return {**base_environment(), **service.env,
                CLOUD_MARK: str(self.state.dir), SERVICE_MARK: service.name}

    def start(self, service):
        """Start a service unless it runs already.

        :returns: True if it was started now
        """
        if self.leader(service.name):
            return False
        # Remainders of a crash would hold its port or its files.
        self.kill(service.name)
        with open(self.log(service.name), 'ab') as log:
            child = subprocess.Popen(
                [str(part) for part in service.command],
                stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
                cwd=service.cwd or self.state.dir,
                env=self.environment(service))
        # Not waited for: it outlives us, or is reaped in ``stop``.
        child.returncode = 0
        process = proc.inspect(child.pid)
        record = {'pid': child.pid, 'boot_id': proc.boot_id(),
                  'start_time': process.start_time if process else 0}
        self.state.write(json.dumps(record), 'run', f'{service.name}.pid')
        return True

    def wait_ready(self, service):
        """Wait until a service is ready.

        :raises: ServiceFailed if it ended or took too long
        """
        deadline = time.monotonic() + service.start_timeout
        problem = None
        while True:
            try:
                if service.ready():
                    return
            except OSError as exc:
                problem = exc
            if not self.leader(service.name):
                self.fail(service.name, 'ended while it was starting')
            if time.monotonic() > deadline:
                self.fail(service.name, 'was not ready after '
                          f'{service.start_timeout:.0f} seconds'
                          + (f' ({problem})' if problem else ''))
            if self.give_up.wait(0.2):
                self.fail(service.name, 'was not waited for any longer')

    def fail(self, name, reason):
        """Raise ServiceFailed with the end of the service's log."""
        raise exceptions.ServiceFailed(
            name, reason, self.log(name), self.tail(name))

    def _record(self, name):
        try:
            record = json.loads(
                self.state.path('run', f'{name}.pid').read_text())
        except (FileNotFoundError, ValueError):
            return None
        return record if record['boot_id'] == proc.boot_id() else None

    def leader(self, name):
        """Return the running main process of a service, or None."""
        record = self._record(name)
        process = proc.inspect(record['pid']) if record else None
        if (process and process.running and
                process.start_time == record['start_time']):
            return process
        return None

    def _session(self, name):
        """Return id and start time of a service's session, or None.

        A pid is not used again while its session has members, so that what
        is in the session of a main process that is gone is ours as well.
        """
        record = self._record(name)
        process = proc.inspect(record['pid']) if record else None
        if record is None or (process and
                              process.start_time != record['start_time']):
            return None
        return record['pid'], record['start_time']

    def find(self, name=None):
        """Return all running processes of a service, or of the whole cloud.

        :returns: list of Process
        """
        sessions = dict(filter(None, (
            self._session(each)
            for each in ([name] if name else self.recorded()))))
        found = []
        for entry in os.listdir('/proc'):
            process = proc.inspect(entry) if entry.isdigit() else None
            if process is None or process.pid == os.getpid():
                continue
            ours = (process.session in sessions and
                    process.start_time >= sessions[process.session])
            if not ours:
                env = proc.environment_of(process.pid)
                ours = (env.get(CLOUD_MARK) == str(self.state.dir) and
                        name in (None, env.get(SERVICE_MARK)))
            if ours and process.running:
                found.append(process)
        return found

    def recorded(self):
        """Return the names of all services that have a pid file."""
        return sorted(path.stem for path in
                      self.state.path('run').glob('*.pid'))

    def signal(self, processes, number):
        """Send a signal to processes, unless a pid has a new owner."""
        for process in processes:
            try:
                descriptor = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            try:
                now = proc.inspect(process.pid)
                if now and now.start_time == process.start_time:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)

    def stop(self, service):
        """End a service: ask its main process, then kill what is left.

        :returns: True if it ran
        """
        leader = self.leader(service.name)
        if leader:
            self.signal([leader], signal.SIGTERM)
            deadline = time.monotonic() + service.stop_timeout
            while (self.leader(service.name) and
                   time.monotonic() < deadline):
                time.sleep(0.05)
        return self.kill(service.name) or bool(leader)

    def kill(self, name=None, keep=()):
        """Kill every process of a service, or of the whole cloud.

        :param keep: names of services to leave alone
        :returns: True if there was one
        :raises: DevcloudError if a process does not go away
        """
        kept = {process for each in keep for process in self.find(each)}
        ran = False
        deadline = time.monotonic() + 20
        while processes := set(self.find(name)) - kept:
            ran = True
            if time.monotonic() > deadline:
                pids = ', '.join(str(p.pid) for p in processes)
                raise exceptions.DevcloudError(
                    f'Could not kill the processes {pids} of '
                    f'{name or "the cloud"}.')
            self.signal(processes, signal.SIGKILL)
            self._reap(processes)
            time.sleep(0.05)
        for each in {name} if name else set(self.recorded()) - set(keep):
            record = self._record(each)
            if record:
                self._reap([proc.inspect(record['pid'])])
            self.state.path('run', f'{each}.pid').unlink(missing_ok=True)
        return ran

    @staticmethod
    def _reap(processes):
        """Collect children of this very process so that no zombie stays."""
        for process in filter(None, processes):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
