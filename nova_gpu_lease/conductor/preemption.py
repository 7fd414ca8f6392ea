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


"""Leases that make room before their end: how they end, and come back.

A server of a preemptible class is shelved by the expirer as at the end of its
lease. Then it waits again, without a call of its owner, for what is left of
its time, in the place that it had in the queue.
"""

import copy

from nova.compute import instance_actions
from nova.compute import task_states
from nova import exception as nova_exception
from nova import objects
from oslo_context import context as oslo_context
from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import endings
from nova_gpu_lease.conductor import payload
from nova_gpu_lease.db import api as db
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: What is left of a lease is not worth a start below this, in seconds.
SHORTEST = 1


def begin_due(actor):
    """Begin the ends of the leases that are to make room now.

    :param actor: the name of this service's host.
    """
    for lease in db.leases_preempting():
        if lease.preempt_at > clock.now():
            continue
        try:
            db.lease_transition(
                lease, states.LEASE_EXPIRING, actor,
                reason='it makes room for a request of another priority '
                'class', reason_code=states.REASON_PREEMPTING,
                # It may have been withdrawn meanwhile.
                exact=True)
        except exception.StaleState:
            LOG.debug('Lease %s was changed by somebody else.', lease.uuid)


def or_end(lease):
    """A lease that is being ended: after its own end that is an end as any.

    :param lease: a models.Lease that is EXPIRING or ERROR.
    :returns: the models.Lease as it is now.
    """
    if lease.preempt_at is None or lease.expires_at > clock.now():
        return lease
    db.lease_set(lease, preempt_at=None)
    return db.lease_get(lease.uuid)


def resume(lease, instance, actor):
    """Close a lease that made room, and have its server wait again.

    :param lease: a models.Lease whose server is shelved and offloaded.
    :param instance: the Instance, not busy, with the context of its cell.
    :param actor: the name of this service's host.
    :returns: whether it waits again; else nothing is left of its time, or
        nothing lets us act for its owner, who has to unshelve it.
    :raises: exception.StaleState
    """
    left = int((lease.expires_at - lease.preempt_at).total_seconds())
    if left < SHORTEST or lease.stand_in:
        return False
    old = db.request_get(lease.request.uuid)
    context = dict(old.context, request_id=oslo_context.generate_request_id())
    _start_action(old, instance, context['request_id'])
    request = db.lease_preempted(
        lease, actor, _request(old, lease, context),
        _lease(lease, left),
        '%s, and its server waits again for the %s that are left' % (
            endings.why(lease)[1], duration.format(left)))
    LOG.info('Lease %(lease)s made room; its server waits again as request '
             '%(request)s, for %(left)s.',
             {'lease': lease.uuid, 'request': request.uuid,
              'left': duration.format(left)}, instance=instance)
    instance.task_state = task_states.UNSHELVING
    try:
        instance.save(expected_task_state=[None])
    except (nova_exception.InstanceNotFound,
            nova_exception.UnexpectedTaskStateError) as exc:
        # Its owner deletes it, or wants to unshelve it too.
        LOG.debug('Left as it is: %s', exc, instance=instance)
    return True


def _start_action(request, instance, request_id):
    """Begin the action of an unshelve, as otherwise Nova's API does.

    Nova's compute ends it, and the owner sees what happened.
    """
    context = copy.copy(instance._context)
    context.user_id = request.user_id
    context.project_id = request.project_id
    context.request_id = request_id
    objects.InstanceAction.action_start(
        context, instance.uuid, instance_actions.UNSHELVE, want_result=False)


def _request(old, lease, context):
    """The columns of the request that starts a server again."""
    return {
        'kind': states.KIND_UNSHELVE,
        'project_id': old.project_id,
        'user_id': old.user_id,
        'priority': old.priority,
        'devices': lease.devices,
        'queued_at': old.queued_at,
        'resumes': old.resumes or old.id,
        'queue_group': old.queue_group,
        'reason': 'It made room for a request of another priority class.',
        'reason_code': states.REASON_PREEMPTED,
        'payload': payload.bare(),
        'context': context,
        'trust_id': old.trust_id,
        'token': old.token,
        'credentials': old.credentials,
    }


def _lease(lease, left):
    """The columns of the lease that goes on with what was left of one."""
    used = lease.preempt_at - lease.started_at
    return {
        'server_id': lease.server_id,
        'server_name': lease.server_name,
        'flavor': lease.flavor,
        'duration': left,
        'max_duration': lease.max_duration and max(
            left, lease.max_duration - int(used.total_seconds())),
        'on_expiry': lease.on_expiry,
        'auto_extend': lease.auto_extend,
    }


def give_up(lease, values, actor):
    """Leave a server alone that could not be shelved to make room.

    It has time left, and is not chosen again.

    :param lease: a models.Lease that is EXPIRING.
    :param values: the columns that the last try set.
    :param actor: the name of this service's host.
    :returns: whether that was so.
    :raises: exception.StaleState
    """
    if lease.preempt_at is None:
        return False
    LOG.warning('%s. It was to make room before the end of its lease, and '
                'goes on instead.', values['reason'],
                instance_uuid=lease.server_id)
    db.lease_transition(
        lease, states.LEASE_ACTIVE, actor, preempt_at=None, attempts=0,
        outages=0, attempt_started_at=None, next_attempt_at=None,
        last_error=values['last_error'], reason=values['reason'],
        reason_code=states.REASON_NOT_PREEMPTED)
    return True
