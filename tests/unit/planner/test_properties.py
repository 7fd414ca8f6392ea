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


import dataclasses
import os
import random
import subprocess
import sys

import hypothesis
from hypothesis import strategies as st

from nova_gpu_lease import planner
from tests import base
from tests.unit.planner import simulation

POLICIES = st.builds(
    planner.Policy, queue_policy=st.sampled_from(
        ['fifo', 'backfill', 'backfill', 'conservative']),
    reservation_depth=st.integers(1, 3),
    backfill_order=st.sampled_from(['age', 'aged', 'shortest']),
    host_order=st.sampled_from(['default', 'pack', 'scarce', 'reference']))

# A machine that does something else beside may be slow.
PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])


class HistoryTest(base.TestCase):
    @hypothesis.given(simulation.histories(), POLICIES)
    @PATIENT
    def test_no_head_starts_later_than_promised(self, history, policy):
        # Mixed pools serve more than one alias: what Nova gives away there
        # may be what was promised, so each pool has one here.
        nodes, arrivals = history
        nodes = {uuid: dataclasses.replace(node, pools=tuple(
            dataclasses.replace(pool, aliases=frozenset(
                [min(pool.aliases)])) for pool in node.pools))
            for uuid, node in nodes.items()}
        cloud = simulation.Cloud(nodes, arrivals, policy)
        cloud.play()
        for uuid, starts in cloud.promised.items():
            if uuid in cloud.starts and None not in starts:
                self.assertLessEqual(cloud.starts[uuid], min(starts))

    @hypothesis.given(simulation.histories(priorities=(0, 0, 5),
                                           endless=True,
                                           preemptible=True),
                      POLICIES)
    @PATIENT
    def test_event_by_event_is_from_scratch(self, history, policy):
        def look(cloud, now, plan):
            self.assertEqual(planner.plan(
                [waiting for waiting, _early in cloud.waiting.values()],
                cloud.now(), list(cloud.running.values()), now, policy,
                cloud.promises), plan)

        simulation.Cloud(*history, policy).play(look)

    @hypothesis.given(simulation.histories(priorities=(0, 5), endless=True),
                      POLICIES, st.integers())
    @PATIENT
    def test_order_of_rows_does_not_matter(self, history, policy, seed):
        shuffle = random.Random(seed)

        def shuffled(some):
            return shuffle.sample(list(some), len(some))

        def look(cloud, now, plan):
            # What came in the same second is in the order of the queue.
            waiting = [dataclasses.replace(
                waiting, queued_at=float(waiting.uuid[1:]))
                for waiting, _early in cloud.waiting.values()]
            nodes = {uuid: dataclasses.replace(
                node, pools=tuple(shuffled(node.pools)))
                for uuid, node in shuffled(cloud.now().items())}
            running = list(cloud.running.values())
            self.assertEqual(
                planner.plan(waiting, cloud.now(), running, now, policy,
                             cloud.promises),
                planner.plan(shuffled(waiting), nodes, shuffled(running),
                             now, policy,
                             dict(shuffled(cloud.promises.items()))))

        simulation.Cloud(*history, policy).play(look)

    @hypothesis.given(simulation.histories(), POLICIES)
    @PATIENT
    def test_capacity_is_kept(self, history, policy):
        # That no device is given twice, the simulation itself asserts.
        def look(cloud, now, plan):
            for uuid, node in cloud.now().items():
                if node.room:
                    self.assertGreaterEqual(node.room['MEMORY_MB'], 0)
            for uuid, chosen in plan.starts.items():
                waiting = cloud.waiting[uuid][0]
                self.assertEqual(waiting.num_servers, len(chosen))
                self.assertLessEqual(set(chosen), set(waiting.fits))
                if waiting.together:
                    self.assertEqual(1, len(set(chosen)))

        simulation.Cloud(*history, policy).play(look)

    @hypothesis.given(simulation.histories(), POLICIES)
    @PATIENT
    def test_everybody_starts_who_can(self, history, policy):
        def look(cloud, now, plan):
            if not cloud.running and not plan.starts:
                for waiting, _early in cloud.waiting.values():
                    self.assertEqual(
                        {}, planner.plan([waiting], cloud.now()).starts)

        simulation.Cloud(*history, policy).play(look)

    @hypothesis.given(simulation.histories(
        priorities=(0, 5), endless=True, preemptible=True),
        POLICIES)
    @PATIENT
    def test_guaranteed_leases_are_never_ended_early(self, history, policy):
        policy = dataclasses.replace(policy, preempt_grace=3)

        def look(cloud, now, plan):
            self.assertEqual(len(set(plan.preemptions)),
                             len(plan.preemptions))
            for uuid in plan.preemptions:
                self.assertTrue(cloud.running[uuid].preemptible)
                self.assertTrue(any(
                    waiting.priority > cloud.running[uuid].priority
                    for waiting, _early in cloud.waiting.values()))
            if not any(not waiting.preemptible and waiting.uuid in plan.waits
                       for waiting, _early in cloud.waiting.values()):
                self.assertEqual((), plan.preemptions)

        simulation.Cloud(*history, policy).play(look)

    @hypothesis.given(simulation.histories(
        endless=True, preemptible=True), POLICIES)
    @PATIENT
    def test_no_more_is_ended_early_than_is_needed(self, history, policy):
        policy = dataclasses.replace(policy, preempt_grace=3)

        def look(cloud, now, plan):
            guaranteed = [waiting for waiting, _early
                          in cloud.waiting.values()
                          if not waiting.preemptible]
            if len(cloud.waiting) != 1 or not guaranteed:
                return
            # They end in time, and then it starts; with one less it does
            # not.
            for less in [None, *plan.preemptions]:
                running = [dataclasses.replace(one, ends_at=now + 3)
                           if one.uuid in plan.preemptions and
                           one.uuid != less else one
                           for one in cloud.running.values()]
                again = planner.plan(guaranteed, cloud.now(), running, now,
                                     policy)
                expected = [wait.expected for wait in again.waits.values()]
                if plan.preemptions and less is None:
                    self.assertLessEqual(expected[0], now + 3)
                elif plan.preemptions:
                    self.assertTrue(expected[0] is None or
                                    expected[0] > now + 3)

        simulation.Cloud(*history, policy).play(look)

    def test_hash_seed_does_not_matter(self):
        script = (
            'from tests.unit.planner import simulation\n'
            'simulation.print_plans()')
        printed = {
            subprocess.run(
                [sys.executable, '-c', script], check=True, text=True,
                capture_output=True,
                env=dict(os.environ, PYTHONHASHSEED=str(seed))).stdout
            for seed in range(3)}
        self.assertEqual(1, len(printed))
        self.assertGreater(len(printed.pop()), 10000)
