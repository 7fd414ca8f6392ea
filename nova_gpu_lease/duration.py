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

"""Durations as users write them, and as they are shown.

Accepted, in upper or lower case: ``90s``, ``30m``, ``2h``, ``1d12h``,
``1w``, the ISO 8601 form ``PT2H`` or ``P1DT12H``, and a bare whole number,
which is minutes. Inside the project a duration is a whole number of seconds.
"""

import re

from nova_gpu_lease import exception

ACCEPTED = ('a duration such as 90s, 30m, 2h, 1d12h or PT2H, or a whole '
            'number of minutes')

#: Ten years. Longer than any lease, and small enough that adding it to a
#: date never overflows.
MAX_SECONDS = 10 * 365 * 86400

_UNITS = (('w', 604800), ('d', 86400), ('h', 3600), ('m', 60), ('s', 1))
_PLAIN = re.compile(
    ''.join(r'(?:(?P<%s>[0-9]{1,12})%s)?' % (unit, unit)
            for unit, _ in _UNITS), re.ASCII)
_ISO = re.compile(
    r'p(?:(?P<w>[0-9]{1,12})w)?(?:(?P<d>[0-9]{1,12})d)?'
    r'(?:t(?:(?P<h>[0-9]{1,12})h)?(?:(?P<m>[0-9]{1,12})m)?'
    r'(?:(?P<s>[0-9]{1,12})s)?)?', re.ASCII)


def parse(value):
    """Turn a duration into seconds.

    :param value: a str or a non-negative int, as described above.
    :returns: the duration in seconds, an int from 1 to MAX_SECONDS.
    :raises: exception.InvalidDuration
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise exception.InvalidDuration(value=value, accepted=ACCEPTED)
    text = str(value).strip().lower()
    if re.fullmatch('[0-9]{1,12}', text, re.ASCII):
        seconds = int(text) * 60
    else:
        match = _PLAIN.fullmatch(text) or _ISO.fullmatch(text)
        if not match or not any(match.groupdict().values()) or \
                text.endswith('t'):
            raise exception.InvalidDuration(value=value, accepted=ACCEPTED)
        seconds = sum(int(match.group(unit) or 0) * size
                      for unit, size in _UNITS)
    if not 0 < seconds <= MAX_SECONDS:
        raise exception.InvalidDuration(
            value=value, accepted='more than zero and at most ten years')
    return seconds


def format(seconds):
    """Write seconds the way users write them, largest units first.

    :param seconds: a whole number of seconds, zero or more.
    :returns: for example ``1d12h``; ``0s`` for zero.
    """
    parts = []
    for unit, size in _UNITS[1:]:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append('%d%s' % (count, unit))
    return ''.join(parts) or '0s'
