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


"""The pictures of a report."""

import pathlib

from matplotlib import figure
from matplotlib import ticker

from perf.gpu import case

# Told apart by shape as well as by colour.
_MARKS = {'over': ('#d55e00', 'D'), 'within': ('#0072b2', 'o'),
          'undecided': ('#777777', 's')}
_INCH_OF_ROW = 0.22


def overheads(comparison, group, rows, path):
    """Ratios with their intervals, one line for each test of a group."""
    rows = [row for row in rows if row.ratio]
    if not rows:
        return False
    picture = figure.Figure(figsize=(9, 1.6 + _INCH_OF_ROW * len(rows)),
                            layout='constrained')
    axes = picture.add_subplot()
    for place, row in enumerate(rows):
        colour, mark = _MARKS[row.verdict]
        ratio = row.ratio
        axes.plot([ratio.joint_low, ratio.joint_high], [place, place],
                  color=colour, linewidth=1)
        axes.plot([ratio.low, ratio.high], [place, place], color=colour,
                  linewidth=3, alpha=0.5)
        axes.plot([ratio.value], [place], mark, color=colour, markersize=5)
        if row.reference:
            axes.plot([row.reference.ratio], [place], 'x', color='black',
                      markersize=6)
    axes.axvline(1, color='black', linewidth=0.8)
    axes.axvline(1 + comparison.limit, color='#d55e00', linestyle='--',
                 linewidth=0.8)
    # A ratio of 2 is as far to the right as 1/2 to the left.
    axes.set_xscale('log')
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(
        ticker.LogLocator(base=2) if high > 4 * low
        else ticker.MaxNLocator(8))
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter('%.2f'))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel('time in the guest / time in the host; dashed: the limit'
                    '; x: reference')
    axes.set_title(group)
    axes.grid(axis='x', alpha=0.3)
    picture.savefig(path, dpi=110)
    return True


def sizes(group, rows, path):
    """Values over sizes, host and guest, for tests that come in sizes."""
    lines = {}
    for row in rows:
        name, size = case.series(row.name)
        if size is not None:
            lines.setdefault((name, row.unit), []).append((size, row))
    lines = {key: points for key, points in lines.items() if len(points) > 1}
    units = sorted({unit for _name, unit in lines})
    if not units:
        return False
    picture = figure.Figure(figsize=(9, 4.5 * len(units)),
                            layout='constrained')
    for number, unit in enumerate(units, start=1):
        axes = picture.add_subplot(len(units), 1, number)
        for (name, its_unit), points in lines.items():
            if its_unit != unit:
                continue
            places = [size for size, _row in points]
            host, = axes.plot(places, [row.host for _size, row in points],
                              'o-', markersize=4, label=name + ', host')
            axes.plot(places, [row.guest for _size, row in points], 's--',
                      markersize=4, color=host.get_color(),
                      label=name + ', guest')
        axes.set_xscale('log', base=2)
        axes.set_yscale('log')
        axes.set_xlabel('bytes' if group != 'matmul' else 'rows')
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6, ncols=2)
    picture.suptitle(group)
    picture.savefig(path, dpi=110)
    return True


def draw(comparison, folder):
    """All pictures of a report.

    :param folder: where they go; it exists.
    :returns: by group, the names of the files that were made.
    """
    folder = pathlib.Path(folder)
    made = {}
    for group, rows in comparison.groups().items():
        names = []
        name = 'overhead-%s.png' % group
        if overheads(comparison, group, rows, folder / name):
            names.append(name)
        name = 'sizes-%s.png' % group
        if sizes(group, rows, folder / name):
            names.append(name)
        made[group] = names
    return made
