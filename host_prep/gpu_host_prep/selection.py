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

"""Which functions of a host a desired state takes, and for which driver."""

import dataclasses

from gpu_host_prep import catalog
from gpu_host_prep import exceptions
from gpu_host_prep import model


@dataclasses.dataclass(frozen=True)
class Target:
    """One function that is to be held for guests."""

    function: model.Function
    driver: str
    card: model.Card

    @property
    def address(self):
        return self.function.address

    @property
    def module(self):
        return self.driver.replace('-', '_')


@dataclasses.dataclass(frozen=True)
class Selection:
    """What a state means on one host."""

    host: model.Host
    cards: tuple[model.Card, ...]
    targets: tuple[Target, ...]

    @property
    def addresses(self):
        return tuple(target.address for target in self.targets)

    @property
    def drivers(self):
        """Modules of the drivers that hold the targets."""
        return tuple(dict.fromkeys(target.module for target in self.targets))


def select(host, state, name):
    """Find the cards that a state names.

    :param name: what messages call the state's file
    :raises: BadInput if a card is not there, or fewer than asked for
    """
    kept = {card for choice in state.keep
            for card in _matching(host, choice, name)}
    cards, targets = [], {}
    for choice in state.cards:
        found = [card for card in _matching(host, choice, name)
                 if card not in kept]
        if choice.count is not None and len(found) != choice.count:
            raise exceptions.BadInput(
                f'{name}:{choice.line}: {choice} should be {choice.count} '
                f'cards, but {len(found)} are there: '
                f'{", ".join(card.address for card in found) or "none"}.')
        if not found:
            raise exceptions.BadInput(
                f'{name}:{choice.line}: every card with {choice} is under '
                '"keep"; take it out of one of the two.')
        for card in found:
            if card in cards:
                raise exceptions.BadInput(
                    f'{name}:{choice.line}: {choice} names {card.address}, '
                    'which another entry names already.')
            cards.append(card)
            for function in _functions(host, card, choice):
                targets[function.address] = Target(
                    function, choice.driver or catalog.driver(
                        function, host.machine.known_modules), card)
    cards.sort(key=lambda card: card.address)
    return Selection(host, tuple(cards), tuple(
        targets[address] for address in sorted(targets)))


def _matching(host, choice, name):
    found = [card for card in host.cards if _matches(card, choice) and
             card.address not in choice.exclude]
    if not found:
        there = ', '.join(f'{card.address} {card.gpu.name or card.gpu.id}'
                          for card in host.cards) or 'no GPU at all'
        raise exceptions.BadInput(
            f'{name}:{choice.line}: this host has no card with {choice}; it '
            f'has {there}.')
    return found


def _matches(card, choice):
    if choice.address is not None:
        return choice.address in card.addresses
    if choice.id is not None:
        # Virtual functions have ids of their own.
        return card.gpu.id == choice.id
    return choice.model.lower() in card.gpu.name.lower()


def _functions(host, card, choice):
    if choice.functions == 'all':
        return card.functions
    if choice.functions == 'group':
        return (*card.functions, *host.group_others(card))
    return [function for function in card.functions
            if function.kind in choice.functions]
