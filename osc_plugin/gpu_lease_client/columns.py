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

"""Columns that are for people in a table and raw in ``-f json``."""

from cliff import columns

_UNITS = (('d', 86400), ('h', 3600), ('m', 60), ('s', 1))

#: A table cell names at most so many servers of one request.
SERVERS_SHOWN = 3


def format_duration(seconds, parts=None):
    """Write a duration for people.

    :param seconds: a whole number of seconds, zero or more.
    :param parts: how many units to write from the largest on; the rest is
        cut off, not rounded. None for all.
    :returns: for example ``1d 12h`` or ``1h 59m``; ``0s`` for zero.
    """
    counts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count or counts:
            counts.append((count, unit))
    return ' '.join('%d%s' % (count, unit) for count, unit
                    in counts[:parts] if count) or '0s'


class OptionalColumn(columns.FormattableColumn):
    """A value that may be missing: an empty cell, null in JSON."""

    def human_readable(self):
        return '' if self._value is None else self._format(self._value)

    def __lt__(self, other):
        # --sort-column: missing values last.
        return self._key() < other._key()

    def _key(self):
        return (self._value is None, self._sort_value())

    def _sort_value(self):
        # Zero is only compared to other missing values.
        return 0 if self._value is None else self._value

    def _format(self, value):
        return str(value)


class PromisedColumn(OptionalColumn):
    """A time that is promised, which people are told."""

    def _format(self, value):
        return '%s (promised)' % value


class EstimateColumn(OptionalColumn):
    """A time that is an estimate, which people are told."""

    def _format(self, value):
        return '%s (estimate)' % value


def split_start(values):
    """Tell expected starts that are promised from estimates.

    :param values: a dict of the fields of a lease or of a queue entry.
    :returns: a dict of the same with ``expected_start`` only where it is
        promised, and ``estimate``.
    """
    start = values['expected_start']
    promised = values['expected_start_promised']
    return {**values, 'expected_start': start if promised else None,
            'estimate': None if promised else start}


class DurationColumn(OptionalColumn):
    """Seconds, to the second: ``1h 30m 5s``."""

    def _format(self, value):
        return format_duration(value)


class ShortDurationColumn(OptionalColumn):
    """Seconds, the two largest units: ``1h 59m``."""

    def _format(self, value):
        return format_duration(value, parts=2)


class DevicesColumn(OptionalColumn):
    """Devices by PCI alias: ``gpu=2``, or ``gpu=2, nvlink=1``."""

    def _format(self, value):
        return ', '.join('%s=%s' % item for item in sorted(value.items()))

    def _sort_value(self):
        return self.human_readable()


class ServersColumn(OptionalColumn):
    """Servers of one request, the first few of a long list."""

    def _format(self, value):
        names = [name or '?' for name in value[:SERVERS_SHOWN]]
        more = len(value) - len(names)
        return ', '.join(names) + (' and %d more' % more if more else '')

    def _sort_value(self):
        return self.human_readable()
