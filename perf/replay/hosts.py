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


"""Hosts: how many, with how many GPUs of which model."""

import csv
import dataclasses
import pathlib
import re

from nova_gpu_lease import planner
from perf.gpu import errors

ANY = 'any'
_PART = re.compile(r'(\d+)x(\d+)(?::([^,:|]+))?')
_COLUMNS = ('gpu_model', 'gpus_per_host', 'hosts')


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """One host.

    :ivar name: sorts as the hosts were given.
    :ivar gpus: how many.
    :ivar model: of all of them; ``any`` where it does not matter.
    """

    name: str
    gpus: int
    model: str


def parse(text, folder=None):
    """Hosts from ``80x8``, ``2x8:A100,3x2:T4`` or the name of a file.

    :param text: hosts x GPUs[:model], several joined by commas; or a CSV file
        with the columns gpu_model, gpus_per_host and hosts.
    :param folder: where else to look for the file.
    :raises: PerfError if it is neither.
    """
    parts = [_PART.fullmatch(part) for part in text.split(',')]
    if all(parts):
        groups = [(int(part[1]), int(part[2]), part[3] or ANY)
                  for part in parts]
    else:
        groups = _read(text, folder)
    hosts = []
    for count, gpus, model in groups:
        first = len(hosts)
        hosts.extend(Host('host-%05d' % (first + number), gpus, model)
                     for number in range(count))
    if not sum(host.gpus for host in hosts):
        raise errors.PerfError("'%s' has no GPU." % text)
    return hosts


def _read(text, folder):
    for path in (pathlib.Path(text), pathlib.Path(folder or '.') / text):
        if path.is_file():
            break
    else:
        raise errors.PerfError(
            "'%s' is neither hosts x GPUs, such as 80x8 or 2x8:A100,3x2:T4, "
            'nor a file.' % text)
    try:
        with open(path, encoding='utf-8', newline='') as file:
            rows = list(csv.DictReader(file))
        return [(int(row['hosts']), int(row['gpus_per_host']),
                 row['gpu_model']) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise errors.PerfError(
            '%s holds no hosts: %s. It needs the columns %s.' % (
                path, error, ', '.join(_COLUMNS)))


def suits(model, wanted):
    """Whether a GPU of a model is one that a job may have.

    :param wanted: what the trace says: ``any``, one, or several with ``|``.
    """
    return wanted == ANY or model == ANY or model in wanted.split('|')


def nodes(hosts, wanted):
    """The hosts as the planner sees them, all of their GPUs free.

    Each distinct wish is an alias, matched by every model it names.

    :param wanted: what jobs ask for: the distinct ``gpu_model``.
    :returns: {name: Node}.
    """
    aliases = {model: frozenset(one for one in wanted if suits(model, one))
               for model in {host.model for host in hosts}}
    return {host.name: planner.Node(
        host=host.name, room={}, pools=(planner.Pool(
            key=host.model, free=host.gpus, aliases=aliases[host.model],
            total=host.gpus),)) for host in hosts}


class Fitting:
    """On which hosts a job could ever run: shared by all jobs alike.

    :param hosts: the hosts.
    """

    def __init__(self, hosts):
        self._hosts = hosts
        self._found = {}

    def fits(self, job):
        """{host: number of its servers}, without regard to other jobs."""
        key = job.gpus, job.model
        if key not in self._found:
            self._found[key] = {
                host.name: host.gpus // job.gpus for host in self._hosts
                if host.gpus >= job.gpus and suits(host.model, job.model)}
        return self._found[key]

    def possible(self, job):
        """Whether all of its servers fit on the hosts when these are empty."""
        return sum(self.fits(job).values()) >= job.servers
