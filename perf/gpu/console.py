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


"""A result as lines of a console log, and back.

A server's console is often the only thing that is left of it. Such a log may
be cut at its start (Nova shows the last 100 KiB), has other lines between ours
and prefixes before them. So the result is compressed and cut into short lines
that each carry their number and a checksum, printed twice where there is room;
what is whole of either copy is put together. One line::

    PERF-GPU <id> <number>/<count> <checksum> <part>

where the id is a checksum of the whole, so that several results in one log
are told apart.
"""

import base64
import binascii
import lzma
import re

from perf.gpu import errors

_WIDTH = 192
# What Nova shows of a log, less what a guest says when it powers off.
ROOM = 90 << 10
_LINE = re.compile(
    r'PERF-GPU ([0-9a-f]{8}) (\d+)/(\d+) ([0-9a-f]{8}) ([A-Za-z0-9+/=]+)')


def _sum(data):
    return '%08x' % binascii.crc32(data)


def lines(text):
    """The lines for a text: two copies if both fit into :data:`ROOM`."""
    data = base64.b64encode(lzma.compress(text.encode(), preset=9))
    whole = _sum(data)
    parts = [data[start:start + _WIDTH] for start in
             range(0, len(data), _WIDTH)]
    copy = ['PERF-GPU %s %d/%d %s %s' % (
        whole, number, len(parts), _sum(part), part.decode())
        for number, part in enumerate(parts, start=1)]
    return copy * 2 if size(copy * 2) <= ROOM else copy


def size(printed):
    """The bytes that lines take on a console, which ends them with two."""
    return sum(len(line) + 2 for line in printed)


def extract(log):
    """The last complete text in a console log.

    :param log: the log, as a text of any length.
    :raises: PerfError that says what is missing.
    """
    found = {}
    for whole, number, count, checksum, part in _LINE.findall(log):
        if _sum(part.encode()) != checksum:
            continue
        # A later result is to come after an earlier one.
        parts = found.setdefault((whole, int(count)), {})
        parts[int(number)] = part
    if not found:
        raise errors.PerfError(
            'The log holds no line of a result: the benchmark has not ended '
            'yet, has failed, or the log is cut. A line begins with '
            '"PERF-GPU".')
    for (whole, count), parts in reversed(found.items()):
        if set(parts) >= set(range(1, count + 1)):
            data = ''.join(parts[number] for number in
                           range(1, count + 1)).encode()
            if _sum(data) == whole:
                return lzma.decompress(base64.b64decode(data)).decode()
    count = max(count for _whole, count in found)
    raise errors.PerfError(
        'The log holds %d of the %d lines of a result, in no copy all of '
        'them: it is cut. Ask for the whole log (openstack console log show '
        'without --lines, or the file on the host).' % (
            max(map(len, found.values())), count))
