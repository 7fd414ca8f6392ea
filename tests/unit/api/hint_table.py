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


"""Every rule of the hints against every hint, generated.

It runs against the filter alone; tests/functional has a table of its own,
made from the documentation, for a whole Nova.
"""

import collections

GPU = {'pci_passthrough:alias': 'gpu:1'}

#: Flavors by name.
FLAVORS = {
    'gpu': GPU,
    'cpu': {},
    'short': dict(GPU, **{'gpu_lease:max_duration': '1h'}),
    'default': dict(GPU, **{'gpu_lease:default_duration': '1h'}),
    'required': dict(GPU, **{'gpu_lease:required': 'true'}),
    'bad_max': dict(GPU, **{'gpu_lease:max_duration': 'soon'}),
    'bad_default': dict(GPU, **{'gpu_lease:default_duration': '0'}),
    'bad_on_expiry': dict(GPU, **{'gpu_lease:on_expiry': 'keep'}),
    'bad_priority': dict(GPU, **{'gpu_lease:priority': 'vip'}),
    'bad_required': dict(GPU, **{'gpu_lease:required': 'perhaps'}),
}

#: flavor, hints, options of [gpu_lease]; code: None when it is accepted,
#: else the error code; says: a text that is in the message.
Case = collections.namedtuple('Case', 'flavor hints options code says')

INVALID = 'gpu_lease.hint.invalid'
SPEC = 'gpu_lease.extra_spec.invalid'
REQUIRED = 'gpu_lease.hint.required'

_GOOD_DURATIONS = ('90s', '30m', '2h', '2H', ' 2h ', '1d12h', '1w', 'PT2H',
                   'pt2h', 'P1DT12H', 'P1W', '60', 60, ['2h'], [60])
_BAD_DURATIONS = ('', ' ', 'soon', '1.5h', 1.5, '-1', -1, '-2h', '+2h',
                  '0', 0, '0s', 'PT0S', 'h', 'P', 'PT', 'P1DT', 'T2H',
                  '2h30', '30m2h', '1h1h', '1h 30m', '2 h', '2hours', '11000d',
                  '999999999999999', '\u0663h', None, True, False, {},
                  {'a': 'b'}, [[]], [None], '2h\n2h', "2h'; --")

#: hint -> (values that are accepted, values that are not)
VALUES = {
    'gpu_lease': (_GOOD_DURATIONS, _BAD_DURATIONS),
    'gpu_lease_wait': (_GOOD_DURATIONS, _BAD_DURATIONS),
    'gpu_lease_on_expiry': (
        ('shelve', 'delete', ['delete']),
        ('', 'keep', 'Shelve', 'shelve ', 'delete;shelve', None, 1, True,
         {}, [None], [['shelve']])),
    'gpu_lease_priority': (
        ('normal', ['normal']),
        ('', 'high', 'Normal', None, 0, True, {}, [['normal']])),
    'gpu_lease_auto_extend': (
        ('true', 'false', 'True', 'yes', 'off', '1', '0', True, False, 1, 0,
         ['true']),
        ('', 'maybe', 'truely', 2, -1, None, {}, [['true']])),
}

_UNKNOWN = ('gpu_leas\u00e9', 'gpu_leases', 'gpu_lease_', 'gpu_lease:wait',
            'gpu_lease_duration', 'gpu_lease-wait')
_FOREIGN = {'group_x': 'a', 'different_cell': ['c'], 'gpu': '1',
            'GPU_LEASE': '2h', 'leases': 'x'}


def cases():
    """All cases.

    :returns: an iterator of Case.
    """
    for hint, (good, bad) in VALUES.items():
        yield from _of_hint(hint, good, bad)
    for hint in _UNKNOWN:
        if hint.startswith('gpu_lease'):
            yield Case('gpu', {hint: '1h'}, {}, INVALID, hint)
            yield Case('cpu', {hint: '1h'}, {}, INVALID, hint)
    for flavor in ('gpu', 'cpu'):
        yield Case(flavor, _FOREIGN, {}, None, '')
        yield Case(flavor, {}, {}, None, '')
    yield from _limits()
    yield from _flavors()


def _of_hint(hint, good, bad):
    lease = {} if hint == 'gpu_lease' else {'gpu_lease': '2h'}
    for value in good:
        yield Case('gpu', dict(lease, **{hint: value}), {}, None, '')
        yield Case('cpu', {hint: value}, {}, INVALID, hint)
        if lease:
            # Nothing to apply it to, unless there is a default.
            yield Case('gpu', {hint: value}, {}, INVALID, hint)
            yield Case('default', {hint: value}, {}, None, '')
            yield Case('gpu', {hint: value}, {'default_duration': 60},
                       None, '')
    for value in bad:
        yield Case('gpu', dict(lease, **{hint: value}), {}, INVALID, hint)
        yield Case('cpu', {hint: value}, {}, INVALID, hint)
    for values in ([], [good[0], good[0]], [good[0], bad[0]]):
        yield Case('gpu', dict(lease, **{hint: values}), {}, INVALID, hint)
        yield Case('cpu', {hint: values}, {}, INVALID, hint)


def _limits():
    for flavor, options in (('short', {}), ('gpu', {'max_duration': '1h'}),
                            ('short', {'max_duration': '2h'})):
        yield Case(flavor, {'gpu_lease': '1h'}, options, None, '')
        for value in ('61', '3601s', 'PT1H1S', 61):
            yield Case(flavor, {'gpu_lease': value}, options, INVALID, '1h')
    wait = {'gpu_lease': '1h', 'gpu_lease_wait': '2h'}
    yield Case('gpu', wait, {'max_wait': '2h'}, None, '')
    yield Case('gpu', wait, {'max_wait': '7199s'}, INVALID, '1h59m59s')


def _flavors():
    hinted = {'gpu_lease': '1h'}
    yield Case('required', {}, {}, REQUIRED, 'gpu_lease=2h')
    yield Case('required', hinted, {}, None, '')
    yield Case('gpu', {}, {'without_hint': 'refuse'}, REQUIRED, 'gpu_lease')
    yield Case('cpu', {}, {'without_hint': 'refuse'}, None, '')
    yield Case('gpu', {}, {'default_duration': 60}, None, '')
    yield Case('bad_max', hinted, {}, SPEC, 'max_duration')
    yield Case('bad_default', {}, {}, SPEC, 'default_duration')
    yield Case('bad_default', hinted, {}, None, '')
    yield Case('bad_on_expiry', hinted, {}, SPEC, 'on_expiry')
    yield Case('bad_priority', hinted, {}, SPEC, 'priority')
    yield Case('bad_required', {}, {}, SPEC, 'required')
