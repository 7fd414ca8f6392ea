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


import copy
from unittest import mock

import hypothesis
from hypothesis import strategies as st
from nova.scheduler.filters import pci_passthrough_filter
from oslo_utils import uuidutils

from nova_gpu_lease.db import api as db
from nova_gpu_lease.scheduler import devices
from nova_gpu_lease.scheduler import filters
from tests.unit.scheduler import hosts
from tests.unit.scheduler.hosts import pool

A, B = hosts.node_uuid('a'), hosts.node_uuid('b')


class FilterTestCase(hosts.TestCase):
    def setUp(self):
        super().setUp()
        self.filter = filters.GPULeaseFilter()

    def passed(self, states, spec):
        """The names of the hosts that pass."""
        return [host.host for host in self.filter.filter_all(states, spec)]

    @staticmethod
    def free(host, alias):
        wanted = hosts.spec(**{alias: 1}).pci_requests.requests[0]
        return sum(pool['count'] for pool in host.pci_stats.pools
                   if devices.matching(pool, {alias: wanted}))


class GPULeaseFilterTest(FilterTestCase):
    def test_waiting_request_keeps_all_of_its_alias(self):
        db.plan_save({A: [['other', 'gpu', None]]})
        for alias, expected in (('gpu', ['b']), ('big', ['a'])):
            states = [hosts.host('a', [pool('gpu', 4), pool('big', 1)]),
                      hosts.host('b', [pool('gpu', 1)])]
            self.assertEqual(
                expected, self.passed(states, hosts.spec(**{alias: 1})))

    def test_count_of_devices_is_kept(self):
        db.plan_save({A: [['one', 'gpu', 2], ['two', 'gpu', 1]]})
        state = hosts.host('a', [pool('gpu', 4)])
        self.assertEqual(['a'], self.passed([state], hosts.spec(gpu=1)))
        self.assertEqual([], self.passed([state], hosts.spec(gpu=2)))

    def test_less_is_free_than_kept(self):
        db.plan_save({A: [['one', 'gpu', 3]]})
        for alias, expected in (('gpu', []), ('nic', ['a'])):
            state = hosts.host('a', [pool('gpu', 2), pool('nic', 1)])
            self.assertEqual(
                expected, self.passed([state], hosts.spec(**{alias: 1})))

    def test_devices_that_serve_a_kept_alias_are_kept(self):
        db.plan_save({A: [['one', 'any', None]]})
        state = hosts.host('a', [pool('gpu', 2)])
        self.assertEqual([], self.passed([state], hosts.spec(gpu=1)))

    def test_candidates_of_kept_devices_are_dropped(self):
        db.plan_save({A: [['one', 'big', None]]})
        gpu, big = uuidutils.generate_uuid(), uuidutils.generate_uuid()
        spec = hosts.spec(any=1)
        group = '%s-0' % spec.pci_requests.requests[0].request_id
        state = hosts.host(
            'a', [pool('big', 1, rp_uuid=big), pool('gpu', 1, rp_uuid=gpu)],
            [{'': [A], group: [big]}, {'': [A], group: [gpu]}])
        self.assertEqual(['a'], self.passed([state], spec))
        self.assertEqual([{'': [A], group: [gpu]}],
                         [candidate['mappings'] for candidate
                          in state.allocation_candidates])

    def test_gang_passes_on_all_of_its_nodes(self):
        servers = [uuidutils.generate_uuid() for _ in range(3)]
        leases = self.place(*servers)
        for lease, node in zip(leases, (A, A, B)):
            db.lease_set(lease, node_uuid=node)
        states = [hosts.host(name, [pool('gpu', 2)]) for name in 'abc']
        for server in servers:
            self.assertEqual(
                ['a', 'b'], self.passed(states, hosts.spec(server, gpu=1)))

    def test_planned_request_may_take_what_is_kept(self):
        server = uuidutils.generate_uuid()
        self.place(server, lease={'node_uuid': A})
        db.plan_save({A: [['later', 'gpu', None]]})
        state = hosts.host('a', [pool('gpu', 1)])
        self.assertEqual(
            ['a'], self.passed([state], hosts.spec(server, gpu=1)))
        # But only what is there.
        self.assertEqual(
            [], self.passed([state], hosts.spec(server, gpu=2)))

    def test_move_of_running_lease_takes_nothing_kept(self):
        server = uuidutils.generate_uuid()
        self.activate(server, lease={'node_uuid': A})
        db.plan_save({B: [['waiting', 'gpu', None]]})
        states = [hosts.host(name, [pool('gpu', 1)]) for name in 'bc']
        self.assertEqual(
            ['c'], self.passed(states, hosts.spec(server, gpu=1)))

    def test_resize_into_gpu_takes_nothing_kept(self):
        """Its lease is being made, but was planned nowhere."""
        server = uuidutils.generate_uuid()
        self.queue(server, kind='resize', initial={
            'state': 'PLACED', 'lease_state': 'BUILDING'})
        db.plan_save({B: [['waiting', 'gpu', None]]})
        states = [hosts.host(name, [pool('gpu', 1)]) for name in 'abc']
        self.assertEqual(
            ['a', 'c'], self.passed(states, hosts.spec(server, gpu=1)))

    def test_one_query_for_all_hosts_and_none_without_gpu(self):
        self.flags(aliases=['gpu', 'big', 'any'])
        states = [hosts.host(name, [pool('gpu'), pool('nic')])
                  for name in 'abcdef']
        with mock.patch.object(db, 'scheduling_view',
                               wraps=db.scheduling_view) as view:
            self.passed(states, hosts.spec(nic=1))
            self.passed(states, hosts.spec())
            self.assertEqual(0, view.call_count)
            self.passed(states, hosts.spec(gpu=1))
            self.assertEqual(1, view.call_count)

    def test_answer_that_nobody_waits_for(self):
        """The scheduler was slow: the request waits again, or is gone."""
        state = hosts.host('a', [pool('gpu', 1)])
        waits, gone, moved, other = (
            uuidutils.generate_uuid() for _ in range(4))
        self.queue(waits)
        request = self.queue(gone)
        db.request_transition(request, 'CANCELLED', 'here',
                              lease_state='CANCELLED')
        lease, = self.activate(moved)
        db.lease_transition(lease, 'RELEASED', 'here')
        for server, passed in ((waits, []), (gone, []), (moved, ['a']),
                               (other, ['a'])):
            spec = hosts.spec(server, gpu=1)
            spec.scheduler_hints = {'gpu_lease': ['1h']}
            self.assertEqual(passed, self.passed([state], spec))

    def test_rebuild_passes(self):
        db.plan_save({A: [['waiting', 'gpu', None]]})
        spec = hosts.spec(gpu=1)
        spec.scheduler_hints = {'_nova_check_type': ['rebuild']}
        state = hosts.host('a', [pool('gpu', 0)])
        self.assertEqual(['a'], self.passed([state], spec))


@st.composite
def situations(draw):
    """Hosts and a request, with or without devices in Placement."""
    in_placement = draw(st.booleans())
    counts = draw(st.dictionaries(
        st.sampled_from(sorted(hosts.SPECS)), st.integers(1, 3), max_size=2))
    spec = hosts.spec(**counts)
    groups = ['%s-%d' % (request.request_id, number)
              for request in spec.pci_requests.requests
              for number in range(request.count)]
    states = []
    for number in range(draw(st.integers(0, 3))):
        name = 'abc'[number]
        pools = []
        for _ in range(draw(st.integers(0, 4))):
            tags = {'rp_uuid': uuidutils.generate_uuid()} if (
                in_placement) else {}
            pools.append(pool(
                draw(st.sampled_from(sorted(hosts.ALIASES))),
                draw(st.integers(1, 3)),
                draw(st.sampled_from([0, 1, None])), **tags))
        # One more provider, whose device Nova does not think is free.
        providers = [entry['rp_uuid'] for entry in pools
                     if in_placement] + [uuidutils.generate_uuid()]
        candidates = [
            {'': [hosts.node_uuid(name)],
             **{group: [draw(st.sampled_from(providers))]
                for group in groups if in_placement}}
            for _ in range(draw(st.integers(0, 4)))]
        states.append(hosts.host(name, pools, candidates))
    if draw(st.integers(0, 5)) == 0:
        spec.pci_requests = None
    return states, spec


reservations = st.dictionaries(
    st.sampled_from([A, B]),
    st.lists(st.tuples(st.just('request'),
                       st.sampled_from(sorted(hosts.SPECS)),
                       st.none() | st.integers(1, 3)).map(list),
             min_size=1, max_size=2),
    min_size=1)


class GPULeaseFilterPropertyTest(FilterTestCase):
    @staticmethod
    def outcome(filter_, states, spec):
        states = copy.deepcopy(states)
        return [(host.host, host.allocation_candidates)
                for host in filter_.filter_all(states, spec)]

    @hypothesis.settings(deadline=None)
    @hypothesis.given(situations())
    def test_is_as_nova_while_nothing_waits(self, situation):
        states, spec = situation
        self.assertEqual(
            self.outcome(pci_passthrough_filter.PciPassthroughFilter(),
                         states, spec),
            self.outcome(self.filter, states, spec))

    @hypothesis.settings(deadline=None)
    @hypothesis.given(situations(), reservations)
    def test_devices_next_for_others_are_kept(self, situation, kept):
        db.plan_save(kept)
        states, spec = situation
        spec = spec.obj_clone()
        stock = dict(self.outcome(
            pci_passthrough_filter.PciPassthroughFilter(), states, spec))
        ours = dict(self.outcome(self.filter, states, spec))
        requests = spec.pci_requests.requests if spec.pci_requests else []
        for host in states:
            allowed = [
                candidate for candidate in stock.get(host.host, ())
                if not requests or self._spares(
                    host, requests, candidate, kept.get(host.uuid, ()))]
            self.assertEqual(allowed, ours.get(host.host, []))

    def _spares(self, host, requests, candidate, kept):
        after = copy.deepcopy(host)
        after.pci_stats.apply_requests(requests, candidate['mappings'])
        for alias in {alias for _request, alias, _count in kept}:
            counts = [count for _request, name, count in kept
                      if name == alias]
            free = self.free(host, alias)
            floor = free if None in counts else min(free, sum(counts))
            if self.free(after, alias) < floor:
                return False
        return True
