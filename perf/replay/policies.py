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


"""The policies that can be compared, by name."""

import dataclasses

from nova_gpu_lease import planner
from nova_gpu_lease.planner import backfill
from nova_gpu_lease.planner import score
from perf.gpu import errors

#: What an option of nova.conf can choose, and peers that say what each part
#: of the default is worth. ``fifo``, ``easy`` and ``sjf`` choose hosts as
#: simulators of others do, so that their starts can be compared.
POLICIES = {
    'fifo': (planner.Policy(
        queue_policy='fifo', host_order='reference'),
        'first come first served; nobody passes a blocked request'),
    'easy': (planner.Policy(
        queue_policy='backfill', reservation_depth=1, backfill_order='age',
        host_order='reference'),
        'EASY backfill: the head is protected, others are tried by age'),
    'backfill': (planner.Policy(
        queue_policy='backfill'),
        'the default: the head is protected, others are tried by length'),
    'conservative': (planner.Policy(
        queue_policy='conservative', backfill_order='age'),
        'everybody is protected'),
    'sjf': (planner.Policy(
        queue_policy='backfill', reservation_depth=0,
        backfill_order='shortest', host_order='reference'),
        'shortest lease first; nobody is protected'),
}


def parse(text):
    """Policies by their names.

    A name may be followed by changes: ``backfill:depth=4``,
    ``backfill:hosts=pack``, ``easy:order=shortest``.

    :param text: names joined by commas.
    :returns: {name: Policy}.
    :raises: PerfError that says which names there are.
    """
    found = {}
    for name in text.split(','):
        base, *changes = name.strip().split(':')
        if base not in POLICIES:
            raise errors.PerfError("There is no policy '%s'; there are %s." % (
                base, ', '.join(POLICIES)))
        policy = POLICIES[base][0]
        for change in changes:
            policy = _change(policy, change)
        found[name.strip()] = policy
    return found


def _change(policy, text):
    key, _, value = text.partition('=')
    if key == 'depth' and value.isdigit():
        return dataclasses.replace(policy, reservation_depth=int(value))
    if key == 'order' and value in backfill.WEIGHTS:
        return dataclasses.replace(policy, backfill_order=value)
    if key == 'hosts' and value in score.ORDERS:
        return dataclasses.replace(policy, host_order=value)
    raise errors.PerfError(
        "'%s' changes no policy; depth=NUMBER, order=%s and hosts=%s do." % (
            text, '|'.join(backfill.WEIGHTS), '|'.join(score.ORDERS)))
