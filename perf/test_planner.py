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


"""What one plan costs: the dispatcher makes one at every event.

Run it with "tox -e perf" on a quiet machine. The numbers are printed and kept
in perf/results.json. How plans grow up to 10,000 hosts, and what they may
cost, is measured by perf/scheduler.
"""

import json
import pathlib
import random
import time
import unittest

from nova_gpu_lease import planner

RESULTS = pathlib.Path(__file__).with_name('results.json')
MODELS = ('a100', 'h100', 'l4', 't4')
LENGTHS = (900, 3600, 14400, 86400, 604800)
NOW = 1.8e9


def cloud(hosts, free, rng):
    """Hosts with eight GPUs of one model, of which some are free.

    :param free: the share of the devices that are free, from 0 to 1.
    :returns: a tuple of {uuid: Node} and a list of Running.
    """
    nodes, running = {}, []
    for number in range(hosts):
        model = MODELS[number % len(MODELS)]
        uuid = 'node-%05d' % number
        used = sum(rng.random() >= free for _ in range(8))
        running.extend(planner.Running(
            'lease-%05d-%d' % (number, one), uuid, {model: 1},
            NOW + rng.random() * rng.choice(LENGTHS)) for one in range(used))
        nodes[uuid] = planner.Node(
            host='host-%05d' % number,
            pools=(planner.Pool(
                key=model, free=8 - used,
                aliases=frozenset([model]), total=8),))
    return nodes, running


def queue(requests, nodes, rng):
    """Requests for 1 to 8 GPUs of one model; one in ten is a gang of four."""
    fits = {model: {uuid: 8 for uuid, node in nodes.items()
                    if model in node.pools[0].aliases} for model in MODELS}
    waiting = []
    for number in range(requests):
        model = rng.choice(MODELS)
        waiting.append(planner.Waiting(
            uuid='request-%05d' % number,
            num_servers=4 if rng.random() < 0.1 else 1,
            devices={model: rng.choice((1, 1, 1, 2, 4, 8))},
            fits=fits[model], duration=rng.choice(LENGTHS),
            queued_at=NOW - requests + number))
    return waiting


class PlannerTest(unittest.TestCase):

    def _measure(self, name, hosts, requests, free, limit,
                 policy='backfill'):
        rng = random.Random(1)
        nodes, running = cloud(hosts, free, rng)
        waiting = queue(requests, nodes, rng)
        seconds = []
        for _ in range(5):
            start = time.process_time()
            plan = planner.plan(waiting, nodes, running, NOW,
                                planner.Policy(policy))
            seconds.append(time.process_time() - start)
        self._note(name, seconds, limit, {
            'hosts': hosts, 'requests': requests, 'free': free,
            'policy': policy, 'starts': len(plan.starts)})

    def _note(self, name, seconds, limit, facts):
        result = dict(facts, limit=limit, seconds=round(
            sorted(seconds)[len(seconds) // 2], 5))
        print('%s: %s' % (name, json.dumps(result)))
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(
            {**results, name: result}, indent=1, sort_keys=True) + '\n')
        self.assertLess(result['seconds'], limit)

    # The limits are about four times the median of CPU seconds on two shared
    # cores of a cloud machine (2026-11); more means that something became
    # quadratic.

    def test_plan_full_small_cloud(self):
        self._measure('small', hosts=50, requests=100, free=0.02, limit=0.05)

    def test_plan_full_large_cloud(self):
        self._measure('large', hosts=10000, requests=10000, free=0.02,
                      limit=5)

    def test_plan_full_large_cloud_fifo(self):
        self._measure('fifo', hosts=10000, requests=10000, free=0.02,
                      limit=8, policy='fifo')

    def test_plan_empty_large_cloud(self):
        self._measure('empty', hosts=10000, requests=10000, free=1, limit=12)

    def test_plan_of_one_event(self):
        rng = random.Random(1)
        nodes, running = cloud(10000, 0.02, rng)
        state = planner.State(nodes, running, planner.Policy('backfill'))
        for request in queue(10000, nodes, rng):
            state.submit(request)
        for uuid in state.plan(NOW).starts:
            state.withdraw(uuid)
        for name, explain, limit in (('event', False, 0.05),
                                     ('event-explained', True, 0.4)):
            seconds = []
            for one in rng.sample(running, 21):
                running.remove(one)
                start = time.process_time()
                state.end(one.uuid)
                plan = state.plan(NOW, explain)
                seconds.append(time.process_time() - start)
                for uuid in plan.starts:
                    state.withdraw(uuid)
            self._note(name, seconds, limit, {
                'hosts': 10000, 'requests': 10000, 'free': 0.02,
                'starts': len(plan.starts)})
