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


"""Two results side by side: numbers only, the report makes them readable."""

import collections
import dataclasses
import json
import math
import pathlib
import typing

from perf.gpu import case
from perf.gpu import errors
from perf.gpu import measure
from perf.gpu import stats

THESIS = pathlib.Path(__file__).parent / 'reference' / 'thesis.json'
# The order of a report; groups that are not named follow.
_GROUPS = ('copy', 'latency', 'memory', 'matmul', 'launch', 'training',
           'peer', 'cpu')


@dataclasses.dataclass(frozen=True)
class Reference:
    """One figure of another comparison.

    :param values: by the name of the column, two of them.
    :param ratio: how many times longer the second took.
    """

    name: str
    unit: str
    values: dict
    ratio: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One test of both.

    :param host: geometric mean of the host's rounds, with ``guest`` that of
        the guest's.
    :param ratio: a :class:`perf.gpu.stats.Ratio`, None with too few rounds.
    :param verdict: ``over``, ``within``, ``undecided`` or ``too few rounds``.
    :param reference: a :class:`Reference` or None.
    """

    name: str
    unit: str
    better: str
    host: float
    guest: float
    ratio: typing.Optional[stats.Ratio]
    verdict: str
    reference: typing.Optional[Reference]

    @property
    def group(self):
        return self.name.partition('/')[0]

    @property
    def plain(self):
        """The ratio of costs when nothing is known of its interval."""
        if self.better == 'lower':
            return self.guest / self.host
        return self.host / self.guest


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All of a report.

    :param host: the host's result, ``guest`` the guest's.
    :param notes: what a reader must know before believing the rows.
    :param reference: the file of figures that stand beside, as it was read.
    :param further: the :class:`Reference` that no row has beside it.
    """

    host: dict
    guest: dict
    limit: float
    shift: float
    rows: list
    notes: list
    reference: dict
    further: list

    @property
    def over(self):
        """The rows that are over the limit for certain."""
        return [row for row in self.rows if row.verdict == 'over']

    def groups(self):
        """Rows by group, in the order of the report."""
        found = collections.OrderedDict()
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return found


def load_reference(path=None):
    """Figures to put beside.

    :param path: a file like ``reference/thesis.json``, which it is if None.
    :returns: the file, its tests being :class:`Reference` under the name
        they have there, and under ``beside`` by the name of our test.
    :raises: PerfError if it cannot be used.
    """
    path = pathlib.Path(path or THESIS)
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
        tests = {name: _reference(name, test, found['pairs'])
                 for name, test in found['tests'].items()}
        return {'title': str(found['title']),
                'hardware': str(found['hardware']),
                'notes': list(found['notes']), 'tests': tests,
                'beside': {ours: tests[name]
                           for name, test in found['tests'].items()
                           for ours in test['beside']}}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise errors.PerfError(
            'The reference %s cannot be used (%s: %s); %s shows the form.' % (
                path, type(error).__name__, error, THESIS))


def _reference(name, test, pairs):
    for first, second in pairs:
        if first in test['values']:
            values = {column: float(test['values'][column])
                      for column in (first, second)}
            ratio = values[second] / values[first]
            return Reference(
                name, str(test['unit']), values,
                ratio if test['better'] == 'lower' else 1 / ratio)
    raise ValueError('%s has no pair of columns of %s' % (name, pairs))


def _check(host, guest):
    """Refuse what cannot be compared."""
    for key, what in (('backend', 'on a %s'), ('sizes', 'with %s sizes')):
        if host[key] != guest[key]:
            raise errors.PerfError(
                'The host was measured %s, the guest %s: measure both the '
                'same way.' % (what % host[key], what % guest[key]))
    common = set(host['tests']) & set(guest['tests'])
    if not common:
        raise errors.PerfError(
            'The two results have no test in common (%d and %d tests). Was '
            'one of them interrupted at once, or run with another --only?' % (
                len(host['tests']), len(guest['tests'])))
    for name in sorted(common):
        for key in ('unit', 'better'):
            if host['tests'][name][key] != guest['tests'][name][key]:
                raise errors.PerfError(
                    "The test '%s' has the %s '%s' in the host and '%s' in "
                    'the guest: measure both with the same version.' % (
                        name, key, host['tests'][name][key],
                        guest['tests'][name][key]))
    return common


def _order(name):
    group = name.partition('/')[0]
    return (_GROUPS.index(group) if group in _GROUPS else len(_GROUPS),
            case.order(name))


def _values(test):
    return [one['value'] for one in test['rounds']]


def _middle(values):
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def compare(host, guest, limit=0.1, shift=stats.SHIFT, reference=None):
    """Put two results side by side.

    :param host: the result of the host, checked by ``schema``.
    :param guest: that of the guest.
    :param limit: the greatest overhead that is accepted, 0.1 for 10 %.
    :param shift: see :mod:`perf.gpu.stats`.
    :param reference: what :func:`load_reference` gives, the thesis if None.
    :returns: a :class:`Comparison`.
    :raises: PerfError if the two cannot be compared.
    """
    common = _check(host, guest)
    reference = reference or load_reference()
    # Tests that have too few rounds can raise no false alarm.
    family = sum(
        min(len(result['tests'][name]['rounds'])
            for result in (host, guest)) >= stats.MIN_ROUNDS
        for name in common)
    rows = []
    for name in sorted(common, key=_order):
        test = host['tests'][name]
        ours, theirs = _values(test), _values(guest['tests'][name])
        ratio = stats.cost_ratio(ours, theirs, test['better'], family, shift)
        rows.append(Row(
            name=name, unit=test['unit'], better=test['better'],
            host=_middle(ours), guest=_middle(theirs), ratio=ratio,
            verdict=ratio.verdict(limit) if ratio else 'too few rounds',
            reference=reference['beside'].get(name)))
    shown = {row.reference.name for row in rows if row.reference}
    return Comparison(
        host=host, guest=guest, limit=limit, shift=shift, rows=rows,
        notes=list(_notes(host, guest, common)), reference=reference,
        further=[test for name, test in reference['tests'].items()
                 if name not in shown])


def _notes(host, guest, common):
    """What a reader must know."""
    sides = (('host', host), ('guest', guest))
    if host['backend'] == 'cpu':
        yield ('No GPU was measured: these figures try the path and say '
               'nothing of a passed-through GPU.')
    kinds = {side: result['machine'].get('hypervisor')
             for side, result in sides}
    if kinds['host'] not in (None, 'none', 'unknown'):
        yield 'The host is itself virtual (%s).' % kinds['host']
    if kinds['guest'] == 'none':
        yield ('The guest is not virtual: are the two results in the right '
               'order?')
    yield from _different(host, guest)
    for side, result in sides:
        if result['interrupted']:
            yield 'The run of the %s was interrupted.' % side
        if result['failed']:
            yield 'Failed in the %s: %s.' % (
                side, ', '.join(sorted(result['failed'], key=_order)))
        throttled = collections.Counter(
            reason for name in common
            for one in result['tests'][name]['rounds']
            for reason in one.get('throttled', ()))
        for reason, count in sorted(throttled.items()):
            yield ('The GPU of the %s was throttled in %d measurements: %s.'
                   % (side, count, reason))
    changed = [name for name in sorted(common, key=_order)
               if host['tests'][name]['method'] !=
               guest['tests'][name]['method']]
    if changed:
        yield 'Measured differently on the two sides: %s.' % ', '.join(
            changed)
    noisy = [name for name in sorted(common, key=_order)
             if any(_spread(result['tests'][name]) > stats.SHIFT
                    for _side, result in sides)]
    if noisy:
        yield ('Not known to within %g %% (standard error over the rounds; '
               'a longer --time-limit helps): %s.' % (
                   100 * stats.SHIFT, ', '.join(noisy)))


def _spread(test):
    values = _values(test)
    if len(values) < 2:
        return 0
    return math.sqrt(measure.log_mean(values)[1])


def _different(host, guest):
    """What should be equal on both sides and is not."""
    for what, get in (
            ('GPU', lambda gpu: gpu.get('model')),
            ('driver', lambda gpu: gpu.get('driver')),
            ('error correction (ECC)', lambda gpu: gpu.get('ecc')),
            ('power limit', lambda gpu: gpu.get('power_limit_w'))):
        values = [[get(gpu) for gpu in result['machine'].get('gpus', ())]
                  for result in (host, guest)]
        if values[0] != values[1]:
            yield 'The %s differs: %s in the host, %s in the guest.' % (
                what, *(', '.join(map(str, value)) or 'unknown'
                        for value in values))
    libraries = [{**result['machine'].get('libraries', {})}
                 for result in (host, guest)]
    for name in sorted(set(libraries[0]) | set(libraries[1])):
        versions = [found.get(name, 'absent') for found in libraries]
        if versions[0] != versions[1]:
            yield 'The version of %s differs: %s in the host, %s in the ' \
                'guest.' % (name, *versions)
