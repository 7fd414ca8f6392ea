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


"""GET /os-gpu-leases; GET, PATCH and DELETE /os-gpu-leases/{id}."""

from nova import context as nova_context
from nova import exception as nova_exception
from oslo_log import log as logging

from nova_gpu_lease.api import body
from nova_gpu_lease.api import query
from nova_gpu_lease.api.schemas import lease as schema
from nova_gpu_lease.api import views
from nova_gpu_lease import changes
from nova_gpu_lease import clock
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import shelved
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import exception
from nova_gpu_lease.policies import gpu_leases as policies
from nova_gpu_lease import policy
from nova_gpu_lease import priorities
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: What to do about a lease that does not wait, by its state.
_ADVICE = {
    states.LEASE_BUILDING: 'its server is being started; shelve or delete '
                           'the server when it runs',
    states.LEASE_ACTIVE: 'shelve or delete its server to end it',
    states.LEASE_EXPIRING: 'its server is being shelved or deleted already',
    states.LEASE_ERROR: 'shelve or delete its server to end it',
}

#: How often a change of a lease that others change too is tried.
_TRIES = 5

_FILTERS = ('status', 'project_id', 'user_id', 'server_id')


def index(req, context):
    """List leases.

    :returns: {'gpu_leases': [...]} with 'gpu_leases_links' when there are
        more.
    """
    policy.authorize(context, policies.INDEX)
    params = query.parse(req, schema.INDEX)
    limit = query.limit(params)
    leases = db_api.leases_list(
        _filters(context, params), _sort(params), limit + 1,
        params.get('marker'))
    body = {'gpu_leases': views.leases(context, leases[:limit])}
    if len(leases) > limit:
        body['gpu_leases_links'] = query.next_links(
            req, leases[limit - 1].uuid)
    return body


def show(req, context, id):
    """Show one lease.

    :param id: a lease, or a server: its current lease, else its latest.
    :returns: {'gpu_lease': {...}}
    :raises: exception.LeaseNotFound also for what the user may not see.
    """
    query.parse(req, schema.ONE)
    lease = _find(context, policies.SHOW, id)
    return {'gpu_lease': views.leases(context, [lease])[0]}


def change(req, context, id):
    """Change a lease that waits or runs: all that is asked for, or nothing.

    :param id: as in show().
    :returns: {'gpu_lease': {...}} as it is then.
    :raises: exception.LeaseNotFound also for what the user may not see.
        exception.InvalidInput, LengthRefused, PriorityForbidden,
        NotChangeable, NotWaiting
    """
    query.parse(req, schema.ONE)
    lease = _find(context, policies.UPDATE, id)
    wanted = body.parse(req, schema.CHANGE, 'gpu_lease')
    target = {'project_id': lease.project_id, 'user_id': lease.user_id}
    if 'duration' in wanted:
        policy.authorize(context, policies.EXTEND, target)
    told = 'user %s sets %s' % (context.user_id, ', '.join(
        '%s=%s' % item for item in sorted(wanted.items())))
    for _ in range(_TRIES):
        columns = _columns(context, lease, wanted, target)
        try:
            lease = db_api.lease_change(lease, CONF.host, told, *columns)
        except exception.StaleState:
            LOG.debug('Lease %s was changed by somebody else.', lease.uuid)
            lease = db_api.lease_get(lease.uuid)
        else:
            LOG.info('Lease %(lease)s: %(told)s.',
                     {'lease': lease.uuid, 'told': told},
                     instance_uuid=lease.server_id)
            return {'gpu_lease': views.leases(context, [lease])[0]}
    raise exception.NotChangeable(
        id=lease.uuid, state=lease.state,
        advice='others change it at the same time; try again')


def _columns(context, lease, wanted, target):
    """What a change sets.

    :param wanted: the checked body.
    :param target: what the policy is asked about.
    :returns: a tuple of the columns of the lease and those of its request.
    """
    changes.check_open(lease)
    of_lease = {name: wanted[name] for name in ('on_expiry', 'auto_extend')
                if name in wanted}
    if 'duration' in wanted:
        of_lease.update(changes.duration_of(lease, wanted['duration']))
    of_request = {}
    if 'priority' in wanted:
        of_request = changes.priority_of(
            lease, wanted['priority'],
            priorities.parse(CONF.gpu_lease.priorities))
        policy.authorize_priority(context, wanted['priority'], target)
    return of_lease, of_request


def cancel(req, context, id):
    """Take a server that waits to be unshelved out of the queue.

    To do it again changes nothing.

    :param id: as in show().
    :raises: exception.LeaseNotFound also for what the user may not see.
        exception.NewServerWaits, NotWaiting
    """
    query.parse(req, schema.ONE)
    lease = _find(context, policies.CANCEL, id)
    while not _is_cancelled(lease):
        _check_waits(lease)
        try:
            db_api.request_transition(
                lease.request, states.REQUEST_CANCELLED, CONF.host,
                reason='its wait was cancelled',
                reason_code=states.REASON_CANCELLED,
                lease_state=states.LEASE_CANCELLED, lease_values={
                    # Until the server is free, whoever sees to that.
                    lease.server_id: {'next_attempt_at': clock.now()}})
        except exception.StaleState:
            # It starts, or somebody else cancels it: whoever was first.
            LOG.debug('Lease %s was changed by somebody else.', lease.uuid)
        else:
            LOG.info('Lease %(lease)s is cancelled by user %(user)s.',
                     {'lease': lease.uuid, 'user': context.user_id},
                     instance_uuid=lease.server_id)
        lease = db_api.lease_get(lease.uuid)
    _free(lease)


def _is_cancelled(lease):
    return (lease.state == states.LEASE_CANCELLED and
            lease.reason_code == states.REASON_CANCELLED)


def _check_waits(lease):
    """Make sure that a lease can be cancelled.

    :raises: exception.NewServerWaits, NotWaiting
    """
    state = lease.state
    if (state == states.LEASE_QUEUED and
            lease.request.state != states.REQUEST_QUEUED):
        # A start that is being taken back.
        state = states.LEASE_BUILDING
    if state != states.LEASE_QUEUED:
        raise exception.NotWaiting(
            id=lease.uuid, state=state,
            advice=_ADVICE.get(state, 'it is over'))
    if lease.request.kind != states.KIND_UNSHELVE:
        raise exception.NewServerWaits(
            id=lease.uuid, server_id=lease.server_id)


def _free(lease):
    """Let the owner act on the server again, at once if possible."""
    try:
        instance = records.find_instance(
            nova_context.get_admin_context(), lease.server_id)
        shelved.free(instance, lease.request.context['request_id'])
    except nova_exception.InstanceNotFound:
        LOG.debug('The server was deleted.', instance_uuid=lease.server_id)
    except Exception as exc:
        # It is cancelled, whatever is wrong here.
        LOG.warning('A server whose wait to be unshelved was cancelled is '
                    'still marked as busy; nova-conductor sees to it: %s',
                    exc, instance_uuid=lease.server_id)


def _find(context, rule, id):
    """A lease that the user may do something to.

    :param rule: the policy rule that says so.
    :raises: exception.LeaseNotFound for what is not there, or neither the
        user's own nor allowed.
    """
    lease = db_api.lease_get(id)
    target = {'project_id': lease.project_id, 'user_id': lease.user_id}
    foreign = lease.project_id != context.project_id
    if not policy.authorize(context, rule, target, do_raise=not foreign):
        raise exception.LeaseNotFound(id=id)
    return lease


def _filters(context, params):
    filters = {name: params[name] for name in _FILTERS if name in params}
    if 'expires_before' in params:
        filters['expires_before'] = query.time(params['expires_before'])
    if query.all_projects(params) or \
            params.get('project_id', context.project_id) != \
            context.project_id:
        policy.authorize(context, policies.INDEX_ALL_PROJECTS)
    else:
        filters['project_id'] = context.project_id
    return filters


def _sort(params):
    pairs = []
    for item in filter(None, params.get('sort', '').split(',')):
        key, _, direction = item.partition(':')
        pairs.append((key, direction or 'asc'))
    return pairs
