#!/usr/bin/env python3
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


"""Name the failed tests of a subunit stream on stdin, then count, in one line.

usage: stestr last --subunit | tools/closing_line.py SUITE
"""

import sys

import subunit
import testtools


def reason(details):
    """Return the end of a traceback: what follows its last indented line."""
    lines = details.strip().splitlines()
    starts = [number for number, line in enumerate(lines, 1)
              if line.startswith('  ')]
    return ' '.join(lines[max(starts, default=0):])[:300]


def main():
    summary = testtools.StreamSummary()
    summary.startTestRun()
    subunit.ByteStreamToStreamResult(
        sys.stdin.buffer, non_subunit_name='stdout').run(summary)
    summary.stopTestRun()
    for test, details in summary.errors + summary.failures:
        print('%s: failed: %s: %s' % (
            sys.argv[1], test.id(), reason(details)))
    failed = (len(summary.errors) + len(summary.failures) +
              len(summary.unexpectedSuccesses))
    skipped = len(summary.skipped)
    print('%s: %d passed, %d failed, %d skipped' % (
        sys.argv[1], summary.testsRun - failed - skipped, failed, skipped))


if __name__ == '__main__':
    main()
