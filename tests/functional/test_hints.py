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

"""Every rule of the hint grammar against every hint, through the API.

The table is made from what the documentation says, not from the code.
"""

import itertools

from tests.functional import base

HINTS = ('gpu_lease', 'gpu_lease_on_expiry', 'gpu_lease_wait',
         'gpu_lease_priority', 'gpu_lease_auto_extend')
DURATIONS = ('gpu_lease', 'gpu_lease_wait')

#: {hint: values that are accepted}
GOOD = {
    'gpu_lease': ('90s', '30m', '2h', '1d12h', 'PT2H', 'P1DT12H', '45', 45,
                  '2H', '87600h'),
    'gpu_lease_wait': ('90s', '30m', '2h', '1d12h', 'PT2H', 'P1DT12H', '45',
                       45, '2H'),
    'gpu_lease_on_expiry': ('shelve', 'delete'),
    'gpu_lease_priority': ('normal',),
    'gpu_lease_auto_extend': ('true', 'false', 'True', 'False', '1', '0',
                              'yes', 'no', True, False),
}
#: Rules that hold for each hint: {rule: values}.
BAD_FOR_ALL = {
    'empty': ('',),
    'no such form': ('soon', '1x', '2h30', '1h-30m', '1.5h', '1 h 2', '٣h'),
    'negative': ('-1', '-1h', 'PT-1H', -1),
    'repeated': (['1h', '2h'], ['shelve', 'delete'], ['true', 'true'],
                 ['normal', 'normal'], []),
    'other type': ({'a': 'b'},),
}
#: Rules for durations only.
BAD_DURATIONS = {
    'zero': ('0', '0s', '0h', 'PT0S', 'P0D', 0),
    'above ten years': ('87601h', '999999999999d'),
    'ISO without a number': ('P', 'PT', 'PT1'),
    'other type': (True, 1.5),
}
BAD_CHOICES = {
    'gpu_lease_on_expiry': ('stop', 'SHELVE', 'shelve,delete', True),
    'gpu_lease_priority': ('high', 'NORMAL', 1),
    'gpu_lease_auto_extend': ('maybe', '2h', 2),
}
#: A part of the message that says what is accepted.
ACCEPTED = {
    'gpu_lease': ('90s', 'ten years', 'once'),
    'gpu_lease_wait': ('90s', 'ten years', 'once'),
    'gpu_lease_on_expiry': ('shelve or delete', 'once'),
    'gpu_lease_priority': ('normal', 'once'),
    'gpu_lease_auto_extend': ('true or false', 'once'),
}


def bad_values(hint):
    rules = [BAD_FOR_ALL]
    if hint in DURATIONS:
        rules.append(BAD_DURATIONS)
    else:
        rules.append({'choice': BAD_CHOICES[hint]})
    for rule in rules:
        yield from itertools.chain.from_iterable(rule.values())


class HintsTest(base.CloudTestCase):
    """No GPU is needed: all that counts is the answer."""

    GPUS = {'host1': {'gpu': 1}}

    def setUp(self):
        super().setUp()
        # The servers that are accepted stay in the queue, and are not looked
        # at.
        self.flags(max_waiting_per_project=-1, group='gpu_lease')
        self.admin_api.put_service(
            self.admin_api.get_services(binary='nova-compute')[0]['id'],
            {'status': 'disabled'})

    def post(self, hints, flavor=None):
        """The status and the error of a request with these hints."""
        answer = self.api.api_post(
            '/servers', self.body('one', hints, flavor),
            check_response_status=None)
        if answer.status == 202:
            return 202, None
        error, = answer.body.values()
        return answer.status, error

    def assert_refused(self, hints, hint, value, accepted, flavor=None):
        status, error = self.post(hints, flavor)
        what = '%s with %r and flavor %s: %s' % (hint, value, flavor, error)
        self.assertEqual(400, status, what)
        self.assertEqual(400, error['code'])
        self.assertTrue(error['gpu_lease_code'].startswith('gpu_lease.'))
        self.assertIn(hint, error['message'], what)
        shown = value if not isinstance(value, list) else ', '.join(value)
        self.assertIn(str(shown), error['message'], what)
        self.assertTrue(any(part in error['message'] for part in accepted),
                        what)

    @staticmethod
    def with_lease(hint, value):
        return dict({'gpu_lease': '1h'}, **{hint: value})

    def test_good_values_are_accepted(self):
        for hint in HINTS:
            for value in GOOD[hint]:
                for given in (value, [value]):
                    self.assertEqual(
                        (202, None),
                        self.post(self.with_lease(hint, given)),
                        '%s=%r' % (hint, given))

    def test_bad_values_are_refused(self):
        before = len(self.api.get_servers(False))
        for hint in HINTS:
            for value in bad_values(hint):
                self.assert_refused(self.with_lease(hint, value), hint,
                                    value, ACCEPTED[hint])
        self.assertEqual(before, len(self.api.get_servers(False)))

    def test_every_hint_is_refused_without_gpu(self):
        cpu = self.flavor('')
        for hint in HINTS:
            for value in GOOD[hint][:1]:
                self.assert_refused({hint: value}, hint, value,
                                    ['pci_passthrough:alias'], cpu)
        self.assertEqual((202, None), self.post({}, cpu))

    def test_every_hint_is_refused_on_a_device_that_is_no_gpu(self):
        self.flags(aliases=['h200'], group='gpu_lease')
        for hint in HINTS:
            self.assert_refused({hint: GOOD[hint][0]}, hint, GOOD[hint][0],
                                ['pci_passthrough:alias'])

    def test_every_hint_is_refused_without_lease(self):
        for hint in HINTS[1:]:
            self.assert_refused({hint: GOOD[hint][0]}, hint, GOOD[hint][0],
                                ['gpu_lease=2h'])
        self.flags(default_duration='1h', group='gpu_lease')
        for hint in HINTS[1:]:
            self.assertEqual((202, None), self.post({hint: GOOD[hint][0]}))

    def test_unknown_hint_is_refused(self):
        for hint in ('gpu_lease_', 'gpu_leases', 'gpu_lease_for',
                     'gpu_lease_on_expire', 'gpu_lease_Wait'):
            for flavor in (None, self.flavor('')):
                self.assert_refused({'gpu_lease': '1h', hint: '1h'}, hint,
                                    '1h', HINTS, flavor)
        # Somebody else's.
        self.assertEqual((202, None), self.post({'gpu': '1', 'lease': 'x'}))

    def test_longest_lease_is_the_smaller_of_flavor_and_option(self):
        flavor = self.flavor(gpu_lease__max_duration='2h')
        for option, limit, flavor_id in (
                ('3h', '2h', flavor), ('1h', '1h', flavor),
                (None, '2h', flavor), ('3h', '3h', None)):
            self.flags(max_duration=option, group='gpu_lease')
            self.assertEqual(
                (202, None), self.post({'gpu_lease': limit}, flavor_id))
            self.assert_refused({'gpu_lease': limit + '1s'}, 'gpu_lease',
                                limit + '1s', [limit], flavor_id)

    def test_longest_wait(self):
        self.flags(max_wait='1h', group='gpu_lease')
        self.assertEqual((202, None), self.post(
            {'gpu_lease': '2h', 'gpu_lease_wait': '1h'}))
        self.assert_refused({'gpu_lease': '2h', 'gpu_lease_wait': '61m'},
                            'gpu_lease_wait', '61m', ['1h'])

    def test_lease_can_be_required(self):
        required = self.flavor(gpu_lease__required='true')
        for flavor, option in ((required, 'default'), (None, 'refuse'),
                               (required, 'refuse')):
            self.flags(without_hint=option, group='gpu_lease')
            status, error = self.post({}, flavor)
            self.assertEqual(400, status)
            self.assertIn('gpu_lease=2h', error['message'])
            self.assertEqual('gpu_lease.hint.required',
                             error['gpu_lease_code'])
            self.assertEqual((202, None),
                             self.post({'gpu_lease': '1h'}, flavor))
        self.assertEqual((202, None), self.post({}, self.flavor('')))

    def test_precedence_is_hint_then_flavor_then_option(self):
        self.flags(default_duration='1h', on_expiry='delete',
                   group='gpu_lease')
        flavor = self.flavor(gpu_lease__default_duration='2h',
                             gpu_lease__on_expiry='shelve')
        for flavor_id, hints, seconds, on_expiry in (
                (None, {}, 3600, 'delete'),
                (flavor, {}, 7200, 'shelve'),
                (flavor, {'gpu_lease': '3h',
                          'gpu_lease_on_expiry': 'delete'}, 10800, 'delete'),
                (None, {'gpu_lease': '3h',
                        'gpu_lease_on_expiry': 'shelve'}, 10800, 'shelve')):
            server = self.create('one', hints, flavor_id)
            lease = self.wait_for_lease(server, 'QUEUED')
            self.assertEqual((seconds, on_expiry),
                             (lease['duration'], lease['on_expiry']))

    def test_other_key_of_hints(self):
        body = self.body('one', {'gpu_lease': 'soon'})
        body['OS-SCH-HNT:scheduler_hints'] = body.pop('os:scheduler_hints')
        answer = self.api.api_post('/servers', body,
                                   check_response_status=None)
        self.assertEqual(400, answer.status)

    def test_hints_that_are_no_object_are_refused_by_nova(self):
        for hints in ('gpu_lease', 1, ['gpu_lease']):
            status, error = self.post(hints)
            self.assertEqual(400, status)
            self.assertNotIn('gpu_lease_code', error)

    def test_undefined_alias_is_refused_by_nova(self):
        flavor = self.flavor('tpu:1')
        status, error = self.post({'gpu_lease': '1h'}, flavor)
        self.assertEqual(400, status)
        self.assertIn('tpu', error['message'])
        self.assertNotIn('gpu_lease_code', error)

    def test_password_needs_a_key(self):
        for values in ({'adminPass': 'secret'},):
            answer = self.api.api_post(
                '/servers', self.body('one', {'gpu_lease': '1h'}, **values),
                check_response_status=None)
            self.assertEqual(400, answer.status)
            self.assertEqual('gpu_lease.no_encryption_key',
                             answer.body['badRequest']['gpu_lease_code'])

    def test_waiting_servers_of_a_project_are_limited(self):
        self.flags(max_waiting_per_project=2, group='gpu_lease')
        gang = self.create_gang('gang', 2)
        self.wait_for_lease(gang[1], 'QUEUED')
        status, error = self.post({'gpu_lease': '1h'})
        self.assertEqual(403, status)
        self.assertEqual('gpu_lease.too_many_waiting',
                         error['gpu_lease_code'])
        self.api.delete_server(gang[0])
        self.wait_for_lease(gang[0], 'CANCELLED')
        self.assertEqual((202, None), self.post({'gpu_lease': '1h'}))
