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


"""Room for a server on a compute node, devices aside, as Placement counts it.

Pure functions. They answer what Placement's own candidates cannot: whether a
server would fit if others left, or if a node were empty. Where Placement's
rules are not repeated here in full the answer is yes rather than no.
"""

import collections
import dataclasses
import re
from urllib import parse

#: A provider with this trait lends its inventory to its aggregates.
SHARING = 'MISC_SHARES_VIA_AGGREGATE'
#: The trait of a node whose service is disabled.
DISABLED = 'COMPUTE_STATUS_DISABLED'

_GROUP_KEY = re.compile(r'^(resources|required|member_of|in_tree)(.*)$')
_NAMES = {'MEMORY_MB': '%d MB of memory', 'VCPU': '%d vCPUs',
          'PCPU': '%d dedicated CPUs', 'DISK_GB': '%d GB of disk'}


@dataclasses.dataclass
class Group:
    """One request group: what has to come from one place."""

    resources: dict = dataclasses.field(default_factory=dict)
    required: set = dataclasses.field(default_factory=set)
    forbidden: set = dataclasses.field(default_factory=set)
    member_of: list = dataclasses.field(default_factory=list)
    not_member_of: set = dataclasses.field(default_factory=set)
    in_tree: str | None = None


@dataclasses.dataclass
class Query:
    """What one server wants from Placement.

    :ivar groups: {suffix: Group}; the suffix of the main group is ''.
    :ivar required: set of traits of the root provider.
    :ivar forbidden: set of traits that the root provider may not have.
    """

    groups: dict
    required: set
    forbidden: set

    @property
    def amounts(self):
        """{resource class: amount} of the main group."""
        return self.groups[''].resources if '' in self.groups else {}


@dataclasses.dataclass(frozen=True)
class Provider:
    """One resource provider.

    :ivar traits: frozenset of str.
    :ivar resources: {resource class: (capacity, used)}.
    """

    traits: frozenset
    resources: dict


@dataclasses.dataclass(frozen=True)
class Tree:
    """The providers of one compute node.

    :ivar root: uuid of the provider of the node itself.
    :ivar providers: {uuid: Provider}.
    """

    root: str
    providers: dict

    def amounts(self, released=None, empty=False):
        """What can be had of each resource class from one provider.

        :param released: {resource class: amount} that counts as free.
        :param empty: count everything as free.
        :returns: {resource class: amount}
        """
        result = {}
        for provider in self.providers.values():
            for name, (capacity, used) in provider.resources.items():
                free = capacity if empty else min(
                    capacity, capacity - used + (released or {}).get(name, 0))
                result[name] = max(free, result.get(name, free))
        return result


def parse_query(querystring):
    """Read the query of GET /allocation_candidates.

    :param querystring: as Nova sends it.
    :returns: a Query.
    """
    query = Query(collections.defaultdict(Group), set(), set())
    for key, value in parse.parse_qsl(querystring):
        if key == 'root_required':
            query.required, query.forbidden = _traits(value)
            continue
        match = _GROUP_KEY.match(key)
        if not match:
            continue
        kind, suffix = match.groups()
        group = query.groups[suffix]
        if kind == 'resources':
            for item in value.split(','):
                name, _, amount = item.partition(':')
                group.resources[name] = int(amount)
        elif kind == 'required':
            group.required, group.forbidden = _traits(value)
        elif kind == 'in_tree':
            group.in_tree = value
        elif value.startswith('!'):
            group.not_member_of.update(_aggregates(value[1:]))
        else:
            group.member_of.append(_aggregates(value))
    query.groups = dict(query.groups)
    return query


def _traits(value):
    names = value.split(',')
    return ({name for name in names if not name.startswith('!')},
            {name[1:] for name in names if name.startswith('!')})


def _aggregates(value):
    return set(value.removeprefix('in:').split(','))


def parse_summaries(summaries):
    """Read the provider summaries of GET /allocation_candidates.

    :returns: a tuple of {root uuid: Tree} and the set of resource classes
        that sharing providers offer.
    """
    trees = collections.defaultdict(dict)
    shared = set()
    for uuid, summary in summaries.items():
        provider = Provider(
            frozenset(summary['traits']),
            {name: (amounts['capacity'], amounts['used'])
             for name, amounts in summary['resources'].items()})
        if SHARING in provider.traits:
            shared.update(provider.resources)
        trees[summary['root_provider_uuid']][uuid] = provider
    return {root: Tree(root, providers)
            for root, providers in trees.items()}, shared


def suits(query, tree, aggregates, ignore_disabled=False):
    """Why a node can never serve a query, its amounts aside.

    :param query: a Query.
    :param tree: a Tree.
    :param aggregates: set of uuids of the aggregates that the node is in.
    :param ignore_disabled: whether it may be disabled.
    :returns: None if nothing speaks against it, else a reason for the user.
    """
    root = tree.providers[tree.root].traits
    everything = frozenset().union(
        *(provider.traits for provider in tree.providers.values()))
    forbidden = query.forbidden - {DISABLED} if ignore_disabled else (
        query.forbidden)
    if forbidden & root:
        return 'the hosts are disabled' if forbidden & root == {
            DISABLED} else 'the hosts have traits that are forbidden'
    missing = query.required - root
    for suffix, group in query.groups.items():
        missing |= group.required - everything
        if suffix == '' and group.forbidden & root:
            return 'the hosts have traits that are forbidden'
        if group.in_tree and group.in_tree != tree.root:
            return 'another host was asked for'
        if any(not wanted & aggregates for wanted in group.member_of) or (
                group.not_member_of & aggregates):
            return 'no such host is in the zone or aggregate asked for'
    if missing:
        return 'no such host has the traits %s' % ', '.join(sorted(missing))
    return None


def slots(query, tree, shared, room, largest=None):
    """How many servers have room on a node.

    :param query: a Query.
    :param tree: a Tree.
    :param shared: set of resource classes that may come from elsewhere.
    :param room: {resource class: amount} that counts as free on the node.
    :param largest: {resource class: most that one server may have}.
    :returns: a tuple of the number and, if that is 0, what is missing, for
        the user.
    """
    count = None
    for name, amount in sorted(query.amounts.items()):
        if not amount or (name not in room and name in shared):
            continue
        free = room.get(name, 0)
        if largest is not None and largest.get(name, amount) < amount:
            free = 0
        if free < amount:
            return 0, _NAMES.get(name, '%%d of %s' % name) % amount
        count = min(free // amount, free if count is None else count)
    for suffix, group in query.groups.items():
        if suffix and not _granular(group, tree, shared):
            return 0, ', '.join('%d of %s' % (amount, name) for name, amount
                                in sorted(group.resources.items()))
    # Nothing to count: a server of no size.
    return (1000 if count is None else count), None


def _granular(group, tree, shared):
    """Whether some provider has the capacity for a group of its own."""
    if group.resources.keys() <= shared:
        return True
    return any(
        group.required <= provider.traits and
        not group.forbidden & provider.traits and
        all(provider.resources.get(name, (0, 0))[0] >= amount
            for name, amount in group.resources.items())
        for provider in tree.providers.values())
