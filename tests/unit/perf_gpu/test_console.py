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


"""A result through a console log and back."""

import random

from oslotest import base

from perf.gpu import console
from perf.gpu import errors

TEXT = '{"numbers": [%s]}' % ', '.join(
    str(random.Random(number).random()) for number in range(1200))


class ConsoleTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.lines = console.lines(TEXT)

    def test_lines_are_short_and_come_twice(self):
        self.assertEqual(self.lines[:len(self.lines) // 2],
                         self.lines[len(self.lines) // 2:])
        self.assertLess(max(map(len, self.lines)), 240)

    def test_result_that_fits_only_once_comes_once(self):
        text = ''.join(str(random.Random(number).random())
                       for number in range(6000))
        lines = console.lines(text)
        self.assertEqual(len(lines), len(set(lines)))
        self.assertLess(console.size(lines), console.ROOM)
        self.assertGreater(2 * console.size(lines), console.ROOM)
        self.assertEqual(text, console.extract('\n'.join(lines)))

    def test_log_with_other_lines_and_prefixes(self):
        log = ['Debian GNU/Linux 12 guest ttyS0', '']
        for number, line in enumerate(self.lines):
            log.append('[  %d.5] cloud-init[812]: %s\r' % (number, line))
            if number % 3 == 0:
                log.append('[  %d.6] usb 1-1: new device' % number)
        self.assertEqual(TEXT, console.extract('\n'.join(log)))

    def test_log_cut_at_its_start(self):
        half = len(self.lines) // 2
        cut = '\n'.join(self.lines[half // 3:])[40:]
        self.assertEqual(TEXT, console.extract(cut))

    def test_copies_fill_each_others_gaps(self):
        log = list(self.lines)
        half = len(log) // 2
        # The kernel wrote into the middle of one line, of each copy another.
        log[3] = log[3][:60] + '[ 7.1] oops' + log[3][60:]
        log[half + 5] = log[half + 5][:50]
        self.assertEqual(TEXT, console.extract('\n'.join(log)))

    def test_last_of_several_results(self):
        log = self.lines + console.lines('{"later": 1}')
        self.assertEqual('{"later": 1}', console.extract('\n'.join(log)))

    def test_missing_lines_are_counted(self):
        half = len(self.lines) // 2
        log = [line for number, line in enumerate(self.lines)
               if number % half != 4]
        error = self.assertRaises(errors.PerfError, console.extract,
                                  '\n'.join(log))
        self.assertIn('%d of the %d lines' % (half - 1, half), str(error))

    def test_log_without_a_result(self):
        error = self.assertRaises(errors.PerfError, console.extract,
                                  'login: \n')
        self.assertIn('no line of a result', str(error))
