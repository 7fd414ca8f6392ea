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


"""Between the rows and the planner: what it is asked, and what it answered.

Makes the planner's input of requests, leases, options and the survey, and
writes what the plan says to the rows. Nothing here starts or ends a server.
"""

import collections
import datetime
import functools

from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import planner
from nova_gpu_lease import priorities
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: After so many failed tries a request keeps nobody waiting meanwhile.
STUCK = 4
#: Ranks within a priority class, as the planner's weights: those whose start
#: failed come first.
RANKS = 2
#: A lease that is overdue ends in so many seconds, as far as is known.
SOON = 1
#: The columns that nobody but the owner of a request reads.
PASSING = frozenset(('reason', 'expected_start'))
#: An estimate on a row that is no further off, in seconds, is left there.
ABOUT = 10


@functools.lru_cache(maxsize=1)
def _classes(items):
    return priorities.parse(items)


def class_of(name):
    """The PriorityClass of a request, by the name on its row."""
    return priorities.find(_classes(tuple(CONF.gpu_lease.priorities)), name)


def policy():
    """The planner's Policy, as the options say."""
    conf = CONF.gpu_lease
    return planner.Policy(
        queue_policy=conf.queue_policy,
        reservation_depth=conf.reservation_depth,
        preempt_grace=conf.preemption_grace + conf.turnover)


def parts(waiting, leases, cells):
    """Which servers of each request start together: as a rule all of them.

    Those that are tried again are in a cell already, and stay there: each
    cell has its part of the request then, which is planned by itself.

    :param waiting: the rows of the queue.
    :param leases: {request id: its leases}.
    :param cells: {server id: id of its cell}; all others are in none.
    :returns: {request uuid: {name of the part: its waiting leases}}. The
        first part is named as its request.
    """
    result = {}
    for request in waiting:
        by_cell = {}
        for lease in leases[request.id]:
            if lease.state == states.LEASE_QUEUED:
                by_cell.setdefault(
                    cells.get(lease.server_id), []).append(lease)
        result[request.uuid] = {
            '%s/%d' % (request.uuid, number) if number else request.uuid: part
            for number, part in enumerate(by_cell.values())}
    return result


def questions(waiting, parts):
    """What the survey is asked: one entry a part of a request.

    :param waiting: the rows of the queue.
    :param parts: what parts() returned for them.
    """
    return [{'uuid': name, 'kind': request.kind,
             'server_id': leases[0].server_id, 'num_servers': len(leases),
             **(request.destination or {})}
            for request in waiting
            for name, leases in parts[request.uuid].items()]


def queue(waiting, parts, survey, over_quota, now):
    """The planner's queue.

    :param waiting: the rows of the queue, in its order.
    :param parts: what parts() returned for them.
    :param survey: the survey's answer; parts without one are left out.
    :param over_quota: {request uuid: reason}.
    :param now: the time, aware UTC.
    :returns: a list of Waiting, named as the parts.
    """
    result = []
    age = 0
    promised = set()
    for request in waiting:
        if request.resumes is None:
            # The clocks of the conductors that queued them may differ; the
            # numbers of the rows do not.
            age = max(age, request.queued_at.timestamp())
        # A start that failed is tried again before those that wait; one that
        # was let past a promise has no such right.
        first = request.priority not in promised
        for name, leases in parts[request.uuid].items():
            answer = survey['requests'].get(name)
            if answer is not None:
                result.append(_waiting(
                    name, request, leases, answer,
                    request.queued_at.timestamp() if request.resumes else age,
                    over_quota.get(request.uuid), first, now))
        if request.promise:
            promised.add(request.priority)
    return result


def _waiting(name, request, leases, answer, age, over_quota, first, now):
    failed = request.attempts or any(lease.build_attempts for lease in leases)
    held = (request.next_attempt_at is not None and
            request.next_attempt_at > now)
    known = class_of(request.priority)
    return planner.Waiting(
        uuid=name, num_servers=len(leases),
        devices=request.devices, fits=answer['fits'],
        after=answer.get('after'), amounts=answer.get('amounts'),
        together=answer.get('together', False), held=held,
        missing=answer.get('reason') or None,
        stuck=held and request.attempts >= STUCK,
        # Nova may not offer a host for a reason that we do not know.
        avoid=frozenset(lease.node_uuid for lease in leases
                        if lease.node_uuid and (
                            lease.build_attempts or request.attempts)),
        over_quota=over_quota,
        # From now to when the next one runs on its devices: it is built, and
        # after it somebody else is.
        duration=max(lease.duration for lease in leases) +
        2 * CONF.gpu_lease.turnover,
        priority=known.weight * RANKS + bool(first and failed),
        preemptible=known.preemptible, project=request.project_id,
        queued_at=age, unknown=answer.get('unknown', False))


def running(nodes, leases, now):
    """Who has devices, and until when.

    :param nodes: the nodes of the survey's answer.
    :param leases: the rows of leases_held().
    :param now: the time, aware UTC.
    :returns: a list of Running. Servers without a lease never end.
    """
    by_server = {lease.server_id: lease for lease in leases}
    result = []
    for uuid, node in nodes.items():
        devices = collections.defaultdict(dict)
        for server, key, count in node.get('held', ()):
            devices[server][key] = count
        for server, pools in devices.items():
            lease = by_server.get(server)
            amounts = node.get('amounts', {}).get(server, {})
            if lease is None:
                result.append(planner.Running(
                    server, uuid, pools, amounts=amounts))
                continue
            known = class_of(lease.priority)
            result.append(planner.Running(
                lease.uuid, uuid, pools, ends_at=free_at(lease, now),
                amounts=amounts,
                preemptible=(known.preemptible and
                             lease.state == states.LEASE_ACTIVE and
                             lease.reason_code !=
                             states.REASON_NOT_PREEMPTED),
                # One of the same class never ends it, failed or not.
                priority=known.weight * RANKS + RANKS - 1,
                started_at=(lease.started_at or now).timestamp(),
                leaving=lease.preempt_at is not None))
    return result


def free_at(lease, now):
    """When another server can run on the devices of a lease.

    :param lease: a row of leases_held().
    :param now: the time, aware UTC.
    :returns: seconds since the epoch; None if nobody knows.
    """
    turnover = CONF.gpu_lease.turnover
    soon = now.timestamp() + SOON
    if lease.state == states.LEASE_ERROR:
        # It could not be ended, and may not be for long.
        return None
    if lease.state == states.LEASE_BUILDING:
        # Not by us where Nova resizes it.
        began = lease.dispatched_at or lease.updated_at
        begins = max(began.timestamp() + turnover, now.timestamp())
        return begins + lease.duration + turnover
    ends = lease.expires_at
    if lease.state == states.LEASE_EXPIRING:
        ends = min(ends, lease.preempt_at or ends)
        if lease.next_attempt_at:
            ends = max(ends, lease.next_attempt_at)
    return max(ends.timestamp() + turnover, soon)


def promises(waiting):
    """{request uuid: Promise} of the last plan, as the rows have them."""
    return {request.uuid: planner.Promise(
                request.promise['start'], request.promise['nodes'],
                request.promise.get('late', ''))
            for request in waiting if request.promise}


def save(waiting, plan):
    """Write to the rows who waits for what, until when, and with whom.

    As long as a plan starts requests the next one follows at once: texts and
    estimates, which each start changes for all who wait, are left to that.

    :param waiting: the rows of the queue.
    :param plan: a Plan.
    """
    changes = []
    for request in waiting:
        wait = plan.waits.get(request.uuid)
        if wait is None:
            continue
        values = _noted(request, wait, plan.promises.get(request.uuid))
        differ = {name for name, value in values.items()
                  if getattr(request, name) != value}
        if differ and not (plan.starts and not wait.promised and
                           differ <= PASSING):
            changes.append((request, values))
    if changes:
        db.requests_note_waits(changes)


def _noted(request, wait, promise):
    """The columns of a waiting request."""
    values = {
        'queue_group': wait.group, 'promised': wait.promised,
        'expected_start': _time(wait.expected),
        'promise': promise and {'start': promise.start,
                                'nodes': promise.nodes, 'late': promise.late}}
    if wait.reason_code != planner.WAIT_RETRY:
        # Why the last try failed is on the row already.
        values.update(reason=wait.reason, reason_code=wait.reason_code)
    before, after = request.expected_start, values['expected_start']
    if (before and after and not wait.promised and not request.promised and
            abs((after - before).total_seconds()) <= ABOUT):
        values['expected_start'] = before
    return values


def _time(seconds):
    """A whole second of a plan, not before what it says.

    None where a calendar has no such time: leases of years add up.
    """
    if seconds is None:
        return None
    try:
        return datetime.datetime.fromtimestamp(
            -(-seconds // 1), datetime.timezone.utc)
    except (OverflowError, ValueError):
        return None


def save_preemptions(plan, leases, now):
    """Tell leases that they are to make room, or need not any more.

    :param plan: a Plan.
    :param leases: the rows of leases_held().
    :param now: the time, aware UTC.
    """
    grace = datetime.timedelta(seconds=CONF.gpu_lease.preemption_grace)
    chosen = set(plan.preemptions)
    told = False
    for lease in leases:
        if lease.state != states.LEASE_ACTIVE:
            continue
        if lease.uuid in chosen and lease.preempt_at is None:
            at = now + grace
            if at >= lease.expires_at:
                continue
            told |= db.lease_set(
                lease, preempt_at=at, reason_code=states.REASON_PREEMPTING,
                reason='At %s UTC the server makes room for a request of '
                'another priority class: it is shelved, and comes back by '
                'itself.' % at.strftime('%H:%M:%S'))
            LOG.info('Lease %(lease)s makes room at %(at)s.',
                     {'lease': lease.uuid, 'at': at.isoformat()},
                     instance_uuid=lease.server_id)
        elif (lease.uuid not in chosen and lease.preempt_at is not None and
              # Now, and not when the plan was begun.
              lease.preempt_at > clock.now()):
            db.lease_set(lease, preempt_at=None, reason=None,
                         reason_code=None)
            LOG.info('Lease %s need not make room any more.', lease.uuid,
                     instance_uuid=lease.server_id)
    if told:
        # Who ends leases is to know the time.
        db.wake()
