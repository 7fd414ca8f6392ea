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


"""What blocked requests were promised, held against when they started."""


class Promises:
    """Each head's first promise, every later one, and its start."""

    def __init__(self):
        self._first = {}
        self._least = {}
        self._changed = 0
        self._later = 0
        self.heads = 0
        #: Rows that started later than promised: (row, promise, start).
        self.broken = []

    def promised(self, row, start):
        """A plan says that a job starts then at the latest.

        :param start: seconds.
        """
        first = self._first.setdefault(row, start)
        before = self._least.get(row, first)
        if start != before:
            self._changed += 1
            self._later += start > before
        self._least[row] = min(before, start)

    def started(self, row, start):
        """A job starts; the earliest time it was ever told has to hold."""
        if row not in self._first:
            return
        self.heads += 1
        if start > self._least[row]:
            self.broken.append((row, self._least[row], start))

    def figures(self):
        """Counts for the report.

        :returns: heads: jobs that were promised a start; changed: promises
            that differ from the one before; later: those of them that took
            something back; broken: heads that started later than the
            earliest time they were told.
        """
        return {'heads': self.heads, 'changed': self._changed,
                'later': self._later, 'broken': len(self.broken)}
