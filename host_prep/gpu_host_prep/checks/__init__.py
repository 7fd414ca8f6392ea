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

"""Compares a host with what it should be, one deviation at a time.

A check is a generator of deviations, registered with the codes that it may
give. The codes are stable: state files name them to accept a deviation, and
programs look for them.
"""

import dataclasses
import importlib

from gpu_host_prep import exceptions
from gpu_host_prep import model
from gpu_host_prep import selection as selections
from gpu_host_prep import state as states


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One thing that is not as it should be.

    :param what: what is wrong, with names and values
    :param why: what it leads to
    :param fix: what to do about it
    """

    code: str
    what: str
    why: str
    fix: str
    address: str | None = None

    def __str__(self):
        where = f'{self.address}: ' if self.address else ''
        return (f'{self.code}: {where}{self.what} Why it matters: {self.why} '
                f'Fix: {self.fix}')

    def report(self):
        """The deviation as plain JSON types."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Context:
    """What a check may look at."""

    root: object
    host: model.Host
    state: states.State
    selection: selections.Selection

    @property
    def machine(self):
        return self.host.machine


# Of (codes, generator), in the order of a host's way to a guest.
_CHECKS = []


def check(*codes):
    """Register a generator of deviations with its codes."""
    def register(function):
        _CHECKS.append((codes, function))
        return function
    return register


def codes():
    """All codes of deviations."""
    _load()
    return tuple(code for several, _function in _CHECKS for code in several)


def run(context):
    """Run all checks.

    :returns: (list of Deviation, list of (Deviation, reason)), the second of
        those that the state file accepts
    """
    _load()
    found, accepted = [], []
    for _codes, function in _CHECKS:
        for deviation in function(context):
            reason = _reason(context.state, deviation)
            if reason is None:
                found.append(deviation)
            else:
                accepted.append((deviation, reason))
    return found, accepted


def check_codes(state, name):
    """Refuse a state file that accepts what is no deviation.

    :raises: BadInput
    """
    known = codes()
    for accepted in state.accept:
        if accepted.code not in known:
            raise exceptions.BadInput(
                f'{name}: {accepted.code!r} under "accept" is no code of a '
                f'deviation; there are {", ".join(known)}.')


def _reason(state, deviation):
    for accepted in state.accept:
        if accepted.code == deviation.code and accepted.address in (
                None, deviation.address):
            return accepted.reason
    return None


def _load():
    """Import the checks, which register themselves.

    They import this module, hence not before they are needed.
    """
    for name in ('platform', 'devices', 'configuration'):
        importlib.import_module(f'gpu_host_prep.checks.{name}')
