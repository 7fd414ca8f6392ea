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


"""The report: Markdown, and HTML made from it."""

import html
import pathlib
import re

import markdown_it

from perf.gpu import errors
from perf.gpu import plots
from perf.gpu import schema

_TITLES = {
    'copy': 'Copies: bandwidth', 'latency': 'Copies: latency',
    'memory': 'Kinds of memory', 'matmul': 'Matrix products',
    'launch': 'Kernel launches', 'training': 'Training',
    'peer': 'Several GPUs', 'cpu': 'Processor and kernel'}
_PAGE = '''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>%s</title>
<style>
body { font: 15px/1.45 sans-serif; max-width: 75em; margin: 2em auto;
       padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-size: 90%%; }
th, td { border: 1px solid #ccc; padding: 0.2em 0.6em; text-align: left; }
img { max-width: 100%%; }
</style>
</head>
<body>
%s</body>
</html>
'''
_HOW_TO_READ = '''\
*Overhead* is how much longer the guest takes; rates are turned round, so that
more is always worse. The *interval* behind it holds, together with those of
all other tests of this report, with 95 %% confidence. It contains the spread
between rounds and %s of standard deviation for what any two runs of one
machine differ by.

* **over**: the whole interval is above the limit of %s.
* **within**: none of it is.
* **undecided**: the limit lies in it; measure longer to know.

*Change* says whether the guest is certainly slower or faster at all.'''


def cell(value):
    """A text from a file as Markdown that means nothing but itself."""
    text = ' '.join(str(value).split())
    return re.sub(r'([\\`*_{}\[\]<>()#+!|~&-])', r'\\\1', text)


def percent(ratio):
    """A ratio as the overhead it is."""
    return '%+.1f %%' % (100 * (ratio - 1))


def figure(value):
    """A value in four digits."""
    return '%.0f' % value if value >= 1000 else '%.4g' % value


def table(head, rows):
    """A Markdown table; its cells are Markdown already."""
    lines = ['| %s |' % ' | '.join(head), '|%s' % ('---|' * len(head))]
    lines += ['| %s |' % ' | '.join(row) for row in rows]
    return '\n'.join(lines)


def summary(comparison):
    """The result in a few lines."""
    counts = {}
    for row in comparison.rows:
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    lines = ['%d tests compared, limit %g %%: %s.' % (
        len(comparison.rows), 100 * comparison.limit, ', '.join(
            '%d %s' % (count, verdict)
            for verdict, count in sorted(counts.items())))]
    for row in comparison.over:
        lines.append('over: %s %s (%s to %s)' % (
            row.name, percent(row.ratio.value), percent(row.ratio.joint_low),
            percent(row.ratio.joint_high)))
    return '\n'.join(lines)


def _group(rows):
    """The table of a group, with the reference where there is one."""
    head = ('test', 'unit', 'host', 'guest', 'overhead', 'interval',
            'verdict', 'change')
    beside = any(row.reference for row in rows)
    if beside:
        head += ('reference', 'reference overhead')
    return table(head, [_test(row, beside) for row in rows])


def _test(row, beside):
    """One line of a group's table."""
    ratio, reference = row.ratio, row.reference
    cells = [cell(row.name), cell(row.unit), figure(row.host),
             figure(row.guest)]
    if ratio is None:
        cells += [percent(row.plain), '', row.verdict, '']
    else:
        cells += [percent(ratio.value), '%s to %s' % (
            percent(ratio.joint_low), percent(ratio.joint_high)),
            '**over**' if row.verdict == 'over' else row.verdict,
            ratio.change]
    if not beside:
        return cells
    if reference is None:
        return cells + ['', '']
    return cells + ['%s %s' % (cell(', '.join(
        '%s %s' % (column, figure(value))
        for column, value in reference.values.items())),
        cell(reference.unit)), percent(reference.ratio)]


def _flat(value, prefix=''):
    """A nested description as pairs of a path and a text."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(value[key], '%s%s ' % (prefix, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, part in enumerate(value):
            yield from _flat(part, '%s%d ' % (prefix, number))
    elif isinstance(value, list):
        yield prefix.strip(), ', '.join(map(str, value))
    else:
        yield prefix.strip(), str(value)


def _machines(comparison):
    sides = []
    for result in (comparison.host, comparison.guest):
        settings = {key: value for key, value in result['settings'].items()
                    if key != 'only'}
        sides.append(dict(_flat({
            **result['machine'], 'measured': result['started'],
            'settings': settings})))
    return table(('', 'host', 'guest'), [
        [cell(key.replace('_', ' ')),
         *(cell(side.get(key, '')) for side in sides)]
        for key in sorted({*sides[0], *sides[1]})])


def _methods(comparison):
    """Each method once, with the tests it belongs to."""
    found = {}
    for row in comparison.rows:
        for result in (comparison.host, comparison.guest):
            method = result['tests'][row.name]['method']
            found.setdefault(method, {})[row.name] = None
    return table(('method', 'tests'), [
        [cell(method), cell(_names(list(names)))]
        for method, names in found.items()])


def _names(names):
    """The first and the last of several names."""
    return names[0] if len(names) == 1 else '%s to %s (%d)' % (
        names[0], names[-1], len(names))


def _absent(comparison):
    """What one side or both did not measure, and why."""
    rows = []
    sides = (comparison.host, comparison.guest)
    names = set()
    for result in sides:
        names |= {*result['tests'], *result['skipped'], *result['failed']}
    common = set(sides[0]['tests']) & set(sides[1]['tests'])
    together = {}
    for name in sorted(names - common):
        reasons = tuple(_why(result, name) for result in sides)
        together.setdefault(reasons, []).append(name)
    for reasons, found in together.items():
        rows.append([cell(_names(found)), *map(cell, reasons)])
    return table(('test', 'host', 'guest'), rows) if rows else None


def _why(result, name):
    if name in result['failed']:
        return 'failed: ' + result['failed'][name]
    if name in result['skipped']:
        return 'skipped: ' + result['skipped'][name]
    return 'measured' if name in result['tests'] else 'not asked for'


def _busy(comparison):
    """GPU busy percentages of tests that tell them."""
    rows = []
    for row in comparison.rows:
        means = []
        for result in (comparison.host, comparison.guest):
            seen = [one['gpu_busy_percent'] for one in
                    result['tests'][row.name]['rounds']
                    if 'gpu_busy_percent' in one]
            means.append('%.0f %%' % (sum(seen) / len(seen)) if seen else '')
        if any(means):
            rows.append([cell(row.name), *means])
    return table(('test', 'GPU busy, host', 'GPU busy, guest'), rows) \
        if rows else None


def markdown(comparison, pictures):
    """The report as Markdown.

    :param pictures: by group, the files that :func:`perf.gpu.plots.draw`
        made.
    """
    reference = comparison.reference
    parts = ['# GPU in the host and in a guest: %s, %s' % (
        cell(comparison.host['label']), cell(comparison.guest['label'])),
        '## Summary', '\n'.join(
            '* ' + cell(line) for line in summary(comparison).splitlines())]
    if comparison.notes:
        parts += ['## Before you believe it', '\n'.join(
            '* ' + cell(note) for note in comparison.notes)]
    parts += ['## How to read it', _HOW_TO_READ % (
        '%g %%' % (100 * comparison.shift),
        '%g %%' % (100 * comparison.limit))]
    for group, rows in comparison.groups().items():
        parts += ['## ' + _TITLES.get(group, cell(group)),
                  _group(rows)]
        if group == 'training' and (busy := _busy(comparison)):
            parts.append(busy)
        parts += ['![%s](plots/%s)' % (name.removesuffix('.png'), name)
                  for name in pictures[group]]
    parts += ['## Reference', '%s: %s.' % (
        cell(reference['title']), cell(reference['hardware'])), '\n'.join(
            '* ' + cell(note) for note in reference['notes'])]
    if comparison.further:
        parts.append(table(
            ('further figure', 'unit', 'columns', 'overhead'),
            [[cell(one.name), cell(one.unit), cell(', '.join(
                '%s %s' % (column, figure(value))
                for column, value in one.values.items())),
              percent(one.ratio)] for one in comparison.further]))
    parts += ['## Machines', _machines(comparison), '## Methods',
              _methods(comparison)]
    absent = _absent(comparison)
    if absent:
        parts += ['## Not compared', absent]
    return '\n\n'.join(parts) + '\n'


def page(text):
    """A Markdown text as an HTML page; HTML within it is shown, not used."""
    parser = markdown_it.MarkdownIt('commonmark', {'html': False}).enable(
        'table')
    title = text.partition('\n')[0].lstrip('# ').replace('\\', '')
    return _PAGE % (html.escape(title), parser.render(text))


def write(comparison, folder):
    """Write ``report.md``, ``report.html`` and ``plots/``.

    :raises: PerfError if the folder cannot be written to.
    """
    folder = pathlib.Path(folder)
    try:
        (folder / 'plots').mkdir(parents=True, exist_ok=True)
        pictures = plots.draw(comparison, folder / 'plots')
    except OSError as error:
        raise errors.PerfError('The report cannot be written: %s' % error)
    text = markdown(comparison, pictures)
    schema.write_text(folder / 'report.md', text)
    schema.write_text(folder / 'report.html', page(text))
