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
"""One request through Nova's filters and weighers, without and with ours.

Both take turns in one process, and CPU time is measured, so that whatever else
the machine does hurts neither; the ratio of the medians is what is reported.
The result of both is the same kind of list; whether it is the right one is for
tests/ to say.
"""

import gc
import random
import statistics
import time
import uuid

import sqlalchemy as sa  # noqa: G303  only to count statements

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import coordination
from nova_gpu_lease.planner import score
from perf.gpu import errors
from perf.scheduler import cloud

#: Pairs of rounds of one case, and after how many
#: CPU seconds five of them are enough.
ROUNDS = 11
SECONDS = 8
#: What is scheduled: a server without a GPU; one with, while nobody waits and
#: while others do; the same where every host has free GPUs of the model, so
#: that all pass; one whose lease is being built; one that is moved.
CASES = ('no_gpu', 'gpu', 'gpu_while_others_wait', 'gpu_on_all_hosts',
         'gpu_on_all_hosts_while_others_wait', 'planned', 'moved')


class Statements:
    """Counts what our database is asked."""

    def __init__(self):
        self.count = 0
        sa.event.listen(_engine.get_engine(), 'before_cursor_execute',
                        self._seen)

    def _seen(self, connection, cursor, statement, *rest):
        # oslo.db begins SQLite's transactions itself.
        self.count += statement != 'BEGIN'


def measure(sizes, progress):
    """All cases at all sizes.

    :param sizes: numbers of hosts.
    :param progress: a function that is told what is measured now.
    :returns: {'pair' or 'whole': {case: {hosts: figures}}}: 'pair' is our
        filter and weigher against PciPassthroughFilter and PCIWeigher,
        'whole' the same with Nova's other filters and weighers around them.
    """
    statements = Statements()
    results = {}
    for kind in ('pair', 'whole'):
        stock, ours = cloud.schedulers(kind == 'whole')
        for case in CASES:
            for size in sizes:
                progress('%s/%s: %d hosts' % (kind, case, size))
                results.setdefault(kind, {}).setdefault(case, {})[
                    str(size)] = _compare(stock, ours, case, size, statements)
    return results


def _compare(stock, ours, case, size, statements):
    """Take turns.

    :returns: a dict of the medians in CPU seconds, their ratio and the number
        of our statements for one request.
    """
    states = cloud.states(size, everywhere='all_hosts' in case)
    server_id = _prepare(case, states)
    # Once each to warm up; what both do the first time is not per request.
    for scheduler in (stock, ours):
        _once(scheduler, case, states, server_id)
    times = {'stock': [], 'ours': []}
    begun = time.process_time()
    counted = statements.count
    while len(times['ours']) < ROUNDS and (
            len(times['ours']) < 5 or time.process_time() - begun < SECONDS):
        turns = [('stock', stock), ('ours', ours)]
        random.shuffle(turns)
        for name, scheduler in turns:
            times[name].append(_once(scheduler, case, states, server_id))
    rounds = len(times['ours'])
    medians = {name: statistics.median(some) for name, some in times.items()}
    return {'stock_s': medians['stock'], 'ours_s': medians['ours'],
            'ratio': medians['ours'] / medians['stock'], 'rounds': rounds,
            'statements': (statements.count - counted) / rounds}


def _once(scheduler, case, states, server_id):
    """The CPU seconds of one request."""
    spec = cloud.request(server_id, 0 if case == 'no_gpu' else 1)
    cloud.offer(states, spec)
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        found = scheduler.sort(spec, states)
        taken = time.process_time() - begun
    finally:
        gc.enable()
    if not found:
        raise errors.PerfError(
            'No host passed the filters (%s): nothing was measured.' % case)
    return taken


def _prepare(case, states):
    """Write the plan and the lease that a case is about.

    :returns: the uuid of the server to schedule.
    """
    with_gpus = [state.uuid for state in states if state.pci_stats.pools]
    reservations = {}
    rng = random.Random(1)
    if 'others_wait' in case:
        # All that is free on half of the hosts is next for somebody.
        reservations = {node: [['request', model, None]
                               for model in sorted(cloud.MODELS)]
                        for node in with_gpus if rng.random() < 0.5}
    now = score.era(time.time())
    coordination._plan_write(reservations, {
        node: now + rng.randrange(100) for node in with_gpus})
    if case in ('planned', 'moved'):
        return cloud.lease(_free(states), active=case == 'moved')
    # A server without a lease: one that waits is not scheduled.
    return str(uuid.uuid4())


def _free(states):
    """The last node with a free device of the model that is asked for."""
    return next(state.uuid for state in reversed(states) if any(
        pool['product_id'] == cloud.MODELS['a100']
        for pool in state.pci_stats.pools))
