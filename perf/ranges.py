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


"""Figures held against a range file: ``python -m perf.ranges RESULTS RANGES``.

A range file is JSON::

    {"runs": {"name of a run": "machine, versions, date, command"},
     "ranges": {"cases/small/seconds": {
         "max": 1.5, "from": ["name of a run"], "why": "..."}}}

A figure is named by the keys that lead to it in the results, joined by ``/``.
``min`` and ``max`` are its limits; with ``of`` they are multiples of another
figure of the same results. Every range names the runs it comes from, so that
whoever moves it knows what it was made of. A figure that is missing fails, so
that nothing passes for not having been measured.
"""

import argparse
import dataclasses
import json
import pathlib
import sys

from perf.gpu import errors

OUTSIDE = 1
ERROR = 2
_KEYS = {'min', 'max', 'of', 'from', 'why'}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One range and the figure it is about.

    :ivar figure: name of the figure.
    :ivar value: what was measured; None where it is missing.
    :ivar low: least value allowed, or None.
    :ivar high: largest value allowed, or None.
    :ivar runs: names of the runs the range comes from.
    """

    figure: str
    value: float | None
    low: float | None
    high: float | None
    runs: tuple

    @property
    def holds(self):
        return (self.value is not None and
                (self.low is None or self.value >= self.low) and
                (self.high is None or self.value <= self.high))

    def __str__(self):
        allowed = ' and '.join(
            '%s %.6g' % (word, limit) for word, limit in
            (('at least', self.low), ('at most', self.high))
            if limit is not None)
        return '%s: %s is %s, allowed is %s (%s)' % (
            'ok' if self.holds else 'OUTSIDE', self.figure,
            'missing' if self.value is None else '%.6g' % self.value,
            allowed or 'nothing that is known', ', '.join(self.runs))


def read_json(path):
    """The contents of a JSON file.

    :raises: PerfError if it cannot be read.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise errors.PerfError('%s cannot be read: %s' % (path, error))


def load(path):
    """A range file.

    :raises: PerfError that names the range and what is wrong with it.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not {'runs', 'ranges'} <= set(found):
        raise errors.PerfError(
            '%s is no range file: it needs "runs" and "ranges".' % path)
    for name, limits in found['ranges'].items():
        if unknown := set(limits) - _KEYS:
            raise errors.PerfError(
                "%s: '%s' has '%s'; known are %s." % (
                    path, name, min(unknown), ', '.join(sorted(_KEYS))))
        if not limits.keys() & {'min', 'max'}:
            raise errors.PerfError(
                "%s: '%s' has neither min nor max." % (path, name))
        runs = limits.get('from')
        if not runs or not set(runs) <= set(found['runs']):
            raise errors.PerfError(
                "%s: 'from' of '%s' has to name runs that are described in "
                '"runs".' % (path, name))
    return found


def figure(results, name):
    """The number of that name, None where there is none.

    :param results: nested dicts and lists.
    :param name: the keys that lead to it, joined by ``/``.
    """
    found = results
    for key in name.split('/'):
        if isinstance(found, list) and key.isdigit():
            found = found[int(key)] if int(key) < len(found) else None
        else:
            found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, (int, float)) else None


def check(results, ranges):
    """Hold results against ranges.

    :param results: nested dicts and lists with numbers.
    :param ranges: what :func:`load` returned.
    :returns: a Finding for each range, in the order of the file.
    """
    found = []
    for name, limits in ranges['ranges'].items():
        value, of = figure(results, name), 1
        if 'of' in limits:
            of = figure(results, limits['of'])
            # A share of something unknown is unknown.
            value, of = (None, 1) if of is None else (value, of)
        found.append(Finding(
            name, value, *(limits[end] * of if end in limits else None
                           for end in ('min', 'max')), tuple(limits['from'])))
    return found


def report(results_file, ranges_file):
    """Print each finding, those outside last.

    :returns: an exit status: 1 if a figure is outside its range.
    """
    found = check(read_json(results_file), load(ranges_file))
    for finding in sorted(found, key=lambda finding: not finding.holds):
        print(finding)
    outside = sum(not finding.holds for finding in found)
    print('%d of %d figures within their ranges' % (
        len(found) - outside, len(found)))
    return OUTSIDE if outside else 0


def main(argv=None):
    """Run the command.

    :returns: its exit status.
    """
    parser = argparse.ArgumentParser(
        prog='python -m perf.ranges', description='Hold measured figures '
        'against a range file; exit 1 if one is outside or missing.')
    parser.add_argument('results', help='what was measured, JSON')
    parser.add_argument('ranges', help='the range file, JSON')
    args = parser.parse_args(argv)
    try:
        return report(args.results, args.ranges)
    except errors.PerfError as error:
        print('perf.ranges: %s' % error, file=sys.stderr)
        return ERROR


if __name__ == '__main__':
    sys.exit(main())
