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


"""The terms of a lease: every rule of the grammar against every hint.

The table is generated: each hint, with each value that it accepts and each
that it refuses, in each form that Nova may hand it over in, on each kind of
flavor.
"""

import testscenarios

from nova_gpu_lease import conf
from nova_gpu_lease import exception
from nova_gpu_lease import terms
from tests import base

load_tests = testscenarios.load_tests_apply_scenarios

GPU = {'pci_passthrough:alias': 'gpu:1'}

_DURATIONS = {'90s': 90, '30m': 1800, '2h': 7200, '1d12h': 129600,
              'PT2H': 7200, '60': 3600, 60: 3600}
_NO_DURATIONS = {
    'bad grammar': ['2x', '1h 30m', '1.5h', 'forever', '', 'P', 1.5, None,
                    True, {'a': 1}],
    'zero': ['0', '0s', 'PT0S', 0], 'negative': ['-1', '-2h', -1],
    'too long': ['99999d']}
_BOOLEANS = {'true': True, 'True': True, '1': True, 'yes': True, True: True,
             'false': False, 'no': False, '0': False}
_NO_BOOLEANS = {'bad grammar': ['perhaps', '', '2', None, {'a': 1}, 2]}


def _no_choices(*near):
    return {'bad grammar': ['', 'x', None, 1, True, {'a': 1}, *near]}


#: For each hint: the field of Terms that it sets, {accepted: meaning},
#: {rule: [refused]}, and a text that says what is accepted.
HINTS = {
    'gpu_lease': ('duration', _DURATIONS, _NO_DURATIONS, 'use '),
    'gpu_lease_wait': ('wait', _DURATIONS, _NO_DURATIONS, 'use '),
    'gpu_lease_on_expiry': (
        'on_expiry', {'shelve': 'shelve', 'delete': 'delete'},
        _no_choices('Shelve', 'shelve,delete', ' delete', 'keep'),
        'use shelve or delete.'),
    'gpu_lease_priority': (
        'priority', {'normal': 'normal'},
        _no_choices('Normal', 'high', '0'), 'use normal.'),
    'gpu_lease_auto_extend': (
        'auto_extend', _BOOLEANS, _NO_BOOLEANS, 'use true or false.'),
}

#: A scheduler hint arrives as it is, or in a list as Nova stores it.
FORMS = {'plain': lambda value: value, 'list': lambda value: [value]}


def _with(hint, value):
    """Hints of a server with a lease of an hour."""
    return {'gpu_lease': '1h', hint: value}


def _accepted():
    for hint, (field, accepted, _, _) in HINTS.items():
        for value, meaning in accepted.items():
            for form, wrap in FORMS.items():
                yield ('%s=%r %s' % (hint, value, form), {
                    'hints': _with(hint, wrap(value)), 'field': field,
                    'expected': meaning})


def _refused():
    for hint, (_, accepted, refused, says) in HINTS.items():
        for rule, values in refused.items():
            for value in values:
                for form, wrap in FORMS.items():
                    yield ('%s=%r %s: %s' % (hint, value, form, rule), {
                        'hints': _with(hint, wrap(value)), 'hint': hint,
                        'value': value, 'says': says})
        good = list(accepted)[0]
        for name, value in (('repeated', [good, good]),
                            ('repeated, different', [good, 'x']),
                            ('no value', [])):
            yield ('%s %s' % (hint, name), {
                'hints': _with(hint, value), 'hint': hint,
                'value': ', '.join(str(each) for each in value),
                'says': 'exactly once'})
        for unknown in (hint + 's', hint + '_', hint + 'x_wait',
                        hint.replace('gpu_lease', 'gpu_leases')):
            yield ('unknown %s for %s' % (unknown, hint), {
                'hints': _with(unknown, good), 'hint': unknown,
                'value': good, 'says': ', '.join(terms.HINTS)})
        for value in (good, 'x'):
            yield ('%s=%s without a GPU' % (hint, value), {
                'hints': {hint: value}, 'hint': hint, 'value': value,
                'extra_specs': {'hw:cpu_policy': 'shared'},
                'says': 'the flavor has no GPU'})
            yield ('%s=%s another device' % (hint, value), {
                'hints': {hint: value}, 'hint': hint, 'value': value,
                'extra_specs': {'pci_passthrough:alias': 'nic:1'},
                'options': {'aliases': ['gpu']},
                'says': 'the flavor has no GPU'})
        if hint != 'gpu_lease':
            yield ('%s without a lease' % hint, {
                'hints': {hint: good}, 'hint': hint, 'value': good,
                'says': 'gpu_lease=2h'})
    for hint, option in (('gpu_lease', 'max_duration'),
                         ('gpu_lease_wait', 'max_wait')):
        for value in ('3601s', '61', 'PT61M', '2h'):
            yield ('%s=%s above %s' % (hint, value, option), {
                'hints': _with(hint, value), 'hint': hint, 'value': value,
                'options': {option: '1h'}, 'says': ' is 1h.'})
    yield ('gpu_lease above the flavor', {
        'hints': {'gpu_lease': '61m'}, 'hint': 'gpu_lease', 'value': '61m',
        'extra_specs': {**GPU, 'gpu_lease:max_duration': '1h'},
        'says': ' is 1h.'})


class _TestCase(base.TestCase):

    extra_specs = GPU
    options = {}

    def setUp(self):
        super().setUp()
        self.flags(**self.options)

    def resolve(self, hints=None, extra_specs=None, **options):
        self.flags(**options)
        return terms.resolve(
            hints, self.extra_specs if extra_specs is None else extra_specs,
            conf.CONF.gpu_lease)


class AcceptedTest(_TestCase):

    scenarios = list(_accepted())

    def test_resolve(self):
        result = self.resolve(self.hints)
        self.assertEqual(self.expected, getattr(result, self.field))
        self.assertIs(type(self.expected), type(getattr(result, self.field)))
        # The other hints are as if the hint were not there.
        self.assertEqual(
            {'devices': {'gpu': 1}, 'duration': 3600, 'max_duration': None,
             'on_expiry': 'shelve', 'wait': None, 'priority': 'normal',
             'auto_extend': False, self.field: self.expected}, vars(result))

    def test_resolve_among_others(self):
        """Hints of others are not our business."""
        self.assertEqual(
            self.resolve(self.hints),
            self.resolve({'group': 'x', 'gpu': ['a', 'b'], 'GPU_LEASE': 1,
                          **self.hints}))


class RefusedTest(_TestCase):

    scenarios = list(_refused())

    def test_resolve(self):
        error = self.assertRaises(exception.InvalidHint, self.resolve,
                                  self.hints)
        text = str(error)
        self.assertIn("%s='%s'" % (self.hint, self.value), text)
        self.assertIn(self.says, text)
        self.assertEqual('gpu_lease.hint.invalid', error.code)


class ExtraSpecTest(_TestCase):
    """Flavors with gpu_lease:* extra specs that cannot be used."""

    scenarios = [
        ('%s=%s' % (key, value), {'key': key, 'value': value})
        for key, values in (
            ('gpu_lease:default_duration', ('x', '0', '-1h', '')),
            ('gpu_lease:max_duration', ('x', '0', '-1h', '')),
            ('gpu_lease:on_expiry', ('x', 'keep', '')),
            ('gpu_lease:priority', ('x', 'high', '')),
            ('gpu_lease:required', ('x', 'perhaps', '')))
        for value in values]

    def test_resolve(self):
        specs = {**GPU, 'gpu_lease:default_duration': '1h',
                 self.key: self.value}
        error = self.assertRaises(exception.InvalidExtraSpec, self.resolve,
                                  {}, specs)
        self.assertIn("%s='%s'" % (self.key, self.value), str(error))
        self.assertIn('use ', str(error))


class PrecedenceTest(_TestCase):
    """Hint, then flavor, then option."""

    def test_duration(self):
        specs = {**GPU, 'gpu_lease:default_duration': '2h'}
        self.assertEqual(3600, self.resolve(
            {}, default_duration='1h').duration)
        self.assertEqual(7200, self.resolve({}, specs).duration)
        self.assertEqual(10800, self.resolve(
            {'gpu_lease': '3h'}, specs).duration)

    def test_max_duration(self):
        for option, spec, expected in (
                (None, None, None), ('1h', None, 3600), (None, '1h', 3600),
                ('1h', '2h', 3600), ('2h', '1h', 3600)):
            specs = dict(GPU)
            if spec:
                specs['gpu_lease:max_duration'] = spec
            self.flags(max_duration=option)
            self.assertEqual(expected, self.resolve(
                {'gpu_lease': '1h'}, specs).max_duration)
            if expected:
                # A default is made shorter, a wish is refused.
                self.assertEqual(expected, self.resolve(
                    {}, {**specs, 'gpu_lease:default_duration': '9h'}
                ).duration)
                self.assertRaises(exception.InvalidHint, self.resolve,
                                  {'gpu_lease': '3601s'}, specs)

    def test_on_expiry(self):
        specs = {**GPU, 'gpu_lease:on_expiry': 'delete'}
        hints = {'gpu_lease': '1h'}
        self.assertEqual('shelve', self.resolve(hints).on_expiry)
        self.assertEqual('delete', self.resolve(hints, specs).on_expiry)
        self.assertEqual('shelve', self.resolve(
            {**hints, 'gpu_lease_on_expiry': 'shelve'}, specs).on_expiry)
        self.assertEqual('delete', self.resolve(
            hints, on_expiry='delete').on_expiry)

    def test_end_when_off(self):
        for option, spec, expected in (
                (None, None, None), ('1h', None, 3600), (None, '2m', 120),
                ('1h', '2m', 120), ('2m', '1h', 3600)):
            self.flags(end_when_off=option)
            specs = {'gpu_lease:end_when_off': spec} if spec else {}
            self.assertEqual(expected, terms.end_when_off(
                specs, conf.CONF.gpu_lease))
        self.assertRaises(exception.InvalidExtraSpec, self.resolve,
                          {'gpu_lease': '1h'},
                          {**GPU, 'gpu_lease:end_when_off': 'never'})

    def test_priority(self):
        self.assertEqual('normal', self.resolve(
            {'gpu_lease': '1h'},
            {**GPU, 'gpu_lease:priority': 'normal'}).priority)

    def test_priority_of_several_classes(self):
        hints, specs = {'gpu_lease': '1h'}, {**GPU,
                                             'gpu_lease:priority': 'spare'}
        self.flags(priorities=['urgent:9', 'normal:0', 'spare:-9'])
        self.assertEqual('normal', self.resolve(hints).priority)
        self.assertEqual('spare', self.resolve(hints, specs).priority)
        self.assertEqual('urgent', self.resolve(
            {**hints, 'gpu_lease_priority': 'urgent'}, specs).priority)
        error = self.assertRaises(
            exception.InvalidHint, self.resolve,
            {**hints, 'gpu_lease_priority': 'vip'})
        self.assertIn("'vip': use urgent or normal or spare.", str(error))
        self.flags(priorities=['urgent:9', 'spare:-9'])
        self.assertEqual('urgent', self.resolve(hints).priority)

    def test_priority_that_is_gone(self):
        """A server of old gets the default, not no lease at all."""
        for hints, specs in (
                ({'gpu_lease': '1h', 'gpu_lease_priority': 'old'}, GPU),
                ({'gpu_lease': '1h'}, {**GPU, 'gpu_lease:priority': 'old'})):
            self.assertEqual('normal', terms.resolve(
                hints, specs, conf.CONF.gpu_lease, strict=False).priority)

    def test_limits_that_are_lower_now(self):
        """The same: it is cut, and not without a lease from then on."""
        hints = {'gpu_lease': '2d', 'gpu_lease_wait': '3h'}
        for limits, specs, found in (
                ({'max_duration': '1d', 'max_wait': '1h'}, {}, (24, 1)),
                ({}, {'gpu_lease:max_duration': '12h'}, (12, 1)),
                ({'max_duration': '9d', 'max_wait': '9h'}, {}, (48, 3))):
            self.flags(**limits)
            self.assertRaises(exception.InvalidHint, self.resolve, hints, {
                **GPU, 'gpu_lease:max_duration': '1h'})
            agreed = terms.resolve(
                hints, {**GPU, **specs}, conf.CONF.gpu_lease, strict=False)
            self.assertEqual(
                tuple(3600 * hours for hours in found),
                (agreed.duration, agreed.wait))

    def test_wait(self):
        hints = {'gpu_lease': '1h'}
        self.assertEqual(7200, self.resolve(hints, max_wait='2h').wait)
        self.assertEqual(3600, self.resolve(
            {**hints, 'gpu_lease_wait': '1h'}).wait)


class WithoutHintTest(_TestCase):

    def test_no_lease(self):
        for hints in (None, {}, {'group': 'x'}):
            self.assertIsNone(self.resolve(hints))

    def test_no_gpu(self):
        self.assertIsNone(self.resolve(
            {'group': 'x'}, {}, default_duration='1h',
            without_hint='refuse'))

    def test_refuse(self):
        self.assertRaises(exception.LeaseRequired, self.resolve, {},
                          default_duration='1h', without_hint='refuse')
        self.assertEqual(60, self.resolve({'gpu_lease': 1}).duration)

    def test_required(self):
        specs = {**GPU, 'gpu_lease:required': 'True',
                 'gpu_lease:default_duration': '1h'}
        error = self.assertRaises(exception.LeaseRequired, self.resolve, {},
                                  specs)
        self.assertIn('gpu_lease=2h', str(error))
        self.assertEqual(60, self.resolve({'gpu_lease': 1}, specs).duration)
        specs['gpu_lease:required'] = 'no'
        self.assertEqual(3600, self.resolve({}, specs).duration)

    def test_other_hints_with_the_default(self):
        self.assertTrue(self.resolve({'gpu_lease_auto_extend': 'true'},
                                     default_duration='1h').auto_extend)


class TableTest(base.TestCase):

    def test_every_hint_is_in_the_table(self):
        self.assertEqual(sorted(terms.HINTS), sorted(HINTS))


class FlavorTest(_TestCase):

    def test_requested_aliases(self):
        for text, expected in (
                ('', {}), ('gpu:1', {'gpu': 1}), ('gpu:2', {'gpu': 2}),
                ('gpu:1,nic:2', {'gpu': 1, 'nic': 2}),
                (' gpu : 1 , nic:1', {'gpu': 1, 'nic': 1}),
                ('gpu:1,gpu:2', {'gpu': 3}), ('gpu:0', {}),
                ('gpu', {}), ('gpu:x', {}), (':1', {}), ('gpu:-1', {})):
            self.assertEqual(expected, terms.requested_aliases(
                {'pci_passthrough:alias': text}), text)
        self.assertEqual({}, terms.requested_aliases({}))

    def test_is_gpu_flavor(self):
        for text, aliases, expected in (
                ('gpu:1', [], True), ('', [], False), ('gpu:0', [], False),
                ('gpu:1', ['gpu'], True), ('nic:1', ['gpu'], False),
                ('nic:1,gpu:1', ['gpu', 'a100'], True)):
            self.flags(aliases=aliases)
            self.assertIs(expected, terms.is_gpu_flavor(
                {'pci_passthrough:alias': text}, conf.CONF.gpu_lease))

    def test_devices(self):
        """A lease is of all devices of the flavor, not of the GPUs alone."""
        self.flags(aliases=['gpu'])
        self.assertEqual({'gpu': 2, 'nic': 1}, self.resolve(
            {'gpu_lease': 1},
            {'pci_passthrough:alias': 'gpu:2,nic:1'}).devices)

    def test_terms_are_frozen(self):
        result = self.resolve({'gpu_lease': 1})
        self.assertRaises(AttributeError, setattr, result, 'duration', 1)
