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
"""How long a freed GPU waits for its next server, on a devcloud.

All GPUs are used and servers wait. One that runs is deleted; the time is from
the line in which its nova-compute says that Placement has the device back
(its tracker had it before) to the line in which nova-conductor says that the
next server was sent to a compute. Both logs are of this machine's clock.
"""

import datetime
import math
import re
import statistics
import time

from nova_gpu_lease.devcloud import cloud as devcloud
from nova_gpu_lease.devcloud import rest
from perf.gpu import errors

HOSTS, GPUS = 2, 2
#: Only events drive the queue, so that nothing comes early by chance.
SETTINGS = ('gpu_lease.dispatch_interval=1h', 'gpu_lease.sync_interval=1h')
PROJECT = 'alice-lab'
#: Seconds for one server to start.
PATIENCE = 120
_STAMP = r'^(\d+-\d+-\d+ \d+:\d+:\d+\.\d+)'
FREED = _STAMP + r'.*Deleted allocations? for \w+ ([0-9a-f-]{36})'
SENT = _STAMP + r'.*Request [0-9a-f-]{36} starts\.'


def measure(state_dir, count, progress):
    """Free GPUs one after the other while servers wait.

    :param state_dir: of the devcloud; it is brought up if it is not.
    :param count: how many times.
    :param progress: a function that is told what happens.
    :returns: a dict of the seconds: median, p95 and longest, and how many.
    :raises: PerfError if the cloud does not do what is waited for.
    """
    cloud = devcloud.Cloud(state_dir)
    ours = not cloud.state.exists()
    if ours:
        progress('bringing a devcloud up in %s' % state_dir)
        cloud.up(hosts=HOSTS, gpus_per_host=GPUS, settings=SETTINGS)
    try:
        found = _Servers(cloud, progress).measure(count)
    finally:
        if ours:
            cloud.down()
    return {'median_s': statistics.median(found), 'max_s': max(found),
            'p95_s': sorted(found)[math.ceil(len(found) * 0.95) - 1],
            'count': len(found)}


class _Servers:
    """The servers of one project on a cloud."""

    def __init__(self, cloud, progress):
        self.cloud = cloud
        self.progress = progress
        self.api = rest.client(cloud.state, PROJECT)
        self.image, self.flavor = (
            next(one['id'] for one in self.api.get(service, path)[kind]
                 if one['name'] == name)
            for service, path, kind, name in (
                ('glance', '/v2/images', 'images', 'tiny'),
                ('nova', '/v2.1/flavors', 'flavors', 'gpu')))

    def measure(self, count):
        """:returns: the seconds of each time."""
        gpus = sum(len(host.gpus) for host in self.cloud.state.layout.hosts)
        servers = [self._create(number) for number in range(gpus + count)]
        running = servers[:gpus]
        try:
            self._wait(lambda: self._active() >= set(running))
            waiting = servers[gpus:]
            found = []
            for number, server in enumerate(waiting):
                found.append(self._free(running.pop(0), server))
                running.append(server)
                self.progress('%d/%d: %.2f s' % (
                    number + 1, count, found[-1]))
            return found
        finally:
            for server in servers:
                self.api.session.delete(
                    self.cloud.state.url('nova', '/v2.1/servers/' + server),
                    raise_exc=False)

    def _create(self, number):
        return self.api.post('nova', '/v2.1/servers', {
            'server': {'name': 'latency-%d' % number, 'networks': 'none',
                       'imageRef': self.image, 'flavorRef': self.flavor},
            'os:scheduler_hints': {'gpu_lease': '1d'}})['server']['id']

    def _free(self, old, new):
        """Delete one server.

        :param new: the one that starts next.
        :returns: the seconds in between.
        """
        begun = self._sent()
        self.api.session.delete(
            self.cloud.state.url('nova', '/v2.1/servers/' + old))
        self._wait(lambda: new in self._active())
        freed = [when for when, server in self._lines('nova-compute', FREED)
                 if server == old]
        sent = self._sent()[len(begun):]
        if not freed or len(sent) != 1:
            raise errors.PerfError(
                'The logs of the devcloud do not say when a GPU became free '
                'and the next server was sent: %s, %s' % (freed, sent))
        return (sent[0] - freed[0]).total_seconds()

    def _sent(self):
        return sorted(when for when, _ in self._lines('nova-conductor', SENT))

    def _lines(self, service, pattern):
        """The times and the first group of matching lines of all logs."""
        found = []
        for path in self.cloud.state.path('logs').glob(service + '*.log'):
            for line in path.read_text(errors='replace').splitlines():
                match = re.search(pattern, line)
                if match:
                    found.append((
                        datetime.datetime.fromisoformat(match.group(1)),
                        match.groups()[-1]))
        return found

    def _active(self):
        return {server['id'] for server in self.api.get(
            'nova', '/v2.1/servers/detail?status=ACTIVE')['servers']}

    def _wait(self, condition):
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until:
                raise errors.PerfError(
                    'A server did not start in %d seconds.' % PATIENCE)
            time.sleep(0.5)
