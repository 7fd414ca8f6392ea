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

"""Running steps that depend on each other, as parallel as they allow."""

import concurrent.futures
import dataclasses
import sys
import time
import typing


@dataclasses.dataclass
class Step:
    """One thing to do after others are done."""

    name: str
    function: typing.Callable
    after: tuple = ()


class Steps:
    """Steps by name; each runs in a thread once what it needs is done."""

    def __init__(self, report=None):
        self.steps = {}
        self.started = time.monotonic()
        self.report = report or self._print

    def add(self, name, function, *after):
        """Add a step.

        :param after: names of steps; those never added count as done
        """
        self.steps[name] = Step(name, function, after)

    def _print(self, name, seconds):
        total = time.monotonic() - self.started
        print(f'{total:6.1f}s  {name} ({seconds:.1f}s)', file=sys.stderr,
              flush=True)

    def run(self, workers=16):
        """Run all steps; the first error stops new ones and is raised."""
        waiting = dict(self.steps)
        running = {}
        finished = set()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            try:
                while waiting or running:
                    for step in self._ready(waiting, finished):
                        del waiting[step.name]
                        running[pool.submit(self._timed, step)] = step.name
                    done, _ = concurrent.futures.wait(
                        running, return_when='FIRST_COMPLETED')
                    for future in done:
                        name = running.pop(future)
                        seconds = future.result()
                        finished.add(name)
                        self.report(name, seconds)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.failed()
                raise

    def _ready(self, waiting, finished):
        ready = [step for step in waiting.values()
                 if all(name in finished or name not in self.steps
                        for name in step.after)]
        if waiting and not ready and not self._busy(waiting, finished):
            raise ValueError(f'steps wait for each other: {list(waiting)}')
        return ready

    def _busy(self, waiting, finished):
        return len(waiting) + len(finished) < len(self.steps)

    def failed(self):
        """Be called after an error, while steps may still be running."""

    @staticmethod
    def _timed(step):
        begin = time.monotonic()
        step.function()
        return time.monotonic() - begin
