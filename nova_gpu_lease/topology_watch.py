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


"""[gpu_lease] topology_file: read at start and again when it changes."""

import os

from oslo_log import log as logging

from nova_gpu_lease.conf import CONF
from nova_gpu_lease import exception
from nova_gpu_lease.planner import topology_file

LOG = logging.getLogger(__name__)

_NOTHING = topology_file.Topology()


def load(path):
    """Read a topology file.

    :returns: a topology_file.Topology.
    :raises: exception.InvalidTopology
    """
    try:
        with open(path, encoding='utf-8') as stream:
            return topology_file.parse(stream.read(), path)
    except OSError as exc:
        raise exception.InvalidTopology(
            problems='%s cannot be read: %s.' % (path, exc.strerror))
    except UnicodeDecodeError:
        raise exception.InvalidTopology(
            problems='%s is not UTF-8 text.' % path)


class TopologyFile:
    """The file of this service, as it was when it was last good."""

    def __init__(self):
        self._seen = None
        self._topology = _NOTHING

    def read(self):
        """What the file says now.

        A file that cannot be used is reported once, and what was read before
        holds on; a mistake must not move everybody's places.

        :returns: a topology_file.Topology, the same object as long as the
            file is the same; an empty one where the option is not set.
        """
        path = CONF.gpu_lease.topology_file
        if path is None:
            self._seen, self._topology = None, _NOTHING
            return _NOTHING
        seen = _stamp(path)
        if seen != self._seen:
            self._seen = seen
            try:
                self._topology = load(path)
                LOG.info('Read %s: places of %d hosts, devices of %d.', path,
                         len(self._topology.places),
                         len(self._topology.devices))
            except exception.InvalidTopology as exc:
                LOG.error('[gpu_lease] topology_file is not used, what was '
                          'read before is kept: %s', exc)
        return self._topology


_file = TopologyFile()


def current():
    """What the file of this service says now, see TopologyFile.read()."""
    return _file.read()


def _stamp(path):
    """Something that is another one when a file has changed."""
    try:
        found = os.stat(path)
    except OSError as exc:
        return path, exc.errno
    return path, found.st_mtime_ns, found.st_size, found.st_ino
