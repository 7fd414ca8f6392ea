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
"""What a plan costs: the full one, and the one after one event."""

import gc
import math
import random
import statistics
import time

from nova_gpu_lease import planner
from nova_gpu_lease.planner import state

GPUS = 8
MODELS = ('a100', 'h100', 'l4', 't4')
#: Leases are this long, in seconds; a week is the longest.
LENGTHS = (900, 3600, 14400, 43200, 86400, 259200, 604800)
NOW = 1.8e9
FULL_ROUNDS = 3
EVENTS = 200
POLICY = planner.Policy(queue_policy='backfill')


def measure(sizes, progress):
    """Plans for as many waiting requests as hosts.

    :param sizes: numbers of hosts.
    :param progress: a function that is told what is measured now.
    :returns: {'full_s', 'event_median_s', 'event_p95_s', 'reasons_median_s'
        and 'reasons_p95_s': {size: CPU seconds}, 'growth': {each of these: by
        which power of the size it grows from the smallest to the largest}}.
        An event is one with the plan after it: who starts. With reasons the
        plan also says of everybody else why he waits and until when.
    """
    found = {name: {} for name in (
        'full_s', 'event_median_s', 'event_p95_s', 'reasons_median_s',
        'reasons_p95_s')}
    for size in sizes:
        progress('planner: %d requests on %d hosts' % (size, size))
        rng = random.Random(size)
        nodes, running = _cloud(size, rng)
        waiting = _queue(size, nodes, rng)
        found['full_s'][str(size)] = statistics.median(
            _timed(lambda: planner.plan(waiting, nodes, running, NOW, POLICY))
            for _ in range(FULL_ROUNDS))
        for name, times in _events(nodes, running, waiting).items():
            found[name + '_median_s'][str(size)] = statistics.median(times)
            found[name + '_p95_s'][str(size)] = _p95(times)
    if len(sizes) > 1:
        found['growth'] = growth(found)
    return found


def growth(found):
    """By which power of the size each figure grows.

    :param found: {name: {size: seconds}}.
    :returns: {name: power}, from the smallest to the largest size.
    """
    powers = {}
    for name, by_size in found.items():
        least, most = min(by_size, key=int), max(by_size, key=int)
        powers[name] = (math.log(by_size[most] / by_size[least]) /
                        math.log(int(most) / int(least)))
    return powers


def _timed(function):
    """The CPU seconds of a call, without those of the garbage collector.

    It looks at all that the measurement itself keeps.
    """
    gc.disable()
    try:
        begun = time.process_time()
        function()
        return time.process_time() - begun
    finally:
        gc.enable()


def _p95(values):
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


def _cloud(size, rng):
    """Hosts of eight GPUs, nearly all of them used.

    :returns: a tuple of {uuid: Node} and a list of Running.
    """
    nodes, running = {}, []
    for number in range(size):
        uuid, model = 'node-%05d' % number, MODELS[number % len(MODELS)]
        left = GPUS
        while left:
            taken = min(left, rng.choice((1, 1, 1, 2, 4, 8)))
            if rng.random() < 0.01:
                break
            running.append(planner.Running(
                '%s-%d' % (uuid, left), uuid, {model: taken},
                NOW + rng.random() * rng.choice(LENGTHS)))
            left -= taken
        nodes[uuid] = planner.Node('host-%05d' % number, (planner.Pool(
            model, left, frozenset([model]), GPUS),))
    return nodes, running


def _queue(size, nodes, rng):
    """Requests for 1 to 8 GPUs of a model; one in ten is a gang of four."""
    fits = {model: {uuid: GPUS for uuid, node in nodes.items()
                    if node.pools[0].key == model} for model in MODELS}
    waiting = []
    for number in range(size):
        model = rng.choice(MODELS)
        waiting.append(planner.Waiting(
            'request-%05d' % number, 4 if rng.random() < 0.1 else 1,
            {model: rng.choice((1, 1, 1, 2, 4, 8))}, fits[model],
            duration=rng.choice(LENGTHS), queued_at=NOW - size + number))
    return waiting


def _events(nodes, running, waiting):
    """Leases end one after the other; what the plan says starts.

    :returns: {'event' and 'reasons': a list of CPU seconds}, taken by turns.
    """
    now = NOW
    kept = state.State(nodes, running, POLICY)
    by_uuid = {request.uuid: request for request in waiting}
    for request in waiting:
        kept.submit(request)
    _start(kept, kept.plan(now), by_uuid, nodes, now)
    ends = sorted(running, key=lambda one: one.ends_at)
    times = {'event': [], 'reasons': []}
    for number, one in enumerate(ends[:EVENTS]):
        now = max(now, one.ends_at)
        name = ('event', 'reasons')[number % 2]
        plans = []

        def event(uuid=one.uuid, now=now, plans=plans, name=name):
            kept.end(uuid)
            plans.append(kept.plan(now, explain=name == 'reasons'))

        times[name].append(_timed(event))
        _start(kept, plans[0], by_uuid, nodes, now)
    return times


def _start(kept, plan, by_uuid, nodes, now):
    """Tell the planner that what it said was done."""
    for uuid, chosen in plan.starts.items():
        request = by_uuid[uuid]
        kept.withdraw(uuid)
        for number, node in enumerate(chosen):
            kept.start(planner.Running(
                '%s/%d' % (uuid, number), node,
                {nodes[node].pools[0].key: sum(request.devices.values())},
                now + request.duration))
