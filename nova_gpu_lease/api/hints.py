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


"""The check of a server's hints, before Nova writes anything.

When it is created, and when it is resized to a flavor with a GPU.

What is not our concern, or not well-formed, passes: Nova answers that, and
better.
"""

from nova.api.openstack import common
from nova import exception as nova_exception
from nova import objects
from oslo_config import cfg

from nova_gpu_lease.conductor import records
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import policy
from nova_gpu_lease import secrets
from nova_gpu_lease import terms

CONF = cfg.CONF

# As in nova.api.openstack.compute.servers: the first one present counts.
_HINT_KEYS = ('os:scheduler_hints', 'OS-SCH-HNT:scheduler_hints')


def check_create(context, body):
    """Check a request for new servers.

    :param context: the user's nova.context.RequestContext.
    :param body: the decoded JSON of the request, whatever it is.
    :returns: the terms.Terms of each of the servers' leases; None when they
        get none, or when Nova is going to refuse the request.
    :raises: exception.InvalidHint, InvalidExtraSpec, LeaseRequired,
        NoEncryptionKey, TooManyWaiting, PriorityForbidden
    """
    server = body.get('server') if isinstance(body, dict) else None
    if not isinstance(server, dict):
        return None
    hints = _hints(body)
    count = _count(server)
    flavor = _flavor(context, server)
    if hints is None or count is None or flavor is None:
        return None
    found = terms.resolve(hints, flavor.extra_specs, CONF.gpu_lease)
    if found is not None:
        policy.authorize_priority(context, found.priority)
        _check_secrets(server)
        _check_waiting(context, count)
    return found


def check_action(context, server_id, body):
    """Check a resize to a flavor with a GPU; everything else passes.

    Nova keeps the hints that a server was created with. None can be given
    with a resize.

    :param context: the user's nova.context.RequestContext.
    :param server_id: the server, as in the path of the request.
    :param body: the decoded JSON of the request, whatever it is.
    :raises: exception.ResizeRefused, InvalidExtraSpec, PriorityForbidden
    """
    resize = body.get('resize') if isinstance(body, dict) else None
    flavor = _flavor(context, resize) if isinstance(resize, dict) else None
    if flavor is None or not terms.is_gpu_flavor(
            flavor.extra_specs, CONF.gpu_lease):
        return
    spec = records.spec_of(context, server_id)
    if spec is None:
        return
    if not context.is_admin and spec.project_id != context.project_id:
        # Nova says that there is no such server.
        return
    hints = spec.scheduler_hints if 'scheduler_hints' in spec else {}
    try:
        found = terms.resolve(hints, flavor.extra_specs, CONF.gpu_lease)
    except exception.LeaseRequired:
        raise exception.ResizeRefused(
            flavor=flavor.name, reason='servers with it need a lease, and '
            'this one was created without the hint %s. Create a new server '
            'with it, for example %s=2h.' % (terms.HINT, terms.HINT))
    except exception.InvalidHint as exc:
        raise exception.ResizeRefused(flavor=flavor.name,
                                      reason=exc.format_message())
    if found is None:
        return
    # It counts when the server is unshelved.
    policy.authorize_priority(context, found.priority)
    if found.max_duration is not None:
        _check_length(server_id, flavor, found.max_duration)


def _check_length(server_id, flavor, limit):
    """A lease goes on with a new flavor, if it may be as long with it."""
    lease = db_api.lease_current(server_id)
    if lease is None or not lease.expires_at:
        return
    length = (lease.expires_at - lease.started_at).total_seconds()
    if length > limit:
        raise exception.ResizeRefused(
            flavor=flavor.name, reason='the lease of the server is %s long; '
            'the longest with it is %s.' % (
                duration.format(round(length)), duration.format(limit)))


def _hints(body):
    for key in _HINT_KEYS:
        if key in body:
            return body[key] if isinstance(body[key], dict) else None
    return {}


def _count(server):
    """How many servers Nova makes at most; None when it will refuse."""
    try:
        at_least = int(server.get('min_count', 1))
        at_most = int(server.get('max_count', at_least))
    except (TypeError, ValueError):
        return None
    return at_most if 0 < at_least <= at_most else None


def _flavor(context, server):
    ref = server.get('flavorRef')
    if not isinstance(ref, (str, int)):
        return None
    try:
        return objects.Flavor.get_by_flavor_id(
            context, common.get_id_from_href(ref), read_deleted='no')
    except (nova_exception.FlavorNotFound, ValueError):
        return None


def _check_secrets(server):
    # Nova stores neither, so while a server waits we would have to; a
    # password that Nova makes up is not worth that.
    given = server.get('adminPass') or server.get('personality')
    if given and not secrets.available():
        raise exception.NoEncryptionKey()


def _check_waiting(context, count):
    """Keep the queue of one project short.

    Two calls at the same moment may both pass: the limit is there to keep
    server lists fast, not to be exact.
    """
    limit = CONF.gpu_lease.max_waiting_per_project
    if limit < 0:
        return
    waiting = db_api.waiting_count(context.project_id)
    if waiting + count > limit:
        raise exception.TooManyWaiting(
            project_id=context.project_id, count=waiting, limit=limit)
