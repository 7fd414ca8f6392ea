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


"""The grammar of durations."""

import hypothesis
from hypothesis import strategies
import testscenarios

from nova_gpu_lease import duration
from nova_gpu_lease import exception
from tests import base

load_tests = testscenarios.load_tests_apply_scenarios

ACCEPTED = {
    '1': 60, '90': 5400, '007': 420, ' 5 ': 300, 5: 300,
    '90s': 90, '30m': 1800, '2h': 7200, '1d': 86400, '1w': 604800,
    '1d12h': 129600, '1w2d3h4m5s': 788645, '1h0m1s': 3601, '2H': 7200,
    '1D12h': 129600,
    'PT2H': 7200, 'pt90s': 90, 'P1D': 86400, 'P1W': 604800,
    'P1DT12H': 129600, 'PT1H30M': 5400, 'PT0H1M': 60,
    '3650d': duration.MAX_SECONDS,
}

REFUSED = (
    '', ' ', 'x', 'forever', '2 h', '1h 30m', '2x', 'h', 'h2', '2hh',
    '1h1h', '30m1h', '1.5h', '1,5h', '1e3', '0x10', '-1', '-1h', '+1h', '+5',
    '0', '0s', '0h0m', 'PT0S', 0, -1, -60,
    'P', 'PT', 'P1', 'P1DT', 'PT1', 'P1H', 'PT1D', 'P-1D', 'P1Y', 'P1M',
    'T1H', '1DT1H', 'PT1.5H',
    '3651d', str(duration.MAX_SECONDS // 60 + 1), '9' * 12 + 'w', '9' * 13,
    '9' * 5000,
    # Digits, but not ours; and what looks like white space or a letter.
    '٣h', '２h', '5\x00', '5\nh', '１', 'ſ', '5ſ',
    None, True, False, 1.5, 2.0, [], ['2h'], {}, b'2h',
)


class AcceptedTest(base.TestCase):

    scenarios = [(repr(given), {'given': given, 'expected': expected})
                 for given, expected in ACCEPTED.items()]

    def test_parse(self):
        seconds = duration.parse(self.given)
        self.assertEqual(self.expected, seconds)
        self.assertIs(int, type(seconds))


class RefusedTest(base.TestCase):

    scenarios = [('%d %.20r' % (number, given), {'given': given})
                 for number, given in enumerate(REFUSED)]

    def test_parse(self):
        error = self.assertRaises(exception.InvalidDuration, duration.parse,
                                  self.given)
        self.assertIn(str(self.given), str(error))


class FormatTest(base.TestCase):

    def test_format(self):
        for seconds, expected in (
                (0, '0s'), (1, '1s'), (60, '1m'), (3600, '1h'),
                (129600, '1d12h'), (604800, '7d'), (90061, '1d1h1m1s'),
                (86401, '1d1s')):
            self.assertEqual(expected, duration.format(seconds))

    @hypothesis.settings(deadline=None)
    @hypothesis.given(strategies.integers(1, duration.MAX_SECONDS))
    def test_parse_reads_what_format_writes(self, seconds):
        self.assertEqual(seconds, duration.parse(duration.format(seconds)))

    @hypothesis.settings(deadline=None)
    @hypothesis.given(strategies.text())
    def test_parse_any_text(self, text):
        """Any text gives a usable number of seconds or InvalidDuration."""
        try:
            seconds = duration.parse(text)
        except exception.InvalidDuration:
            return
        self.assertTrue(0 < seconds <= duration.MAX_SECONDS)
