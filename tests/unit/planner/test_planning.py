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


import collections
import random

import hypothesis
from hypothesis import strategies as st

from nova_gpu_lease import planner
from tests import base

PLENTY = 1000
# A machine that does something else beside may be slow.
PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])


def node(host='h1', free=2, total=None, room=None, promised=(), **pools):
    """A node; ``pools`` are {alias: free} apart from the pool of 'gpu'."""
    pools = {'gpu': free, **pools}
    return planner.Node(host, tuple(
        planner.Pool(alias, number, frozenset([alias]),
                     number if total is None else total)
        for alias, number in pools.items()), room, promised)


def waiting(uuid, num_servers=1, fits=('n1', 'n2'), gpu=1, **values):
    devices = values.pop('devices', {'gpu': gpu})
    if not isinstance(fits, dict):
        fits = dict.fromkeys(fits, PLENTY)
    return planner.Waiting(uuid, num_servers, devices, fits, **values)


def codes(plan):
    return {uuid: wait.reason_code for uuid, wait in plan.waits.items()}


class PlanTest(base.TestCase):
    def test_nothing(self):
        self.assertEqual(planner.Plan({}, {}, {}), planner.plan([], {}))

    def test_starts_on_fullest_node_then_by_host(self):
        nodes = {'n1': node('b', 2), 'n2': node('c', 1), 'n3': node('a', 2)}
        plan = planner.plan(
            [waiting(uuid, fits=list(nodes)) for uuid in 'pqrs'], nodes)
        self.assertEqual({'p': ['n2'], 'q': ['n3'], 'r': ['n3'],
                          's': ['n1']}, plan.starts)
        self.assertEqual({}, plan.waits)

    def test_other_devices_do_not_count_for_packing(self):
        nodes = {'n1': node('a', 1, nic=8), 'n2': node('b', 2)}
        self.assertEqual({'p': ['n1']},
                         planner.plan([waiting('p')], nodes).starts)

    def test_waiting_two_is_not_starved_by_one(self):
        nodes = {'n1': node(free=1, total=2)}
        plan = planner.plan([waiting('two', gpu=2), waiting('one')], nodes)
        self.assertEqual({}, plan.starts)
        self.assertEqual({'two': planner.WAIT_DEVICES,
                          'one': planner.WAIT_BEHIND}, codes(plan))
        # One name is enough for devices that are all kept.
        self.assertEqual({'n1': [['two', 'gpu', None]]}, plan.reservations)

    def test_other_model_is_not_blocked(self):
        nodes = {'n1': node(free=1, total=2, h200=1)}
        plan = planner.plan(
            [waiting('two', gpu=2), waiting('other', devices={'h200': 1})],
            nodes)
        self.assertEqual({'other': ['n1']}, plan.starts)
        self.assertEqual('gpu', plan.waits['two'].group)

    def test_both_aliases_wait_for_both(self):
        nodes = {'n1': node(free=1, total=1, nic=0)}
        nodes['n1'] = planner.Node('h1', (
            planner.Pool('g', 1, frozenset(['gpu']), 1),
            planner.Pool('n', 0, frozenset(['nic']), 1)))
        plan = planner.plan(
            [waiting('both', devices={'gpu': 1, 'nic': 1}), waiting('gpu')],
            nodes)
        self.assertEqual({'both': planner.WAIT_DEVICES,
                          'gpu': planner.WAIT_BEHIND}, codes(plan))
        self.assertEqual({'gpu,nic'}, {wait.group for wait
                                       in plan.waits.values()})

    def test_shared_pool_is_given_once(self):
        pools = (planner.Pool('any', 1, frozenset(['gpu', 'big']), 1),
                 planner.Pool('gpu', 1, frozenset(['gpu']), 1))
        plan = planner.plan(
            [waiting('small', fits=['n1']),
             waiting('big', fits=['n1'], devices={'big': 1}),
             waiting('last', fits=['n1'])],
            {'n1': planner.Node('h1', pools)})
        self.assertEqual({'small': ['n1'], 'big': ['n1']}, plan.starts)
        self.assertEqual(['last'], list(plan.waits))

    def test_blocked_request_keeps_pools_it_shares(self):
        pools = (planner.Pool('any', 1, frozenset(['gpu', 'big']), 2),)
        plan = planner.plan(
            [waiting('two', fits=['n1'], devices={'big': 2}),
             waiting('one', fits=['n1'])], {'n1': planner.Node('h1', pools)})
        self.assertEqual({}, plan.starts)
        self.assertEqual(planner.WAIT_BEHIND, codes(plan)['one'])

    def test_gang_starts_over_several_hosts_or_not_at_all(self):
        nodes = {'n1': node('a', 2), 'n2': node('b', 1, 2)}
        self.assertEqual(
            {'gang': ['n2', 'n1', 'n1']},
            planner.plan([waiting('gang', 3)], nodes).starts)
        plan = planner.plan([waiting('gang', 4), waiting('one')], nodes)
        self.assertEqual({}, plan.starts)
        self.assertEqual(planner.WAIT_DEVICES, codes(plan)['gang'])

    def test_gang_together_takes_one_host(self):
        nodes = {'n1': node('a', 2), 'n2': node('b', 1, 2)}
        gang = waiting('gang', 2, together=True)
        self.assertEqual({'gang': ['n1', 'n1']},
                         planner.plan([gang], nodes).starts)
        plan = planner.plan([gang, waiting('one')],
                            {'n1': node('a', 1, 1), 'n2': node('b', 1, 2)})
        # Only n2 can ever hold both.
        self.assertEqual({'one': ['n1']}, plan.starts)
        self.assertEqual({'n1', 'n2'}, set(plan.reservations))

    def test_lack_of_other_resources_blocks_nobody(self):
        plan = planner.plan(
            [waiting('nowhere', fits=(), missing='No memory.'),
             waiting('gang', 3, fits={'n1': 1}), waiting('one')],
            {'n1': node(free=1, total=4)})
        self.assertEqual({'one': ['n1']}, plan.starts)
        self.assertEqual(planner.WAIT_RESOURCES, codes(plan)['nowhere'])
        self.assertEqual('No memory.', plan.waits['nowhere'].reason)
        self.assertEqual(planner.WAIT_RESOURCES, codes(plan)['gang'])

    def test_resources_of_competitors_are_waited_for(self):
        # Memory that comes free with the devices is no reason to let others
        # pass.
        plan = planner.plan(
            [waiting('two', gpu=2, fits=(), after={'n1': 1}),
             waiting('one', fits=['n1'])], {'n1': node(free=1, total=2)})
        self.assertEqual({}, plan.starts)
        self.assertEqual({'two': planner.WAIT_DEVICES,
                          'one': planner.WAIT_BEHIND}, codes(plan))

    def test_node_with_too_few_devices_is_not_kept(self):
        plan = planner.plan(
            [waiting('two', gpu=2), waiting('one')],
            {'n1': node('a', 1, 1), 'n2': node('b', 0, 2)})
        self.assertEqual({'one': ['n1']}, plan.starts)
        self.assertEqual(['n1', 'n2'], sorted(plan.reservations))
        self.assertEqual([['two', 'gpu', None]], plan.reservations['n2'])

    def test_held_request_keeps_its_place(self):
        plan = planner.plan([waiting('held', held=True), waiting('one')],
                            {'n1': node(free=1)})
        self.assertEqual({}, plan.starts)
        self.assertEqual({'held': planner.WAIT_RETRY,
                          'one': planner.WAIT_BEHIND}, codes(plan))

    def test_room_is_used_up_by_starts(self):
        nodes = {'n1': node(free=4, room={'MEMORY_MB': 10})}
        plan = planner.plan(
            [waiting('big', amounts={'MEMORY_MB': 6}),
             waiting('small', amounts={'MEMORY_MB': 4, 'ELSEWHERE': 1}),
             waiting('more', amounts={'MEMORY_MB': 1})], nodes)
        self.assertEqual({'big': ['n1'], 'small': ['n1']}, plan.starts)

    def test_slots_are_used_up_when_room_is_unknown(self):
        plan = planner.plan(
            [waiting('a', fits={'n1': 2}), waiting('b', fits={'n1': 2}),
             waiting('c', fits={'n1': 2})], {'n1': node(free=4)})
        self.assertEqual(['a', 'b'], list(plan.starts))

    def test_reservations_cover_starts_and_promises(self):
        plan = planner.plan(
            [waiting('gang', 2)],
            {'n1': node(free=2, promised=(['early', 'gpu', 1],))})
        self.assertEqual({'n1': [['early', 'gpu', 1], ['gang', 'gpu', 2]]},
                         plan.reservations)

    def test_long_name_of_group_is_cut(self):
        devices = {'alias-%s' % ('x' * number): 1 for number in range(40)}
        plan = planner.plan([waiting('a', fits=(), devices=devices)], {})
        self.assertLessEqual(len(plan.waits['a'].group), planner.MAX_GROUP)

    def test_stuck_request_keeps_nobody_waiting(self):
        nodes = {'n1': node('host1', 1)}
        head = waiting('head', held=True)
        self.assertNotIn('next', planner.plan(
            [head, waiting('next')], nodes).starts)
        stuck = waiting('head', held=True, stuck=True)
        plan = planner.plan([stuck, waiting('next')], nodes)
        self.assertEqual({'next': ['n1']}, plan.starts)
        self.assertEqual(planner.WAIT_RETRY, plan.waits['head'].reason_code)

    def test_request_over_quota_keeps_its_place_and_no_device(self):
        nodes = {'n1': node('host1', 1)}
        over = waiting('head', over_quota='cores: 2 of 2 used')
        plan = planner.plan([over, waiting('next')], nodes)
        self.assertEqual({'next': ['n1']}, plan.starts)
        self.assertEqual([['next', 'gpu', 1]], plan.reservations['n1'])
        self.assertEqual(planner.WAIT_QUOTA, plan.waits['head'].reason_code)
        self.assertEqual('cores: 2 of 2 used', plan.waits['head'].reason)

    def test_node_from_survey(self):
        self.assertEqual(node('h', 1, 2), planner.Node.from_dict({
            'host': 'h', 'pools': [{'key': 'gpu', 'free': 1, 'total': 2,
                                    'aliases': ['gpu']}]}))


ALIASES = ['a', 'b', 'c']


@st.composite
def situations(draw):
    """A queue and nodes, small enough that things collide."""
    nodes = {}
    for number in range(draw(st.integers(0, 4))):
        pools = []
        for index in range(draw(st.integers(0, 3))):
            total = draw(st.integers(0, 4))
            pools.append(planner.Pool(
                'p%d' % index, draw(st.integers(0, total)),
                frozenset(draw(st.sets(st.sampled_from(ALIASES),
                                       min_size=1))),
                draw(st.sampled_from([total, None]))))
        room = draw(st.none() | st.fixed_dictionaries(
            {'MEMORY_MB': st.integers(0, 12)}))
        nodes['n%d' % number] = planner.Node('h%d' % (number // 2),
                                             tuple(pools), room)
    slots = st.dictionaries(st.sampled_from(sorted(nodes) or ['gone']),
                            st.integers(1, 5), max_size=4)
    queue = [planner.Waiting(
        'r%d' % number, draw(st.integers(1, 3)),
        draw(st.dictionaries(st.sampled_from(ALIASES), st.integers(1, 3),
                             min_size=1, max_size=2)),
        draw(slots), draw(st.none() | slots),
        draw(st.none() | st.fixed_dictionaries(
            {'MEMORY_MB': st.integers(0, 4)})),
        draw(st.booleans()), draw(st.sampled_from([False, False, True])))
        for number in range(draw(st.integers(0, 6)))]
    return queue, nodes


def can_serve(pools, demand):
    """Give out devices one by one, moving others when needed.

    An implementation of its own: augmenting paths, not Hall's theorem.
    """
    devices = [pool.aliases for pool in pools for _ in range(pool.free)]
    owners = {}

    def give(unit, alias, seen):
        for number, aliases in enumerate(devices):
            if alias in aliases and number not in seen:
                seen.add(number)
                if number not in owners or give(*owners[number], seen):
                    owners[number] = (unit, alias)
                    return True
        return False

    units = [alias for alias, count in sorted(demand.items())
             for _ in range(count)]
    return all(give(number, alias, set())
               for number, alias in enumerate(units))


class PlanPropertyTest(base.TestCase):
    @hypothesis.given(situations())
    @PATIENT
    def test_no_device_is_given_twice(self, situation):
        queue, nodes = situation
        plan = planner.plan(queue, nodes)
        demand = collections.defaultdict(collections.Counter)
        for request in queue:
            for uuid in plan.starts.get(request.uuid, ()):
                demand[uuid].update(request.devices)
        for uuid, wanted in demand.items():
            self.assertTrue(can_serve(nodes[uuid].pools, wanted))

    @hypothesis.given(situations())
    @PATIENT
    def test_capacity_is_kept_and_gangs_are_whole(self, situation):
        queue, nodes = situation
        plan = planner.plan(queue, nodes)
        used = collections.Counter()
        for request in queue:
            chosen = collections.Counter(plan.starts.get(request.uuid, ()))
            self.assertNotEqual(request.uuid in plan.starts,
                                request.uuid in plan.waits)
            self.assertIn(sum(chosen.values()), (0, request.num_servers))
            if request.together:
                self.assertLessEqual(len(chosen), 1)
            for uuid, count in chosen.items():
                self.assertLessEqual(count, request.fits[uuid])
                used[uuid] += count * (request.amounts or {}).get(
                    'MEMORY_MB', 0)
        for uuid, memory in used.items():
            if nodes[uuid].room and memory:
                self.assertLessEqual(memory, nodes[uuid].room['MEMORY_MB'])

    @hypothesis.given(situations())
    @PATIENT
    def test_first_come_first_served(self, situation):
        queue, nodes = situation
        plan = planner.plan(queue, nodes)
        for number, request in enumerate(queue):
            # Who comes later changes nothing.
            before = planner.plan(queue[:number + 1], nodes)
            self.assertEqual(before.starts.get(request.uuid),
                             plan.starts.get(request.uuid))
            # What is kept for a request is not given to later ones.
            for later in queue[number + 1:]:
                for uuid in plan.starts.get(later.uuid, ()):
                    kept = {alias for holder, alias, _count
                            in plan.reservations.get(uuid, ())
                            if holder == request.uuid
                            and request.uuid in plan.waits}
                    self.assertFalse(kept & later.devices.keys())
                    if kept:
                        self.assertTrue(can_serve(
                            [pool for pool in nodes[uuid].pools
                             if not pool.aliases & kept],
                            later.devices))

    @hypothesis.given(situations())
    @PATIENT
    def test_nobody_waits_for_nothing(self, situation):
        queue, nodes = situation
        plan = planner.plan(queue, nodes)
        for request in queue:
            wait = plan.waits.get(request.uuid)
            if wait is None or wait.reason_code == planner.WAIT_RETRY:
                continue
            alone = planner.plan([request], nodes)
            if request.uuid in alone.starts:
                # Somebody in front must compete with it.
                rivals = [
                    other for other in queue[:queue.index(request)]
                    if other.uuid in plan.starts or any(
                        other.uuid == holder for reserved
                        in plan.reservations.values()
                        for holder, _alias, _count in reserved)]
                self.assertTrue(any(self._meet(request, other, nodes)
                                    for other in rivals))

    @staticmethod
    def _meet(one, other, nodes):
        """Whether two requests could want the same of some node."""
        for uuid in one.fits:
            if uuid in nodes and (uuid in other.fits or
                                  uuid in (other.after or {})):
                if not nodes[uuid].room or one.amounts is None or (
                        other.amounts is None):
                    return True
                if one.amounts['MEMORY_MB'] and other.amounts['MEMORY_MB']:
                    return True
                shared = [pool for pool in nodes[uuid].pools if
                          pool.aliases & one.devices.keys() and
                          pool.aliases & other.devices.keys()]
                if shared or one.devices.keys() & other.devices.keys():
                    return True
        return False

    @hypothesis.given(situations(), st.integers())
    @PATIENT
    def test_order_of_dicts_does_not_matter(self, situation, seed):
        queue, nodes = situation
        shuffle = random.Random(seed)

        def shuffled(dictionary):
            items = list((dictionary or {}).items())
            shuffle.shuffle(items)
            return dict(items) if dictionary is not None else None

        other = planner.plan(
            [planner.Waiting(
                request.uuid, request.num_servers, shuffled(request.devices),
                shuffled(request.fits), shuffled(request.after),
                shuffled(request.amounts), request.together, request.held)
             for request in queue],
            {uuid: planner.Node(
                one.host, tuple(shuffle.sample(one.pools, len(one.pools))),
                shuffled(one.room))
             for uuid, one in shuffled(nodes).items()})
        self.assertEqual(planner.plan(queue, nodes), other)
