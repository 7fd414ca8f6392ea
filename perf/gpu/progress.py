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


"""What a person sees while it measures: a bar, or a line for each round."""

import sys

from rich import console
from rich import progress


class Progress:
    """On the standard error output; a bar only where that is a terminal.

    :param rounds: how many rounds there are at first.
    """

    def __init__(self, rounds):
        self._console = console.Console(file=sys.stderr)
        self._bar = progress.Progress(
            progress.TextColumn('{task.description}'), progress.BarColumn(),
            progress.MofNCompleteColumn(), progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(), console=self._console,
            transient=True, disable=not self._console.is_terminal)
        self._rounds = rounds
        self._task = None

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_exception):
        self._bar.stop()

    def plan(self, cases):
        """The first round knows how many cases there are."""
        if self._task is None:
            self._task = self._bar.add_task('', total=cases * self._rounds)

    def more(self, cases):
        """A further round of some of the cases."""
        if self._task is not None:
            total = self._bar.tasks[0].total
            self._bar.update(self._task, total=total + cases)

    def start(self, name):
        if self._task is not None:
            self._bar.update(self._task, description=name)

    def done(self):
        if self._task is not None:
            self._bar.advance(self._task)

    def line(self, text):
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False,
                            soft_wrap=True)

    def round(self, number, cases, seconds):
        """The end of a round, for who sees no bar."""
        if not self._console.is_terminal:
            self.line('round %d: %d cases in %.1f s' % (
                number + 1, cases, seconds))
