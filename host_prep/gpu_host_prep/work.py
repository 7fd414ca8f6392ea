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

"""What the command does, step by step: read, compare, change, put back."""

import dataclasses

from gpu_host_prep import checks
from gpu_host_prep import engine
from gpu_host_prep import exceptions
from gpu_host_prep import guard
from gpu_host_prep import journal as journals
from gpu_host_prep import machine
from gpu_host_prep import model
from gpu_host_prep import nova_conf
from gpu_host_prep import runtime
from gpu_host_prep import selection as selections
from gpu_host_prep import state as states
from gpu_host_prep import writers


@dataclasses.dataclass(frozen=True)
class Move:
    """A function that goes back to what it was before us."""

    function: model.Function
    driver: str | None
    override: str | None

    def __str__(self):
        return (f'  {self.function.address}: {self.function.driver or "none"} '
                f'-> {self.driver or "none"}')


def _moves(host, functions):
    """Which functions of a journal have to go back, and why they cannot.

    :param functions: dict of address to the driver and override before us
    :returns: (tuple of Move, list of Refusal)
    """
    moves, refusals = [], []
    for address, before in sorted(functions.items()):
        function = host.functions.get(address)
        if function is None or (
                function.driver == before['driver'] and
                function.driver_override == before['override']):
            continue
        moves.append(Move(function, before['driver'], before['override']))
        refusals += guard.for_release(host, function)
    return tuple(moves), refusals


def _give_back(root, journal, moves):
    """Give functions back; those that fail stay in the journal.

    :returns: list of what went wrong
    """
    lost = []
    for move in moves:
        try:
            runtime.give_back(root, move.function, move.driver,
                              move.override)
        except exceptions.HostPrepError as error:
            lost.append(str(error))
        else:
            del journal.functions[move.function.address]
    return lost


@dataclasses.dataclass(frozen=True)
class Plan:
    """What ``apply`` would do."""

    changes: tuple
    commands: tuple
    bindings: tuple     # of Target
    releases: tuple     # of Move: taken before, and no longer wanted
    refusals: tuple

    @property
    def is_needed(self):
        return bool(self.changes or self.commands or self.bindings or
                    self.releases)

    def text(self):
        parts = [change.diff() for change in self.changes]
        if self.commands:
            parts.append('Commands:\n' + '\n'.join(
                '  ' + ' '.join(command) for command in self.commands))
        if self.bindings or self.releases:
            parts.append('\n'.join((
                'Drivers, now:', *(str(move) for move in self.releases),
                *(f'  {target.address}: {target.function.driver or "none"} '
                  f'-> {target.driver}' for target in self.bindings))))
        return '\n'.join(parts) or 'Nothing to do.'

    def check(self):
        """Stop if anything speaks against it.

        :raises: Refused
        """
        if self.refusals:
            raise exceptions.Refused(self.refusals)


@dataclasses.dataclass(frozen=True)
class Work:
    """A host and what it should be."""

    root: object
    host: model.Host
    state: states.State
    selection: selections.Selection

    @classmethod
    def load(cls, root, path):
        """Read the state file and the host.

        :param path: of the state file, not below the root
        :raises: BadInput if the file cannot be used
        """
        try:
            with open(path, encoding='utf-8') as stream:
                text = stream.read()
        except (OSError, UnicodeError) as error:
            raise exceptions.BadInput(
                f'{path} cannot be read: {error}.') from error
        state = states.load(text, path)
        checks.check_codes(state, path)
        host = machine.read(root)
        return cls(root, host, state,
                   selections.select(host, state, path))

    def deviations(self):
        """Compare.

        :returns: (list of Deviation, list of (Deviation, reason) for those
            that the state accepts)
        """
        return checks.run(checks.Context(self.root, self.host, self.state,
                                         self.selection))

    def plan(self, now=False, files=True):
        """Find what is to be done, and what speaks against it.

        :param now: whether drivers are to be changed without a reboot
        :param files: whether files are to be written
        """
        journal = journals.Journal.load(self.root)
        changes, commands = [], [tuple(each) for each in journal.pending]
        refusals = []
        if files:
            wanted = writers.wanted(self.root, self.state, self.selection)
            changes = engine.changes(self.root, journal, wanted.files)
            commands += wanted.commands(change.path for change in changes)
            if any(change.file is None for change in changes):
                commands += [tuple(each) for each in journal.refresh]
            refusals += guard.for_files(self.selection, self.state)
        bindings, releases = (), ()
        if now:
            bindings = tuple(runtime.needed(self.selection))
            releases, used = _moves(self.host, {
                address: before
                for address, before in journal.functions.items()
                if address not in self.selection.addresses})
            refusals += used + guard.for_runtime(self.selection, self.state)
        return Plan(tuple(changes), tuple(dict.fromkeys(commands)),
                    bindings, releases, tuple(dict.fromkeys(refusals)))

    def apply(self, plan, commands=True):
        """Do what a plan says.

        :param commands: whether to run the commands; else they wait
        """
        journals.prepare(self.root)
        with self.root.lock(journals.LOCK):
            journal = journals.Journal.load(self.root)
            lost = _give_back(self.root, journal, plan.releases)
            if plan.bindings or plan.releases:
                self._bind(journal, plan.bindings)
            if plan.changes or plan.commands:
                wanted = writers.wanted(self.root, self.state,
                                        self.selection)
                engine.apply(self.root, journal, plan.changes,
                             wanted.refresh, commands)
        if lost:
            raise exceptions.HostPrepError(' '.join(lost))

    def _bind(self, journal, targets):
        for target in targets:
            function = target.function
            journal.functions.setdefault(function.address, {
                'driver': function.driver,
                'override': function.driver_override})
        journal.save(self.root)
        runtime.bind(self.root, targets)

    def nova_conf(self, part=None):
        """Print the lines for Nova, see :func:`nova_conf.text`."""
        return nova_conf.text(self.host, self.state, self.selection, part)


@dataclasses.dataclass(frozen=True)
class Restoration:
    """What ``restore`` would do."""

    root: object
    journal: journals.Journal
    changes: tuple
    foreign: tuple
    moves: tuple        # of Move
    refusals: tuple

    @classmethod
    def load(cls, root):
        journal = journals.Journal.load(root)
        changes, foreign = engine.restoration(root, journal)
        moves, refusals = _moves(machine.read(root), journal.functions)
        return cls(root, journal, tuple(changes), tuple(foreign), moves,
                   tuple(refusals))

    @property
    def is_needed(self):
        return not self.journal.is_empty

    def text(self):
        parts = [change.diff() for change in self.changes]
        if self.moves:
            parts.append('\n'.join((
                'Drivers, now:', *(str(move) for move in self.moves))))
        if self.is_needed:
            return '\n'.join(parts) or 'Only the journal is left.'
        return 'Nothing to put back.'

    def check(self, force):
        """Stop if a guest has a card, or others' changes would be lost."""
        if self.refusals:
            raise exceptions.Refused(self.refusals)
        if not force:
            engine.check_foreign(self.foreign)

    def restore(self, commands=True):
        """Put everything back.

        :param commands: whether to run the commands; else they wait
        :raises: HostPrepError if something could not be; what could, is
        """
        journals.prepare(self.root)
        with self.root.lock(journals.LOCK):
            lost = _give_back(self.root, self.journal, self.moves)
            if not lost:
                self.journal.functions = {}
            engine.restore(self.root, self.journal, self.changes, commands)
            if lost or self.journal.pending:
                self.journal.save(self.root)
            else:
                self.journal.forget(self.root)
        if lost:
            raise exceptions.HostPrepError(
                ' '.join(lost) + ' The files are as before: the next boot '
                'gives the functions to their drivers.')
