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


"""Traces: rows of jobs, from a CSV file that may be compressed.

Columns: ``submit_s`` (from the first row on, sorted), ``duration_s`` (how
long it ran), ``gpus`` (of all its servers), ``gpu_model`` (``any``, one, or
several joined by ``|``) and ``node_count`` (equal servers). Further columns
may hold lengths that were known beforehand, or starts to compare with.
"""

import csv
import dataclasses
import gzip
import os
import pathlib

from perf.gpu import errors

#: Names the folder of the traces where no option does.
VARIABLE = 'REPLAY_TRACES'
_HERE = pathlib.Path(__file__).resolve().parent
#: Where they are looked for then: beside the source tree, not part of it.
DEFAULT_FOLDER = _HERE.parents[2] / 'shared' / 'traces'
#: What is committed.
OWN_FOLDER = _HERE / 'data'
COLUMNS = ('submit_s', 'duration_s', 'gpus', 'gpu_model', 'node_count')


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One row.

    :ivar row: its number, from 0.
    :ivar submit: when it was asked for, seconds.
    :ivar duration: how long it ran, seconds.
    :ivar lease: the length known beforehand, seconds.
    :ivar servers: how many equal servers.
    :ivar gpus: of one server.
    :ivar model: what ``gpu_model`` says.
    """

    row: int
    submit: int
    duration: int
    lease: int
    servers: int
    gpus: int
    model: str

    @property
    def size(self):
        """GPUs of all servers."""
        return self.servers * self.gpus


def folder(option=None):
    """The folder of the traces: the option, the variable or the default."""
    return pathlib.Path(option or os.environ.get(VARIABLE) or DEFAULT_FOLDER)


def find(name, option=None):
    """The file of a trace.

    :param name: a path, or the name of a file in the folder of the traces or
        among the committed ones, with or without its ending.
    :param option: the folder, if one was given.
    :raises: PerfError that says where it was looked for.
    """
    places = [pathlib.Path(), folder(option), OWN_FOLDER]
    for place in places:
        for ending in ('', '.csv.gz', '.csv'):
            path = place / (name + ending)
            if path.is_file():
                return path
    raise errors.PerfError(
        "There is no trace '%s', neither here nor in %s; give its path, or "
        'the folder by --traces or %s.' % (
            name, ' nor in '.join(map(str, places[1:])), VARIABLE))


def open_text(path, mode='r'):
    """A text file, decompressed or compressed if its name ends so."""
    if str(path).endswith('.gz'):
        return gzip.open(path, mode + 't', encoding='utf-8', newline='')
    return open(path, mode, encoding='utf-8', newline='')


def _whole(row, column, line, path, least):
    """A number of a row; fractions of seconds are kept out of the replay."""
    try:
        number = int(row[column])
    except (TypeError, ValueError):
        number = None
    if number is None or number < least:
        raise errors.PerfError(
            "%s, line %d: %s is '%s'; it should be a whole number of at "
            'least %d.' % (path, line, column, row[column], least))
    return number


def read(path, *columns):
    """The rows of a trace with the columns that are needed.

    :raises: PerfError if it cannot be read or lacks a column.
    """
    try:
        with open_text(path) as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            for column in (*COLUMNS, *columns):
                if column not in names:
                    raise errors.PerfError(
                        "%s has no column '%s'; it has %s." % (
                            path, column, ', '.join(names) or 'none'))
            return list(reader)
    except (OSError, EOFError, csv.Error, UnicodeDecodeError) as error:
        raise errors.PerfError('%s cannot be read: %s' % (path, error))


def load(path, lease='duration_s', first=0, last=None):
    """The jobs of a trace.

    :param lease: the column with the length that is known beforehand.
    :param first: only jobs submitted at this second or later.
    :param last: only jobs submitted before this second.
    :raises: PerfError that names the line and what is wrong with it.
    """
    jobs = []
    before = 0
    for number, row in enumerate(read(path, lease)):
        line = number + 2
        submit = _whole(row, 'submit_s', line, path, before)
        before = submit
        if submit < first or last is not None and submit >= last:
            continue
        gpus = _whole(row, 'gpus', line, path, 1)
        servers = _whole(row, 'node_count', line, path, 1)
        if gpus % servers:
            raise errors.PerfError(
                '%s, line %d: %d GPUs cannot be shared equally by %d '
                'servers.' % (path, line, gpus, servers))
        jobs.append(Job(
            number, submit, _whole(row, 'duration_s', line, path, 1),
            _whole(row, lease, line, path, 1), servers, gpus // servers,
            row['gpu_model']))
    if not jobs:
        raise errors.PerfError('%s holds no job in that time.' % path)
    return jobs
