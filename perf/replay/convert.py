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


"""Other people's traces in our columns: the Philly CSV and SWF."""

import csv
import datetime

from perf.gpu import errors
from perf.replay import trace

# Fields of a line of the Standard Workload Format 2.2, counted from 0:
# https://www.cs.huji.ac.il/labs/parallel/workload/swf.html
_SUBMIT, _RUN, _USED, _ASKED, _ASKED_TIME, _STATUS = 1, 3, 4, 7, 8, 10
_FIELDS = 18


def _seconds(text):
    """A time stamp as a number of seconds."""
    try:
        return float(text)
    except ValueError:
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is None:
            # Differences are all that counts, and summer time would spoil
            # them.
            time = time.replace(tzinfo=datetime.timezone.utc)
        return time.timestamp()


def philly(source, host_gpus):
    """Jobs of the CSV that simulators made of Microsoft's Philly trace.

    Columns timestamp, duration and num_gpus are used. A job of more GPUs than
    a host has is spread over as few equal servers as can be.

    :param source: the lines of the file.
    :param host_gpus: GPUs of a host.
    :returns: (submit, duration, gpus, servers, None) of each job.
    """
    for number, row in enumerate(csv.DictReader(source), start=2):
        try:
            submit = _seconds(row['timestamp'])
            run, gpus = float(row['duration']), int(float(row['num_gpus']))
        except (KeyError, TypeError, ValueError) as error:
            raise errors.PerfError(
                'Line %d is no job of the Philly CSV (timestamp, duration, '
                'num_gpus): %r.' % (number, error))
        servers = -(-gpus // host_gpus)
        # Only equal servers can be told the planner.
        while gpus > 0 and gpus % servers:
            servers += 1
        yield submit, run, gpus, servers, None


def swf(source, host_gpus):
    """Jobs of a log in the Standard Workload Format, one GPU a processor.

    Each processor is a server of its own; jobs of hosts with several are
    packed by the planner.

    :param source: the lines of the file.
    :param host_gpus: not used: SWF says nothing about hosts.
    :returns: (submit, duration, gpus, servers, requested) of each job.
    """
    for number, line in enumerate(source, start=1):
        if not line.strip() or line.lstrip().startswith(';'):
            continue
        fields = line.split()
        try:
            values = [float(field) for field in fields]
        except ValueError:
            values = []
        if len(values) != _FIELDS:
            raise errors.PerfError(
                'Line %d is no job of SWF: %d numbers are needed.' % (
                    number, _FIELDS))
        # -1 is unknown; a job that was cancelled before it ran has no length.
        gpus = int(values[_ASKED] if values[_ASKED] > 0 else values[_USED])
        requested = (values[_ASKED_TIME] if values[_ASKED_TIME] > 0
                     else values[_RUN])
        yield values[_SUBMIT], values[_RUN], gpus, gpus, requested


FORMATS = {'philly': philly, 'swf': swf}


def convert(form, source, target, host_gpus=8):
    """Write a trace in our columns.

    Jobs without a GPU or that never ran are left out; seconds are rounded;
    a job that ran longer than it had asked for is given what it used.

    :param form: the name of the format.
    :param source: path of what is read; it may end in ``.gz``.
    :param target: path of what is written; likewise.
    :param host_gpus: GPUs of a host, for Philly.
    :returns: (jobs written, jobs left out).
    """
    try:
        with trace.open_text(source) as file:
            found = list(FORMATS[form](file, host_gpus))
        jobs = sorted((job for job in found if job[1] > 0 and job[2] > 0),
                      key=lambda job: job[0])
        if not jobs:
            raise errors.PerfError('%s holds no job that ran.' % source)
        _write(target, jobs, jobs[0][0])
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise errors.PerfError('%s could not be converted: %s' % (
            source, error))
    return len(jobs), len(found) - len(jobs)


def _write(target, jobs, base):
    known = any(job[4] is not None for job in jobs)
    with trace.open_text(target, 'w') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(trace.COLUMNS + (('requested_s',) if known else ()))
        for submit, run, gpus, servers, requested in jobs:
            run = max(1, round(run))
            row = [round(submit - base), run, gpus, 'any', servers]
            writer.writerow(
                row + ([max(run, round(requested))] if known else []))
