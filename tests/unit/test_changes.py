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


"""What may be changed about a lease, and what may not."""

import datetime
import types

import testscenarios

from nova_gpu_lease import changes
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import priorities
from nova_gpu_lease import states
from tests import base

load_tests = testscenarios.load_tests_apply_scenarios

NOW = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.timezone.utc)
CLASSES = priorities.parse(['normal:0', 'urgent:9', 'spare:-9:preemptible'])


def lease(state=states.LEASE_ACTIVE, length=7200, extended=0, limit=14400,
          request_state=states.REQUEST_QUEUED, priority='normal'):
    """A lease of two hours that may be four hours long."""
    runs = state == states.LEASE_ACTIVE
    return types.SimpleNamespace(
        uuid='1', state=state, duration=length, max_duration=limit,
        started_at=NOW if runs else None,
        expires_at=NOW + datetime.timedelta(
            seconds=length + extended) if runs else None,
        request=types.SimpleNamespace(
            state=request_state, priority=priority))


class OpenTest(base.TestCase):

    def test_open(self):
        changes.check_open(lease(states.LEASE_QUEUED))
        changes.check_open(lease(states.LEASE_ACTIVE,
                                 request_state=states.REQUEST_PLACED))

    def test_not_open(self):
        for state in set(states.LEASE_STATES) - {
                states.LEASE_QUEUED, states.LEASE_ACTIVE}:
            error = self.assertRaises(exception.NotChangeable,
                                      changes.check_open, lease(state))
            self.assertIn(state, str(error))

    def test_not_open_while_it_starts(self):
        error = self.assertRaises(
            exception.NotChangeable, changes.check_open,
            lease(states.LEASE_QUEUED,
                  request_state=states.REQUEST_DISPATCHING))
        self.assertIn('try again', str(error))


class LongerTest(base.TestCase):

    scenarios = [(name, {'args': args, 'wanted': wanted, 'seconds': seconds})
                 for name, args, wanted, seconds in (
        ('in all', {}, '3h', 10800),
        ('a number is minutes', {}, '121', 7260),
        ('more', {}, '+30m', 9000),
        ('more by minutes', {}, '+30', 9000),
        ('as long as possible', {}, '4h', 14400),
        ('more up to the limit', {}, '+2h', 14400),
        ('no limit', {'limit': None}, '+10d', 871200),
        ('more than it was extended to', {'extended': 600}, '+30m', 9600),
        ('waits', {'state': states.LEASE_QUEUED}, '+30m', 9000),
        ('waits, shorter', {'state': states.LEASE_QUEUED}, '1h', 3600),
    )]

    def test_duration(self):
        one = lease(**self.args)
        expected = {'duration': self.seconds}
        if one.expires_at:
            expected['expires_at'] = NOW + datetime.timedelta(
                seconds=self.seconds)
        self.assertEqual(expected, changes.duration_of(one, self.wanted))


class RefusedTest(base.TestCase):

    scenarios = [(name, {'args': args, 'wanted': wanted, 'says': says})
                 for name, args, wanted, says in (
        ('above the limit', {}, '4h1s', 'longest it may be is 4h'),
        ('more, above the limit', {}, '+3h', 'and it is 2h now'),
        ('as long as it is', {}, '2h', 'it is 2h already'),
        ('shorter', {}, '1h', 'shelve or delete'),
        ('shorter than extended', {'extended': 3600}, '150m',
         'it is 3h already'),
        ('waits, above the limit', {'state': states.LEASE_QUEUED}, '5h',
         'is 4h'),
        ('bad grammar', {}, 'soon', 'use a duration such as'),
        ('empty', {}, '', 'use a duration'),
        ('only a plus', {}, '+', 'use a duration'),
        ('two of them', {}, '++5m', 'use a duration'),
        ('less', {}, '-5m', 'use a duration'),
        ('nothing more', {}, '+0s', 'use '),
        ('huge', {'limit': None}, '+%ds' % duration.MAX_SECONDS,
         'at most 3650d in all'),
    )]

    def test_duration(self):
        error = self.assertRaises(
            exception.LengthRefused, changes.duration_of,
            lease(**self.args), self.wanted)
        self.assertIn("'%s'" % self.wanted, str(error))
        self.assertIn(self.says, str(error))


class PriorityTest(base.TestCase):

    def priority_of(self, before, wanted, state=states.LEASE_QUEUED):
        return changes.priority_of(
            lease(state, priority=before), wanted, CLASSES)

    def test_higher_keeps_its_promise(self):
        self.assertEqual({'priority': 'urgent'},
                         self.priority_of('normal', 'urgent'))
        self.assertEqual({'priority': 'normal'},
                         self.priority_of('gone', 'normal'))

    def test_lower_gives_up_its_promise(self):
        self.assertEqual(
            {'priority': 'spare', 'promise': None, 'promised': False,
             'expected_start': None}, self.priority_of('normal', 'spare'))

    def test_unknown(self):
        error = self.assertRaises(exception.InvalidInput, self.priority_of,
                                  'normal', 'vip')
        self.assertIn("'vip'", str(error))
        self.assertIn('normal or urgent or spare', str(error))

    def test_running(self):
        self.assertRaises(exception.NotWaiting, self.priority_of, 'normal',
                          'urgent', states.LEASE_ACTIVE)
