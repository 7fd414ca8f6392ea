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


"""One trace under several policies, with its figures."""

import time

from perf.gpu import errors
from perf.gpu import progress
from perf.replay import fill
from perf.replay import loop
from perf.replay import metrics
from perf.replay import report
from perf.replay import trace


class Session:
    """Policies as peers on the same jobs and hosts.

    :param path: of the trace.
    :param jobs: list of Job.
    :param hosts: list of Host.
    :param policies: {name: Policy}.
    :param how: ``early-end``, ``held`` or ``fill``.
    """

    def __init__(self, path, jobs, hosts, policies, how):
        self.jobs = jobs
        #: {policy: loop.Replay}; empty for a filling.
        self.replays = {}
        self._path = path
        self._hosts = hosts
        self._policies = policies
        self._how = how
        self._fills = {}
        self._seconds = {}
        self._expected = {}

    def compare_with(self, column):
        """Count the starts that are those of a column of the trace."""
        if self._how == 'fill':
            raise errors.PerfError('A filling has no starts to compare.')
        try:
            self._expected = {column: {
                number: int(row[column]) for number, row
                in enumerate(trace.read(self._path, column))}}
        except ValueError as error:
            raise errors.PerfError("'%s' of %s holds no starts: %s" % (
                column, self._path, error))

    def run(self, after=lambda: None):
        """Replay all; a bar on the standard error output shows how far.

        :param after: called after each policy.
        """
        with progress.Progress(len(self._policies)) as shown:
            shown.plan(len(self.jobs))
            for name, policy in self._policies.items():
                shown.start(name)
                begin = time.monotonic()
                if self._how == 'fill':
                    self._fills[name] = fill.fill(
                        self.jobs, self._hosts, policy, shown.done)
                else:
                    self.replays[name] = loop.replay(
                        self.jobs, self._hosts, policy, self._how == 'held',
                        shown.done)
                self._seconds[name] = round(time.monotonic() - begin, 1)
                shown.line('%s: %.1f s' % (name, self._seconds[name]))
                after()

    def _figures(self, name):
        found = (fill.figures(self._fills[name]) if self._how == 'fill'
                 else metrics.figures(self.replays[name]))
        if self._expected:
            found['compared'] = [
                metrics.compare(self.replays[name], column, starts)
                for column, starts in self._expected.items()]
        return {**found, 'replay_took_s': self._seconds[name]}

    def figures(self):
        """What the result file says besides where it comes from."""
        found = {'jobs': len(self.jobs),
                 'gpus': sum(host.gpus for host in self._hosts),
                 'policies': {name: self._figures(name)
                              for name in self._seconds}}
        for replay in self.replays.values():
            found['left_out_rows'] = replay.left_out
        return found

    def table(self):
        """The figures for a person."""
        found = {name: self._figures(name) for name in self._seconds}
        if self._how == 'fill':
            return report.fill_table(found)
        text = report.waits_table(found)
        left_out = next(iter(self.replays.values())).left_out
        if left_out:
            text += '\n\n%d jobs fit on no hosts and were left out' % len(
                left_out)
        return text

    def draw(self, folder):
        """PNG pictures."""
        # Drawing takes a second to import.
        from perf.replay import plots
        if self._how == 'fill':
            plots.draw_fill(self._fills, folder)
        else:
            plots.draw(self.replays, folder)

    def broken(self):
        """Whether a head started later than it was promised."""
        return any(replay.promises.broken for replay in self.replays.values())
