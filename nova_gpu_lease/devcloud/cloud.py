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

"""A whole devcloud: bringing it up, taking it down, looking at it.

This is also what tests use::

    cloud = Cloud('/some/dir')
    cloud.up(hosts=2, gpus_per_host=2)
    cloud.restart('nova-compute-host1')
    cloud.down()
"""

import contextlib
import signal
import sys
import threading

from nova_gpu_lease.devcloud import bringup
from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import glance
from nova_gpu_lease.devcloud import guests
from nova_gpu_lease.devcloud import keystone
from nova_gpu_lease.devcloud import mariadb
from nova_gpu_lease.devcloud import neutron
from nova_gpu_lease.devcloud import nova_services
from nova_gpu_lease.devcloud import options as options_mod
from nova_gpu_lease.devcloud import placement
from nova_gpu_lease.devcloud import ports
from nova_gpu_lease.devcloud import process
from nova_gpu_lease.devcloud import rabbitmq
from nova_gpu_lease.devcloud import state as state_mod


def _say(text):
    print(text, file=sys.stderr, flush=True)


class Cloud:
    """The devcloud in one state directory."""

    def __init__(self, state_dir=None):
        self.state = state_mod.State(state_dir)
        self.processes = process.Processes(self.state)
        self._stopping = threading.Event()

    # Services

    def services(self):
        """Return all Services by name, in the order they start."""
        state = self.state
        ordered = [
            mariadb.service(state), *rabbitmq.services(state),
            keystone.service(state), placement.service(state),
            glance.service(state), neutron.service(state),
            nova_services.api(state), *nova_services.conductors(state),
            nova_services.scheduler(state), *nova_services.computes(state)]
        return {service.name: service for service in ordered}

    def service(self, name):
        """Return a Service.

        :raises: DevcloudError that lists the services
        """
        self.state.require()
        services = self.services()
        if name not in services:
            raise exceptions.DevcloudError(
                f'There is no service "{name}"; there are '
                + ', '.join(services) + '.')
        return services[name]

    def start_and_wait(self, name):
        """Start a service and wait until it is ready."""
        if name == 'rabbitmq':
            # Otherwise it would start a port mapper of its own.
            self.start_and_wait('epmd')
        service = self.services()[name]
        if self._stopping.is_set():
            return
        if (not self.processes.leader(name) and service.port and
                not ports.is_free(service.port)):
            self.processes.kill(name)
            if not ports.is_free(service.port):
                raise exceptions.DevcloudError(
                    f'{name} cannot start: somebody else listens on its '
                    f'port {service.port}. Stop that, or begin anew with '
                    '"down" and "up".')
        if self.processes.start(service):
            self.processes.wait_ready(service)
            if name == 'neutron':
                self._after_neutron()

    def _after_neutron(self):
        # On the very first start there are no users yet; making the network
        # begins with a list of networks then.
        if self.state.is_done('identity'):
            neutron.warm_up(self.state)

    def start(self, name):
        """Start one service that was stopped."""
        self.service(name)
        with self.state.lock():
            self.start_and_wait(name)

    def stop(self, name, kill=False):
        """Stop one service.

        :param kill: kill all its processes at once instead of asking
        """
        service = self.service(name)
        with self.state.lock():
            if kill:
                self.processes.kill(name)
            else:
                self.processes.stop(service)

    def restart(self, name):
        """Stop one service, start it and wait until it is ready."""
        service = self.service(name)
        with self.state.lock():
            self.processes.stop(service)
            self.start_and_wait(name)

    # Up

    def up(self, **asked):
        """Start the cloud, or what is missing of it.

        :param asked: see ``options.DEFAULTS``; what is not given keeps its
                      value, or has its default in a new cloud
        :raises: DevcloudError; nothing that was started is left running
        """
        with self.state.lock(), _terminate_as_interrupt():
            self._stopping.clear()
            self.processes.give_up.clear()
            if self.state.exists():
                running = bool(self.processes.find())
                options_mod.update(self.state, asked, running)
            else:
                options, layout = options_mod.new(asked)
                self.state.create(options, layout)
            before = self._running()
            steps = bringup.BringUp(self)
            # At the first error, so that nobody waits for what is doomed;
            # and once more when all threads have ended.
            steps.failed = lambda: self._abort(before)
            try:
                steps.run()
            except BaseException:
                self._abort(before)
                raise

    def _running(self):
        return [name for name in self.processes.recorded()
                if self.processes.leader(name)]

    def _abort(self, before):
        """End what a failed ``up`` started."""
        if not self._stopping.is_set():
            _say('Stopping what was started…')
        self._stopping.set()
        self.processes.give_up.set()
        self.processes.kill(keep=before)

    # Down and others

    def down(self, keep_state=False):
        """Stop everything.

        :param keep_state: stop gently and keep data and logs for ``up``
        :returns: False if there was no cloud
        """
        if not self.state.exists():
            return False
        with self.state.lock():
            if keep_state:
                self._stop_gently()
            self.processes.kill()
            if not keep_state:
                self.state.remove()
        return True

    def _stop_gently(self):
        services = list(self.services().values())
        back = [s for s in services
                if s.name in ('mariadb', 'rabbitmq', 'epmd')]
        threads = [threading.Thread(target=self.processes.stop, args=(s,))
                   for s in services if s not in back]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for service in back:
            self.processes.stop(service)

    def status(self):
        """Return name, state and address of every service.

        :returns: list of (name, 'running' or 'stopped', pid or None, URL)
        """
        self.state.require()
        rows = []
        for name, service in self.services().items():
            leader = self.processes.leader(name)
            rows.append((
                name, 'running' if leader else 'stopped',
                leader.pid if leader else None,
                f'{state_mod.HOST}:{service.port}' if service.port else None))
        return rows

    def guest(self, uuid):
        """Return the Guests a server's guest is among.

        :raises: DevcloudError if no host has the guest
        """
        self.state.require()
        try:
            return guests.find(self.state.path('hosts'), uuid)
        except KeyError:
            raise exceptions.DevcloudError(
                f'No host has a guest of a server {uuid}; give the ID of a '
                'server that runs or is stopped.') from None

    def guest_power_off(self, uuid):
        """Let a guest power itself off, as from inside."""
        self.guest(uuid).change(uuid, state=guests.SHUTDOWN)

    def fail_next(self, fault, host=None, count=1):
        """Make the next spawns or snapshots fail.

        :param host: on this host only
        :param count: how many; 0 takes it back
        """
        self.state.require()
        names = [each.name for each in self.state.layout.hosts]
        if host is not None and host not in names:
            raise exceptions.DevcloudError(
                f'There is no host "{host}"; there are {", ".join(names)}.')
        guests.fail_next(self.state.path('hosts', *([host] if host else [])),
                         fault, count)

    def arm(self, *names):
        """Have the next service that passes a failpoint killed there.

        :param names: of ``failpoints.NAMES``; without any, take all back.
        """
        self.state.path('failpoints').write_text('\n'.join(names))

    def armed(self):
        """Return the names of the failpoints that nobody has passed yet."""
        return self.state.path('failpoints').read_text().split()


@contextlib.contextmanager
def _terminate_as_interrupt():
    """Let SIGTERM end ``up`` as Ctrl-C does, with everything cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        raise KeyboardInterrupt

    kept = {number: signal.signal(number, interrupt)
            for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
