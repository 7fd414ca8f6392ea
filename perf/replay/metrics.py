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


"""What a replay says: waits, slowdown, use of the hosts, promises."""

import numpy

#: By name, whether a job is one of them.
SIZES = {
    '1': lambda job: job.servers == 1 and job.gpus == 1,
    '2-7': lambda job: job.servers == 1 and 2 <= job.gpus <= 7,
    '8': lambda job: job.servers == 1 and job.gpus == 8,
    'gangs': lambda job: job.servers > 1,
    # Not on the hosts of most traces.
    '9+': lambda job: job.servers == 1 and job.gpus > 8,
}
#: Runs shorter than so many seconds count as so long in the slowdown.
BOUNDS = (10, 600)


def _numbers(waits):
    """Mean, median, 95th percentile and longest of waits.

    :param waits: seconds.
    """
    return {'jobs': len(waits), 'mean': round(float(numpy.mean(waits)), 1),
            'median': float(numpy.median(waits)),
            # The least wait that 95 of 100 jobs do not exceed.
            'p95': float(numpy.percentile(
                waits, 95, method='inverted_cdf')),
            'max': float(numpy.max(waits))}


def _slowdown(waits, runs, bound):
    """Mean bounded slowdown, max(1, (wait + run) / max(run, bound)).

    Feitelson and Rudolph, "Metrics and benchmarking for parallel job
    scheduling", JSSPP 1998.

    :param bound: seconds.
    """
    return round(float(numpy.mean(numpy.maximum(
        1, (waits + runs) / numpy.maximum(runs, bound)))), 3)


def _mean_over_time(times, values, until):
    """Mean of a value that stays until the next time.

    :param times: sorted seconds.
    :param values: one for each.
    :param until: the end of the window, which begins at the first time.
    """
    edges = numpy.minimum(numpy.append(times, until), until)
    length = numpy.diff(edges)
    if not length.sum():
        return 0.0
    return float((length * values).sum() / length.sum())


def figures(replay):
    """All figures of one replay.

    :param replay: a loop.Replay.
    :returns: a dictionary fit for JSON.
    """
    jobs = replay.jobs
    submits = numpy.array([job.submit for job in jobs])
    waits = numpy.array([replay.starts[job.row] for job in jobs]) - submits
    runs = numpy.array([replay.runs[job.row] for job in jobs])
    times = numpy.array(replay.series['time'])
    last = int(submits.max())
    used, free, whole = (numpy.array(replay.series[name], dtype=float)
                         for name in ('used', 'free', 'whole'))
    found = {
        'wait_s': _numbers(waits),
        'wait_by_size_s': {},
        'bounded_slowdown': {
            '%d s' % bound: _slowdown(waits, runs, bound)
            for bound in BOUNDS},
        'utilisation': round(
            _mean_over_time(times, used, last) / replay.capacity, 4),
        'queue_length': {
            'mean': round(_mean_over_time(
                times, numpy.array(replay.series['queue']), last), 1),
            'max': int(max(replay.series['queue']))},
        'last_end_s': int(max(replay.starts[job.row] + replay.runs[job.row]
                              for job in jobs)),
        'promises': replay.promises.figures(),
    }
    for name, belongs in SIZES.items():
        chosen = [belongs(job) for job in jobs]
        if any(chosen):
            found['wait_by_size_s'][name] = _numbers(waits[chosen])
    if replay.eights:
        mean_free = _mean_over_time(times, free, last)
        found['free_on_whole_hosts'] = round(_mean_over_time(
            times, whole, last) / mean_free, 4) if mean_free else None
    return found


def compare(replay, column, expected):
    """How many starts are as in a column of the trace.

    :param expected: {row: start in seconds}.
    :returns: {column, equal, jobs, first rows that differ}.
    """
    different = [job.row for job in replay.jobs
                 if replay.starts[job.row] != expected[job.row]]
    return {'column': column, 'jobs': len(replay.jobs),
            'equal': len(replay.jobs) - len(different),
            'different_rows': different[:20]}
