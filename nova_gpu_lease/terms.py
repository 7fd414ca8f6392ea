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

"""What one GPU server asks for: hints, flavor and options put together.

Pure functions. nova-api calls :func:`resolve` to answer 400 in time,
nova-conductor calls it again to fill the rows. Precedence: hint, then flavor,
then option.
"""

import dataclasses

from oslo_utils import strutils

from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import priorities
from nova_gpu_lease import states

HINT = 'gpu_lease'
HINT_ON_EXPIRY = 'gpu_lease_on_expiry'
HINT_WAIT = 'gpu_lease_wait'
HINT_PRIORITY = 'gpu_lease_priority'
HINT_AUTO_EXTEND = 'gpu_lease_auto_extend'
HINTS = (HINT, HINT_ON_EXPIRY, HINT_WAIT, HINT_PRIORITY, HINT_AUTO_EXTEND)

SPEC_PREFIX = 'gpu_lease:'
SPEC_DEFAULT_DURATION = 'gpu_lease:default_duration'
SPEC_MAX_DURATION = 'gpu_lease:max_duration'
SPEC_ON_EXPIRY = 'gpu_lease:on_expiry'
SPEC_PRIORITY = 'gpu_lease:priority'
SPEC_REQUIRED = 'gpu_lease:required'
SPEC_END_WHEN_OFF = 'gpu_lease:end_when_off'
PCI_ALIAS_SPEC = 'pci_passthrough:alias'


@dataclasses.dataclass(frozen=True)
class Terms:
    """The terms of a lease. Times are in seconds; None means no limit."""

    devices: dict
    duration: int
    max_duration: int | None
    on_expiry: str
    wait: int | None
    priority: str
    auto_extend: bool


def requested_aliases(extra_specs):
    """The PCI aliases that a flavor asks for.

    :param extra_specs: the flavor's extra specs, a dict of str.
    :returns: a dict of alias name to number of devices of one server. Text
        that Nova itself would refuse gives what can be read of it.
    """
    devices = {}
    for item in extra_specs.get(PCI_ALIAS_SPEC, '').split(','):
        name, _, count = (part.strip() for part in item.partition(':'))
        if name and count.isdecimal() and int(count):
            devices[name] = devices.get(name, 0) + int(count)
    return devices


def is_gpu_flavor(extra_specs, conf):
    """Whether a flavor asks for at least one GPU.

    :param extra_specs: the flavor's extra specs, a dict of str.
    :param conf: the [gpu_lease] group; ``aliases`` empty means that every
        alias is a GPU.
    """
    devices = requested_aliases(extra_specs)
    if conf.aliases:
        return bool(devices.keys() & set(conf.aliases))
    return bool(devices)


def resolve(hints, extra_specs, conf, strict=True):
    """The terms of the lease of one server.

    :param hints: the server's scheduler hints: a dict of str to str, int or a
        list of one of them (Nova stores lists); other hints are ignored.
    :param extra_specs: the flavor's extra specs, a dict of str.
    :param conf: the [gpu_lease] group of options.
    :param strict: False for a server that was created when other limits and
        priority classes were configured: what is longer than allowed by now
        is cut to that, and the default class stands for one that is gone.
    :returns: a Terms, or None for a server without a lease.
    :raises: exception.InvalidHint, InvalidExtraSpec, LeaseRequired,
        InvalidPriorities
    """
    hints = _own_hints(hints)
    if not is_gpu_flavor(extra_specs, conf):
        for hint, value in hints.items():
            raise exception.InvalidHint(
                hint=hint, value=value,
                reason='the flavor has no GPU; use a flavor with %s.' %
                PCI_ALIAS_SPEC)
        return None

    length = _duration(hints, extra_specs, conf, strict)
    if length is None:
        for hint, value in hints.items():
            raise exception.InvalidHint(
                hint=hint, value=value,
                reason='the server has no lease; say how long it is with '
                '%s, for example %s=2h.' % (HINT, HINT))
        return None
    # Read by nova-compute, which has nobody to tell that it is wrong.
    end_when_off(extra_specs, conf)
    return Terms(
        devices=requested_aliases(extra_specs),
        duration=length,
        max_duration=longest(extra_specs, conf),
        on_expiry=_choice(hints, HINT_ON_EXPIRY, extra_specs, SPEC_ON_EXPIRY,
                          states.ON_EXPIRY, conf.on_expiry),
        wait=_wait(hints, conf, strict),
        priority=_priority(hints, extra_specs, conf, strict),
        auto_extend=_auto_extend(hints))


def _own_hints(hints):
    own = {}
    for hint, value in (hints or {}).items():
        if not hint.startswith(HINT):
            continue
        if hint not in HINTS:
            raise exception.InvalidHint(
                hint=hint, value=value,
                reason='unknown hint; accepted are %s.' % ', '.join(HINTS))
        if isinstance(value, list):
            if len(value) != 1:
                raise exception.InvalidHint(
                    hint=hint, value=', '.join(str(v) for v in value),
                    reason='give it exactly once.')
            value = value[0]
        own[hint] = value
    return own


def _parse_hint(hint, value):
    try:
        return duration.parse(value)
    except exception.InvalidDuration as exc:
        raise exception.InvalidHint(
            hint=hint, value=value,
            reason='use %s.' % exc.kwargs['accepted'])


def _parse_spec(extra_specs, key):
    if key not in extra_specs:
        return None
    try:
        return duration.parse(extra_specs[key])
    except exception.InvalidDuration as exc:
        raise exception.InvalidExtraSpec(
            key=key, value=extra_specs[key],
            reason='use %s.' % exc.kwargs['accepted'])


def longest(extra_specs, conf):
    """The longest lease of servers with a flavor, extensions included.

    :param extra_specs: the flavor's extra specs, a dict of str.
    :param conf: the [gpu_lease] group of options.
    :returns: seconds, or None without a limit.
    :raises: exception.InvalidExtraSpec
    """
    limits = [limit for limit in (_parse_spec(extra_specs, SPEC_MAX_DURATION),
                                  conf.max_duration) if limit is not None]
    return min(limits, default=None)


def end_when_off(extra_specs, conf):
    """How long a server with a flavor may be powered off with a lease.

    :param extra_specs: the flavor's extra specs, a dict of str.
    :param conf: the [gpu_lease] group of options.
    :returns: seconds, or None for as long as the lease lasts.
    :raises: exception.InvalidExtraSpec
    """
    own = _parse_spec(extra_specs, SPEC_END_WHEN_OFF)
    return conf.end_when_off if own is None else own


def _limited(hints, hint, limit, strict, what):
    """The seconds of a hint, which may not be more than a limit."""
    length = _parse_hint(hint, hints[hint])
    if limit is None or length <= limit:
        return length
    if strict:
        raise exception.InvalidHint(
            hint=hint, value=hints[hint],
            reason='%s is %s.' % (what, duration.format(limit)))
    return limit


def _duration(hints, extra_specs, conf, strict):
    limit = longest(extra_specs, conf)
    if HINT in hints:
        return _limited(hints, HINT, limit, strict,
                        'the longest lease with this flavor')
    required = extra_specs.get(SPEC_REQUIRED, 'false')
    try:
        required = strutils.bool_from_string(required, strict=True)
    except ValueError:
        raise exception.InvalidExtraSpec(
            key=SPEC_REQUIRED, value=required, reason='use true or false.')
    if strict and (required or conf.without_hint == 'refuse'):
        raise exception.LeaseRequired()
    length = _parse_spec(extra_specs, SPEC_DEFAULT_DURATION)
    if length is None:
        length = conf.default_duration
    if length is not None and limit is not None:
        length = min(length, limit)
    return length


def _choice(hints, hint, extra_specs, key, accepted, default):
    if hint in hints:
        if hints[hint] not in accepted:
            raise exception.InvalidHint(
                hint=hint, value=hints[hint],
                reason='use %s.' % ' or '.join(accepted))
        return hints[hint]
    if key in extra_specs:
        if extra_specs[key] not in accepted:
            raise exception.InvalidExtraSpec(
                key=key, value=extra_specs[key],
                reason='use %s.' % ' or '.join(accepted))
        return extra_specs[key]
    return default


def _priority(hints, extra_specs, conf, strict):
    classes = priorities.parse(conf.priorities)
    default = priorities.default(classes).name
    try:
        return _choice(hints, HINT_PRIORITY, extra_specs, SPEC_PRIORITY,
                       tuple(classes), default)
    except exception.InvalidInput:
        if strict:
            raise
        return default


def _wait(hints, conf, strict):
    if HINT_WAIT not in hints:
        return conf.max_wait
    return _limited(hints, HINT_WAIT, conf.max_wait, strict,
                    'the longest wait')


def _auto_extend(hints):
    value = hints.get(HINT_AUTO_EXTEND, False)
    try:
        return strutils.bool_from_string(value, strict=True)
    except ValueError:
        raise exception.InvalidHint(hint=HINT_AUTO_EXTEND, value=value,
                                    reason='use true or false.')
