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

"""Which of the nodes where a request could start is best for it.

The one place that decides it: the planner, GPULeaseWeigher and the replay
all sort by these keys. What a node can be is decided elsewhere; only nodes
that pass are compared here.

A key is made from five small facts, none of which needs a look at another
node, so a caller computes them once per node (or keeps them with it) and
takes ``min`` or ``sorted``::

    order = score.ORDERS[name]
    wanted = score.era(now + duration)              # once per request
    best = min(candidates, key=lambda node: order(
        node is planned,
        score.left(node.pools, request.devices),
        score.apart(wanted, node.era),              # kept with the node
        score.rarest(node.pools, request.devices, scarcity),
        node.number))

``node.era`` is ``score.drained(ends of the other leases there)`` and changes
only when a lease of the node begins, ends or is extended. Eras are absolute,
so they need no update as time goes by. ``scarcity`` is made once per plan.
Nodes with the same pools, era and free devices differ in ``number`` alone:
whoever has many nodes compares one of each such group.
"""

import collections

#: Leases that end within so many seconds of each other end at about the same
#: time. Shorter gaps are of no use: most leases are 15 minutes or longer, and
#: between two of them come a shelve with its snapshot and a build. Longer
#: ones would call all of a day's leases alike.
ABOUT = 3600
#: The era of a lease without an end.
NEVER = -1
#: The era of a node that nobody uses.
UNUSED = -2
#: How far the end of a lease is from one that never comes.
FAR = 64


def era(ends_at):
    """When a lease ends, in steps of ABOUT.

    :param ends_at: seconds since the epoch; None is never.
    """
    return NEVER if ends_at is None else int(ends_at // ABOUT)


def drained(ends):
    """When the last of a node's leases ends, in steps of ABOUT.

    :param ends: seconds since the epoch of each other lease on the node;
        None is never.
    """
    latest = UNUSED
    for ends_at in ends:
        if ends_at is None:
            return NEVER
        latest = max(latest, era(ends_at))
    return latest


def apart(wanted, there):
    """How far a request's end is from the end of a node's other leases.

    It doubles with each step: what ends in two days goes as well with a lease
    that ends three hours later as with one that ends two hours later, since
    an end that is far away is seldom met to the hour.

    :param wanted: era() of the request's own end.
    :param there: drained() of the node.
    :returns: 0 (about the same time) to FAR + 1 (a node that nobody uses: it
        stays whole as long as another one does as well).
    """
    if there == wanted:
        return 0
    if there == UNUSED:
        return FAR + 1
    if there == NEVER or wanted == NEVER:
        return FAR
    return min(abs(wanted - there).bit_length(), FAR)


def left(pools, devices):
    """How many devices of a request's aliases are free after it starts.

    :param pools: the Pools of a node.
    :param devices: {alias: number of devices} of what is placed there.
    """
    return sum(pool.free for pool in pools
               if not pool.aliases.isdisjoint(devices)) - sum(
                   devices.values())


def rarest(pools, devices, scarcity):
    """The scarcity of the scarcest model that a request would take.

    Nova chooses among the devices of a host, so the scarcest counts.

    :param pools: the Pools of a node.
    :param devices: {alias: number of devices}.
    :param scarcity: as from scarcities().
    """
    return max((scarcity.get(pool.aliases, 0) for pool in pools
                if pool.free and not pool.aliases.isdisjoint(devices)),
               default=0)


def scarcities(supply, demand=None):
    """Which models to keep for those who can use no other.

    A model is the scarcer, the more devices are asked for by requests that
    can use it but not every model, for each device there is; a request for
    either of two models counts half for each. Where that is the same the
    model with fewer devices is scarcer.

    :param supply: {frozenset of aliases that a model serves: number of
        devices in the cloud, used or not}.
    :param demand: {alias: number of devices asked for}: by those who wait and
        those who run, or all that ever came.
    :returns: {frozenset of aliases: its rank, 0 is the least scarce}.
    """
    pinned = collections.Counter()
    for alias, number in (demand or {}).items():
        models = [model for model in supply if alias in model]
        if len(models) < len(supply):
            for model in models:
                pinned[model] += number / len(models)
    levels = {model: (pinned[model] / max(number, 1), -number)
              for model, number in supply.items()}
    ranks = {level: rank for rank, level
             in enumerate(sorted(set(levels.values())))}
    return {model: ranks[level] for model, level in levels.items()}


def default(planned, left, apart, scarcity, number):
    """Break up as little as possible, and let whole hosts drain together.

    :param planned: whether the plan says so.
    :param left: from left().
    :param apart: from apart().
    :param scarcity: from rarest().
    :param number: of the node in the order of the hosts.
    :returns: a key; the node with the smallest is the best.
    """
    return not planned, left, apart, scarcity, number


def pack(planned, left, apart, scarcity, number):
    """Like default(), but no matter when other leases end."""
    return not planned, left, scarcity, number


def scarce(planned, left, apart, scarcity, number):
    """Keep scarce models, even if that breaks up another host."""
    return not planned, scarcity, left, apart, number


def reference(planned, left, apart, scarcity, number):
    """Best fit, ties by host order: what simulators of others do."""
    return not planned, left, number


#: By the name that a Policy gives.
ORDERS = {'default': default, 'pack': pack, 'scarce': scarce,
          'reference': reference}


def ranks(keys):
    """Dense ranks of keys, 0 for the smallest.

    :param keys: a list of keys of one order, without the node's number where
        equally good nodes are to have the same rank.
    """
    places = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [places[key] for key in keys]
