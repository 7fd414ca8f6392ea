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


"""The result as a table, as JSON and as a file of starts."""

import csv
import datetime
import importlib.metadata
import io
import pathlib
import platform
import subprocess

from perf.gpu import errors
from perf.gpu import machine
from perf.gpu import schema
from perf.replay import trace

NAME = 'nova-gpu-lease/perf-replay'
VERSION = 1


def about(arguments):
    """What every result says of where it comes from.

    :param arguments: of the command line.
    """
    root = pathlib.Path('/')
    return {
        'schema': NAME, 'version': VERSION,
        'command': ' '.join(['python -m perf.replay', *arguments]),
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec='seconds'),
        'machine': {'kernel': platform.release(),
                    'processor': {
                        key: value for key, value
                        in machine.processor(root).items()
                        if key in ('model', 'cpus')},
                    'memory_mib': machine.memory(root)['total_mib']},
        'versions': {'python': platform.python_version(),
                     'numpy': importlib.metadata.version('numpy'),
                     'source': _source()},
    }


def _source():
    """The commit of this tree, with a mark if more than results changed."""
    folder = pathlib.Path(__file__).parents[2]
    try:
        commit, changed = (subprocess.run(
            ['git', *arguments], cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True).stdout.strip()
            for arguments in (
                ('describe', '--always', '--abbrev=12'),
                ('status', '--porcelain', '--untracked-files=no', '--', '.',
                 ':!perf/results')))
    except OSError:
        return 'unknown'
    return (commit + '-dirty' * bool(changed)) if commit else 'unknown'


def save(path, result):
    """Write a result as JSON."""
    schema.write_text(path, schema.dump(result))


def save_starts(path, replay, rows):
    """Write ``row,start_s`` for each row of the trace, in its order.

    A job that fits on no host has no start.

    :param replay: a loop.Replay.
    :param rows: numbers of the rows.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(('row', 'start_s'))
    for row in rows:
        writer.writerow((row, replay.starts.get(row, '')))
    if not str(path).endswith('.gz'):
        schema.write_text(path, text.getvalue())
        return
    try:
        with trace.open_text(path, 'w') as file:
            file.write(text.getvalue())
    except OSError as error:
        raise errors.PerfError('%s cannot be written: %s' % (path, error))


def _columns(rows):
    """Rows of texts in columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(
        text.ljust(width) if not number else text.rjust(width)
        for number, (text, width) in enumerate(zip(row, widths))).rstrip()
        for row in rows)


def _cell(value):
    if value is None:
        return '-'
    if isinstance(value, float):
        return '%.0f' % value if abs(value) >= 100 else '%.3g' % value
    return str(value)


#: The figures of a column of waits, and of one of promises.
_WAITS = ('jobs', 'mean', 'median', 'p95', 'max')
_PROMISES = ('heads', 'changed', 'later', 'broken')


def _figures(found, names):
    """Cells by name: in a file they are in another order."""
    return [_cell(found[name]) for name in names]


def waits_table(results):
    """The figures of several policies as text.

    :param results: {policy: figures of metrics.figures()}.
    """
    rows = [('wait, seconds', *_WAITS,
             'slowdown 10 s', '600 s', 'utilisation', 'whole hosts')]
    for name, found in results.items():
        rows.append((
            name, *_figures(found['wait_s'], _WAITS),
            *_figures(found['bounded_slowdown'], ('10 s', '600 s')),
            _cell(found['utilisation']),
            _cell(found.get('free_on_whole_hosts'))))
    parts = [_columns(rows)]
    rows = [('by size of job (GPUs)', *_WAITS)]
    for size in next(iter(results.values()))['wait_by_size_s']:
        for name, found in results.items():
            rows.append(('%s, %s' % (size, name), *_figures(
                found['wait_by_size_s'][size], _WAITS)))
    parts.append(_columns(rows))
    rows = [('promised starts', 'heads', 'changed', 'taken back',
             'kept too late')]
    for name, found in results.items():
        rows.append((name, *_figures(found['promises'], _PROMISES)))
    parts.append(_columns(rows))
    for name, found in results.items():
        for one in found.get('compared', ()):
            parts.append('%s: %d of %d starts are those of %s%s' % (
                name, one['equal'], one['jobs'], one['column'],
                '' if not one['different_rows'] else '; others: rows %s%s' % (
                    ', '.join(map(str, one['different_rows'])),
                    ' …' if one['jobs'] - one['equal'] > len(
                        one['different_rows']) else '')))
    return '\n\n'.join(parts)


def fill_table(results):
    """The figures of several fillings as text.

    :param results: {policy: figures of fill.figures()}.
    """
    parts = []
    for title, key in (
            ('GPUs in use when this share was asked for',
             'allocated_when_asked'),
            ('free GPUs on wholly free hosts of 8 at this use',
             'free_on_whole_hosts_when_used')):
        marks = sorted({mark for found in results.values()
                        for mark in found[key]},
                       key=lambda mark: int(mark.split()[0]))
        rows = [(title, *marks)]
        rows.extend((name, *(
            '%.1f %%' % (100 * found[key][mark]) if mark in found[key]
            else '-' for mark in marks)) for name, found in results.items())
        parts.append(_columns(rows))
    return '\n\n'.join(parts)
