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

"""How large servers can be so that each fits in one NUMA node.

A server whose CPUs, memory and GPU are on one node is as fast as the host
itself; see the NUMA part of Nova's guide. Pure: counts, no files.
"""

import dataclasses

# CPU cores of each node that stay with the host, and with the emulator
# threads of its servers, if the state file does not say.
DEFAULT_CORES = 2
# MiB of each node that stay with the host, where there are no huge pages.
DEFAULT_MEMORY = 8192
_GIB = 1024


@dataclasses.dataclass(frozen=True)
class Size:
    """One GPU's share of a node; memory in MiB.

    :param most: how many such GPUs the fullest node has
    """

    cpus: int
    memory: int
    most: int
    known_node: bool


@dataclasses.dataclass(frozen=True)
class CPUs:
    """Which CPUs are for pinned servers, and which for all else."""

    dedicated: tuple[int, ...]
    shared: tuple[int, ...]


def split_cpus(machine, state):
    """Divide the CPUs of a host."""
    every = {cpu for node in machine.nodes for cpu in node.cpus}
    if state.isolated_cpus:
        shared = every - set(state.isolated_cpus)
        return CPUs(state.isolated_cpus, tuple(sorted(shared)))
    cores = state.nova.get('reserved_cpus', DEFAULT_CORES)
    shared = set()
    for node in machine.nodes:
        whole = [core for core in machine.siblings
                 if set(core) <= set(node.cpus)]
        # Never all of them: on a small machine one is left for servers.
        for core in whole[:min(cores, len(whole) - 1)]:
            shared.update(core)
    return CPUs(tuple(sorted(every - shared)), tuple(sorted(shared)))


def share(machine, state, selection, cards):
    """What one of some GPUs of the same model gets.

    The smallest share of all nodes counts: a flavor has one size.

    :param cards: the cards of one model
    :returns: Size, or None if nothing is known of the host's nodes
    """
    if not machine.nodes:
        return None
    cpus = split_cpus(machine, state)
    threads = max((len(core) for core in machine.siblings), default=1)
    shares = []
    for node in machine.nodes:
        ours = [card for card in cards if _node(card, machine) == node.number]
        if not ours:
            continue
        everybody = [card for card in selection.cards
                     if _node(card, machine) == node.number]
        here = len(set(node.cpus) & set(cpus.dedicated))
        each = here // len(everybody)
        shares.append((max(each - each % threads, 1),
                       _memory(machine, state, node) // len(everybody)
                       // _GIB * _GIB, len(ours)))
    return Size(min(share[0] for share in shares),
                min(share[1] for share in shares),
                max(share[2] for share in shares),
                all(card.gpu.numa_node is not None for card in cards))


def _node(card, machine):
    """The node of a card; where the firmware does not say, the first."""
    node = card.gpu.numa_node
    return machine.nodes[0].number if node is None else node


def _memory(machine, state, node):
    """MiB of a node for servers."""
    if state.hugepages:
        size, count = state.hugepages
        # The kernel gives every node the same.
        return count // len(machine.nodes) * size // 1024
    reserved = state.nova.get('reserved_memory', DEFAULT_MEMORY)
    return max(node.memory_kib // 1024 - reserved, _GIB)


def sensible_hugepages(machine, state):
    """How many pages of 1 GiB would leave the host what it needs."""
    reserved = state.nova.get('reserved_memory', DEFAULT_MEMORY)
    return sum(max(node.memory_kib // 1024 - reserved, 0) // _GIB
               for node in machine.nodes)
