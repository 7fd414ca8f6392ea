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

from nova_gpu_lease import planner
from nova_gpu_lease.planner import fairshare
from tests import base

NOW = 1000
BACKFILL = planner.Policy('backfill')


def node(free, total=2, host='h1', room=None, **kwargs):
    return planner.Node(host, (planner.Pool(
        'gpu', free, frozenset(['gpu']), total),), room, **kwargs)


def waiting(uuid, gpu=1, fits=('n1',), num_servers=1, **values):
    values.setdefault('duration', 100)
    return planner.Waiting(uuid, num_servers, {'gpu': gpu},
                           dict.fromkeys(fits, 8), **values)


def running(uuid, ends_at, on='n1', gpu=1, **values):
    if values.get('preemptible'):
        values.setdefault('priority', -1)
    return planner.Running(uuid, on, {'gpu': gpu}, ends_at, **values)


def plan(queue, nodes, runs=(), policy=BACKFILL, now=NOW, **kwargs):
    return planner.plan(queue, nodes, runs, now, policy, **kwargs)


class EasyTest(base.TestCase):
    NODES = {'n1': node(1)}
    RUNS = [running('r', NOW + 50)]

    def plan(self, *others, **kwargs):
        return plan([waiting('head', 2), *others], self.NODES, self.RUNS,
                    **kwargs)

    def test_short_lease_slips_in(self):
        made = self.plan(waiting('short', duration=50))
        self.assertEqual({'short': ['n1']}, made.starts)
        self.assertEqual({'head': planner.Promise(NOW + 50, {'n1': 1})},
                         made.promises)

    def test_longer_lease_does_not(self):
        made = self.plan(waiting('long', duration=51))
        self.assertEqual({}, made.starts)
        self.assertEqual(planner.WAIT_BEHIND, made.waits['long'].reason_code)
        self.assertEqual({'n1': [['head', 'gpu', 2]]}, made.reservations)

    def test_lease_without_an_end_does_not(self):
        self.assertEqual({}, self.plan(waiting('ever', duration=None)).starts)

    def test_longer_lease_takes_other_devices(self):
        nodes = dict(self.NODES, n2=node(1, 1, 'h2'))
        made = plan([waiting('head', 2), waiting('long', fits=('n1', 'n2'))],
                    nodes, self.RUNS)
        self.assertEqual({'long': ['n2']}, made.starts)

    def test_shortest_lease_first_or_oldest(self):
        others = [waiting('old', duration=40, queued_at=1),
                  waiting('young', duration=30, queued_at=2)]
        self.assertEqual(['young'], list(self.plan(*others).starts))
        self.assertEqual(['old'], list(self.plan(
            *others, policy=planner.Policy(
                'backfill', backfill_order='age')).starts))

    def test_aged_lease_is_passed_by_few(self):
        aged = planner.Policy('backfill', backfill_order='aged')
        for queued_at, first in ((2, 'young'), (4, 'old')):
            # A lease shorter by 8 is worth two seconds of waiting.
            self.assertEqual([first], list(self.plan(
                waiting('old', duration=38, queued_at=1),
                waiting('young', duration=30, queued_at=queued_at),
                policy=aged).starts))

    def test_depth_is_for_each_set_of_competitors(self):
        nodes = {'n1': node(1), 'n2': planner.Node('h2', (planner.Pool(
            't4', 1, frozenset(['t4']), 2),))}
        others = [planner.Waiting(uuid, 1, {'t4': number}, {'n2': 8},
                                  duration=100)
                  for uuid, number in (('big', 2), ('small', 1))]
        made = plan([waiting('head', 2), *others], nodes, [
            running('r', NOW + 50), planner.Running(
                's', 'n2', {'t4': 1}, NOW + 50)])
        self.assertEqual({}, made.starts)
        self.assertEqual({'head', 'big'}, set(made.promises))

    def test_depth_protects_the_second(self):
        # The first needs both nodes, the second one of them afterwards.
        nodes = {'n1': node(1), 'n2': node(2, host='h2')}
        queue = [waiting('gang', 2, ('n1', 'n2'), 2),
                 waiting('second', 2, ('n1',), duration=10),
                 waiting('third', 1, ('n2',), duration=50)]
        runs = [running('r', NOW + 50)]
        made = plan(queue, nodes, runs, planner.Policy(
            'backfill', reservation_depth=2))
        self.assertEqual({'third': ['n2']}, made.starts)
        self.assertEqual({'gang': NOW + 50, 'second': NOW + 150}, {
            uuid: promise.start for uuid, promise in made.promises.items()})
        made = plan(queue, nodes, runs, planner.Policy('conservative'))
        self.assertEqual(2, len(made.promises))

    def test_early_end_and_extension_change_the_promise(self):
        state = planner.State(self.NODES, self.RUNS, BACKFILL)
        state.submit(waiting('head', 2))
        self.assertEqual(NOW + 50, state.plan(NOW).promises['head'].start)
        state.change_end('r', NOW + 20)
        self.assertEqual(NOW + 20, state.plan(NOW).promises['head'].start)
        state.change_end('r', NOW + 90)
        made = state.plan(NOW)
        self.assertEqual(NOW + 90, made.promises['head'].start)
        self.assertIn('later than promised: a lease there was made longer',
                      made.waits['head'].reason)
        state.end('r')
        self.assertEqual({'head': ['n1']}, state.plan(NOW).starts)

    def test_lost_host_is_the_reason(self):
        nodes = dict(self.NODES, n2=node(0, host='h2'))
        state = planner.State(nodes, [*self.RUNS, running(
            's', NOW + 500, 'n2', 2)], BACKFILL)
        state.submit(waiting('head', 2, ('n1', 'n2')))
        self.assertEqual({'n1': 1}, state.plan(NOW).promises['head'].nodes)
        state.remove_node('n1')
        made = state.plan(NOW)
        self.assertEqual(NOW + 500, made.promises['head'].start)
        self.assertIn('a host was lost', made.waits['head'].reason)

    def test_higher_class_may_delay_and_is_the_reason(self):
        state = planner.State(self.NODES, self.RUNS, BACKFILL)
        state.submit(waiting('head', 2))
        state.plan(NOW)
        state.submit(waiting('vip', 2, priority=1))
        made = state.plan(NOW)
        self.assertEqual({'vip': NOW + 50, 'head': NOW + 150}, {
            uuid: promise.start for uuid, promise in made.promises.items()})
        self.assertIn('a request of a higher class came',
                      made.waits['head'].reason)
        self.assertEqual(NOW + 150, made.waits['head'].expected)
        self.assertTrue(made.waits['head'].promised)

    def test_lower_class_and_fair_share_do_not_delay_a_promise(self):
        state = planner.State(self.NODES, self.RUNS, BACKFILL,
                              usage={'poor': 1.0, 'rich': 0.1})
        state.submit(waiting('head', 2, project='rich'))
        state.plan(NOW)
        state.submit(waiting('poor', 2, project='poor'))
        state.submit(waiting('low', 2, priority=-1))
        self.assertEqual(NOW + 50, state.plan(NOW).promises['head'].start)
        state.end('r')
        self.assertEqual(['head'], list(state.plan(NOW + 1).starts))

    def test_fair_share_decides_before_age(self):
        queue = [waiting('rich', project='rich', queued_at=1),
                 waiting('poor', project='poor', queued_at=2)]
        usage = {'poor': 0.9, 'rich': 0.1}
        nodes = {'n1': node(1, 1)}
        for policy in ('fifo', 'backfill', 'conservative'):
            policy = planner.Policy(policy)
            self.assertEqual(['poor'], list(plan(
                queue, nodes, usage=usage, policy=policy).starts))
            self.assertEqual(['rich'], list(plan(
                queue, nodes, policy=policy).starts))
            self.assertEqual(['vip'], list(plan(
                [*queue, waiting('vip', priority=3, queued_at=3)], nodes,
                usage=usage, policy=policy).starts))

    def test_without_an_end_the_best_node_is_kept(self):
        nodes = {'n1': node(1, 4), 'n2': node(2, 4, 'h2')}
        runs = [running('r', None, 'n1', 3), running('s', None, 'n2', 2)]
        both = ('n1', 'n2')
        made = plan([waiting('head', 4, both), waiting('other', 1, both),
                     waiting('third', 1, both)], nodes, runs)
        self.assertEqual({'head': planner.Promise(None, {'n2': 1})},
                         made.promises)
        self.assertEqual({'other': ['n1']}, made.starts)
        self.assertIn('start unknown', made.waits['head'].reason)
        self.assertFalse(made.waits['head'].promised)

    def test_held_head_keeps_what_it_would_take(self):
        nodes = {'n1': node(2)}
        made = plan([waiting('held', held=True), waiting('a'),
                     waiting('b')], nodes)
        self.assertEqual({'a': ['n1']}, made.starts)
        self.assertEqual(NOW, made.promises['held'].start)
        stuck = waiting('held', held=True, stuck=True)
        self.assertEqual(2, len(plan(
            [stuck, waiting('a'), waiting('b')], nodes).starts))
        over = waiting('over', over_quota='used up')
        self.assertEqual(2, len(plan(
            [over, waiting('a'), waiting('b')], nodes).starts))

    def test_nobody_waits_for_what_never_comes(self):
        made = self.plan(waiting('other', duration=10))
        self.assertEqual({'other': ['n1']}, made.starts)
        made = plan([waiting('never', 3, missing='Too big.'),
                     waiting('other')], self.NODES, self.RUNS)
        self.assertEqual({'other': ['n1']}, made.starts)
        self.assertEqual('Too big.', made.waits['never'].reason)
        self.assertEqual({}, made.promises)

    def test_memory_that_comes_free_is_counted(self):
        nodes = {'n1': node(1, room={'MEMORY_MB': 1})}
        head = waiting('head', amounts={'MEMORY_MB': 4}, after={'n1': 2},
                       fits=())
        for amounts, start in (({'MEMORY_MB': 4}, NOW + 50),
                               ({'MEMORY_MB': 2}, None), ({}, NOW + 50)):
            runs = [running('r', NOW + 50, amounts=amounts)]
            self.assertEqual(start, plan(
                [head], nodes, runs).promises['head'].start)

    def test_scarce_models_are_left_to_those_who_need_them(self):
        nodes = {
            'n1': planner.Node('h1', (planner.Pool(
                'x', 1, frozenset(['any', 'rare']), 1),)),
            'n2': planner.Node('h2', (planner.Pool(
                'y', 4, frozenset(['any', 'common']), 4),))}
        made = plan([
            planner.Waiting('any', 1, {'any': 1}, {'n1': 8, 'n2': 8}),
            planner.Waiting('rare', 1, {'rare': 1}, {'n1': 8})], nodes,
            policy=planner.Policy('backfill', host_order='scarce'))
        self.assertEqual({'any': ['n2'], 'rare': ['n1']}, made.starts)

    def test_overdue_lease_ends_in_a_moment(self):
        made = plan([waiting('head', 2)], self.NODES, [running('r', 900)])
        self.assertEqual(NOW + 1, made.promises['head'].start)


class ConservativeTest(base.TestCase):
    POLICY = planner.Policy('conservative')

    def test_lost_host_and_a_later_promise(self):
        state = planner.State(
            {'n1': node(0), 'n2': node(0, host='h2')},
            [running('r', NOW + 50, 'n1', 2),
             running('s', NOW + 60, 'n2', 2)], self.POLICY)
        state.submit(waiting('lost', 2, ('n2',)))
        state.submit(waiting('head', 2))
        self.assertEqual({'lost', 'head'}, set(state.plan(NOW).promises))
        state.remove_node('n2')
        state.change_end('r', NOW + 90)
        made = state.plan(NOW)
        self.assertEqual({'head': NOW + 90}, {
            uuid: promise.start for uuid, promise in made.promises.items()})
        self.assertEqual(planner.WAIT_RESOURCES,
                         made.waits['lost'].reason_code)

    def test_smaller_gang_books_less(self):
        nodes = {uuid: node(0, 1, uuid) for uuid in ('n1', 'n2', 'n3')}
        for policy in ('conservative', 'backfill'):
            state = planner.State(nodes, [
                running('r' + uuid, NOW + 50, uuid) for uuid in nodes],
                planner.Policy(policy))
            state.submit(waiting('gang', 1, nodes, 3))
            state.plan(NOW)
            state.submit(waiting('gang', 1, nodes, 2))
            made = state.plan(NOW).promises['gang']
            self.assertEqual((NOW + 50, 2), (
                made.start, sum(made.nodes.values())))


class UnknownTest(base.TestCase):
    HICCUP = {'fits': (), 'after': {}, 'unknown': True, 'missing': 'No answer'}

    def test_promise_is_kept(self):
        for policy in ('backfill', 'conservative'):
            state = planner.State({'n1': node(1)}, [running('r', NOW + 50)],
                                  planner.Policy(policy))
            state.submit(waiting('head', 2))
            before = state.plan(NOW)
            state.submit(waiting('head', 2, **self.HICCUP))
            state.submit(waiting('long', queued_at=1))
            state.submit(waiting('vip', 3, priority=1))
            made = state.plan(NOW + 1)
            self.assertEqual({}, made.starts)
            self.assertEqual(before.promises['head'], made.promises['head'])
            self.assertEqual(['head', 'gpu', 2],
                             made.reservations['n1'][0])
            wait = made.waits['head']
            self.assertEqual(
                (planner.WAIT_RESOURCES, 'No answer', NOW + 50, True),
                (wait.reason_code, wait.reason, wait.expected,
                 wait.promised))
            # Its time has come and it still is not known: it does not
            # start, nor does anybody else there.
            state.end('r')
            self.assertEqual({}, state.plan(NOW + 50).starts)
            state.submit(waiting('head', 2))
            self.assertEqual({'head': ['n1']}, state.plan(NOW + 50).starts)

    def test_without_promise_nothing_is_kept(self):
        for policy in ('fifo', 'backfill', 'conservative'):
            made = plan([waiting('head', **self.HICCUP),
                         waiting('fits', unknown=True), waiting('other')],
                        {'n1': node(2)}, policy=planner.Policy(policy))
            self.assertNotIn('fits', made.starts)
            self.assertEqual(policy != 'fifo', 'other' in made.starts)
            self.assertEqual(('No answer', None, False), (
                made.waits['head'].reason, made.waits['head'].expected,
                made.waits['head'].promised))
            self.assertEqual((), made.preemptions)


class PreemptionTest(base.TestCase):
    POLICY = planner.Policy('backfill', preempt_grace=30)

    def plan(self, queue, nodes, runs, policy=POLICY):
        return plan(queue, nodes, runs, policy).preemptions

    def test_youngest_is_chosen_and_no_more_than_needed(self):
        runs = [running('old', None, preemptible=True, started_at=100),
                running('young', NOW + 900, preemptible=True,
                        started_at=900),
                running('safe', None, started_at=999)]
        nodes = {'n1': node(0, 3)}
        for policy in ('fifo', 'backfill', 'conservative'):
            policy = dataclasses.replace(self.POLICY, queue_policy=policy)
            self.assertEqual(('young',), self.plan(
                [waiting('g')], nodes, runs, policy))
            self.assertEqual({'young', 'old'}, set(self.plan(
                [waiting('g'), waiting('h')], nodes, runs, policy)))
            self.assertEqual((), self.plan(
                [waiting('g', preemptible=True)], nodes, runs, policy))
            self.assertEqual((), self.plan(
                [waiting('g', 3)], nodes, runs, policy))

    def test_one_big_rather_than_more(self):
        nodes = {'n1': node(0, 2), 'n2': node(0, 2, 'h2')}
        runs = [running('a', None, preemptible=True, started_at=990),
                running('b', None, preemptible=True, started_at=100),
                running('c', None, 'n2', 2, preemptible=True,
                        started_at=900)]
        self.assertEqual(('c',), self.plan(
            [waiting('g', 2, ('n1', 'n2'))], nodes, runs))

    def test_what_is_free_in_time_is_waited_for(self):
        runs = [running('p', None, preemptible=True),
                running('soon', NOW + 30)]
        nodes = {'n1': node(0, 2)}
        self.assertEqual((), self.plan([waiting('g')], nodes, runs))
        self.assertEqual(('p',), self.plan(
            [waiting('g'), waiting('h')], nodes, runs))

    def test_one_that_leaves_is_chosen_again(self):
        runs = [running('p', None, preemptible=True, started_at=1,
                        leaving=True),
                running('q', None, preemptible=True, started_at=999)]
        self.assertEqual(('p',), self.plan(
            [waiting('g')], {'n1': node(0, 2)}, runs))

    def test_gang_needs_several(self):
        nodes = {uuid: node(0, 1, uuid) for uuid in ('n1', 'n2', 'n3')}
        runs = [running('r' + uuid, None, uuid, preemptible=True,
                        started_at=int(uuid[1])) for uuid in nodes]
        self.assertEqual(('rn3', 'rn2'), self.plan(
            [waiting('g', 1, nodes, 2)], nodes, runs))
        self.assertEqual((), self.plan(
            [waiting('g', 1, nodes, 4)], nodes, runs))

    def test_only_lower_classes_make_room(self):
        nodes = {'n1': node(0)}
        runs = [running('high', None, preemptible=True, priority=50,
                        started_at=999),
                running('low', None, preemptible=True, priority=-10,
                        started_at=1)]
        for policy in ('fifo', 'backfill', 'conservative'):
            policy = dataclasses.replace(self.POLICY, queue_policy=policy)
            for weight, chosen in ((51, ('high',)), (50, ('low',)),
                                   (0, ('low',)), (-10, ())):
                self.assertEqual(chosen, self.plan(
                    [waiting('g', priority=weight)], nodes, runs, policy))

    def test_many_alike_in_front_that_find_nothing(self):
        nodes = {'n1': node(0), 'n2': node(0, 1, 'h2')}
        runs = [running('safe', None, gpu=2),
                running('p', None, 'n2', preemptible=True)]
        for policy in ('fifo', 'backfill', 'conservative'):
            policy = dataclasses.replace(self.POLICY, queue_policy=policy)
            self.assertEqual(('p',), self.plan(
                [waiting('big%d' % number, 2) for number in range(70)] +
                [waiting('g', 1, ('n2',))], nodes, runs, policy))


class WordsTest(base.TestCase):
    def test_reasons(self):
        # 2026-11-26 14:00 UTC
        now = 1795701600
        nodes = {'n1': planner.Node('h1', (planner.Pool(
            'p', 0, frozenset(['a100']), 2),))}
        queue = [planner.Waiting('r%d' % number, 1, {'a100': 2}, {'n1': 1},
                                 duration=3 * 3600) for number in range(5)]
        runs = [planner.Running('r', 'n1', {'p': 2}, now + 300)]
        waits = plan(queue, nodes, runs, now=now).waits
        self.assertEqual('waiting for 2 gpu:a100 on one host, expected '
                         '14:05 UTC', waits['r0'].reason)
        self.assertEqual('waiting for 2 gpu:a100 on one host, estimated '
                         '17:05 UTC, behind 1 request', waits['r1'].reason)
        self.assertEqual('waiting for 2 gpu:a100 on one host, estimated '
                         '2026-11-27 02:05 UTC, behind 4 requests',
                         waits['r4'].reason)
        self.assertEqual((now + 300, True, now + 3 * 3600 + 300, False), (
            waits['r0'].expected, waits['r0'].promised,
            waits['r1'].expected, waits['r1'].promised))


class FairShareTest(base.TestCase):
    def test_factors(self):
        self.assertEqual({'a': 0.5, 'b': 0.5},
                         fairshare.factors({'a': 10, 'b': 10}))
        self.assertEqual({'a': 0.25, 'b': 1.0},
                         fairshare.factors({'a': 10, 'b': 0}))
        self.assertEqual(
            {'a': 2 ** -0.8, 'b': 2 ** -1.6, 'c': 0.0},
            fairshare.factors({'a': 6, 'b': 4, 'c': 0.1 ** 9},
                              {'a': 3, 'b': 1, 'c': 0}) | {
                                  'a': 2 ** -0.8, 'b': 2 ** -1.6})

    def test_usage_fades(self):
        self.assertEqual(5, fairshare.decayed(10, 60, 60))
        self.assertEqual(10, fairshare.decayed(10, 60, 0))
        self.assertEqual(20, fairshare.used(2, 0, 10, 50, 0))
        self.assertEqual(0, fairshare.used(2, 60, 70, 50, 10))
        whole = fairshare.used(1, 0, 100, 100, 10)
        parts = sum(fairshare.decayed(
            fairshare.used(1, at, at + 10, at + 10, 10), 90 - at, 10)
            for at in range(0, 100, 10))
        self.assertAlmostEqual(whole, parts)
