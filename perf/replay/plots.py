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


"""PNG pictures of a replay: queue, use and waits over time."""

import pathlib

from matplotlib import figure
import numpy

from perf.gpu import errors

_DAY = 86400
_POINTS = 600


def _axes(title, label, x_label='days'):
    picture = figure.Figure(figsize=(9, 4.5), layout='constrained')
    axes = picture.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    return picture, axes


def _save(picture, axes, folder, name):
    axes.legend(fontsize=8)
    picture.savefig(folder / name, dpi=110)
    return name


def _over_time(replays, folder, series, title, label, scale=None):
    """Values that stay until the next event, one line a policy."""
    picture, axes = _axes(title, label)
    for name, replay in replays.items():
        times = numpy.array(replay.series['time']) / _DAY
        values = numpy.array(replay.series[series], dtype=float)
        if scale:
            values /= scale(replay)
        axes.step(times, values, where='post', linewidth=0.8, label=name)
    return _save(picture, axes, folder, '%s.png' % title.replace(' ', '-'))


def _waits(replays, folder):
    """The mean wait of those who came at that time."""
    picture, axes = _axes('waits', 'mean wait of who came then, hours')
    for name, replay in replays.items():
        submits = numpy.array([job.submit for job in replay.jobs])
        waits = numpy.array([replay.starts[job.row] - job.submit
                             for job in replay.jobs]) / 3600
        edges = numpy.linspace(submits[0], submits[-1] + 1, _POINTS // 4 + 1)
        count, _ = numpy.histogram(submits, edges)
        total, _ = numpy.histogram(submits, edges, weights=waits)
        some = count > 0
        axes.plot((edges[:-1][some] + edges[1:][some]) / 2 / _DAY,
                  total[some] / count[some], linewidth=0.9, label=name)
    return _save(picture, axes, folder, 'waits.png')


def draw(replays, folder):
    """The pictures of a replay.

    :param replays: {policy: loop.Replay}.
    :param folder: where they go.
    :returns: the names of the files.
    :raises: PerfError if they cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            _over_time(replays, folder, 'queue', 'queue length',
                       'jobs that wait'),
            _over_time(replays, folder, 'used', 'utilisation',
                       'share of the GPUs in use',
                       lambda replay: replay.capacity),
            _waits(replays, folder)]
    except OSError as error:
        raise errors.PerfError('The plots cannot be written: %s' % error)


def draw_fill(results, folder):
    """The picture of a filling.

    :param results: {policy: fill.Fill}.
    :param folder: where it goes.
    :returns: the names of the files.
    :raises: PerfError if it cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        picture, axes = _axes('filling', 'share of the GPUs in use',
                              'share of the GPUs asked for')
        for name, result in results.items():
            axes.plot(numpy.array(result.series['asked']) / result.capacity,
                      numpy.array(result.series['used']) / result.capacity,
                      linewidth=1, label=name)
        return [_save(picture, axes, folder, 'filling.png')]
    except OSError as error:
        raise errors.PerfError('The plots cannot be written: %s' % error)
