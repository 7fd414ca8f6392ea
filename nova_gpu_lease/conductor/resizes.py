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

"""The leases of servers that are moved, or change their flavor.

Nova does that by itself, without the queue; the lease follows what became of
the server. A lease is over when its server holds no GPU any more: while a
resize is not confirmed, the devices of both flavors are held.
"""

import datetime

from nova.compute import vm_states
from nova import exception as nova_exception
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import credentials
from nova_gpu_lease.conductor import enrolment
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import worker
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease import states
from nova_gpu_lease import terms

LOG = logging.getLogger(__name__)

#: The states of a lease whose server holds its devices.
_HELD = (states.LEASE_ACTIVE, states.LEASE_EXPIRING, states.LEASE_ERROR)


def begin(context, instance, flavor, spec, creds, actor):
    """Have a lease ready for a server that is resized to a GPU flavor.

    It is BUILDING until Nova is done. Nothing is written when the server has
    a lease already, or gets none with this flavor.

    :param context: the RequestContext of the resize.
    :param instance: the nova Instance.
    :param flavor: the new nova Flavor.
    :param spec: the RequestSpec of the server, or None.
    :param creds: a credentials.Credentials.
    :param actor: the name of this service's host.
    """
    if (flavor.id == instance.instance_type_id or spec is None or
            db.lease_current(instance.uuid) is not None):
        return
    agreed = enrolment.terms_of(spec, flavor)
    if agreed is None:
        return
    request = {
        'uuid': uuidutils.generate_uuid(),
        'kind': states.KIND_RESIZE,
        'project_id': instance.project_id,
        'user_id': instance.user_id,
        'priority': agreed.priority,
        'num_servers': 1,
        'devices': agreed.devices,
        'context': credentials.Credentials.to_dict(context),
        **creds.keep(context),
    }
    try:
        row = db.request_create(
            request, [enrolment.lease_values(agreed, instance, flavor)], actor,
            state=states.REQUEST_PLACED, lease_state=states.LEASE_BUILDING)
    except exception.LeaseExists:
        LOG.debug('The lease was made by somebody else.', instance=instance)
        return
    db.request_set(row, **creds.delegate(context, row))


def look(context, server_id, actor):
    """Bring the lease of a server, if it has one, up to date.

    :param context: an admin RequestContext.
    :param actor: the name of this service's host.
    """
    lease = db.lease_current(server_id)
    if lease is None:
        return
    try:
        instance = records.find_instance(context, server_id, ['flavor'])
        if instance is not None:
            follow(lease, instance, actor)
    except nova_exception.InstanceNotFound:
        LOG.debug('The server is gone.', instance_uuid=server_id)
    except exception.StaleState:
        LOG.debug('Lease %s was changed by somebody else.', lease.uuid)


def follow(lease, instance, actor):
    """Bring a lease up to date with its server.

    Nothing is done while the server is busy, nor for one that is being built.

    :param lease: a models.Lease as read.
    :param instance: the nova Instance, with its flavor.
    :param actor: the name of this service's host.
    :returns: the lease as it is now.
    :raises: exception.StaleState
    """
    if instance.task_state is not None:
        return lease
    if (lease.state == states.LEASE_BUILDING and
            lease.request.kind == states.KIND_RESIZE):
        return _resized(lease, instance, actor)
    if lease.state not in _HELD:
        return lease
    if _has_lease(lease, instance):
        return _update(lease, instance)
    if instance.vm_state == vm_states.RESIZED:
        # The devices of the old flavor are held until this is confirmed.
        return lease
    LOG.info('Lease %(lease)s is over: the flavor of the server is '
             '%(flavor)s.', {'lease': lease.uuid,
                             'flavor': instance.flavor.name},
             instance=instance)
    return db.lease_transition(
        lease, states.LEASE_RELEASED, actor, reason_code='resized',
        reason='the server was resized to flavor %s' % instance.flavor.name)


def _resized(lease, instance, actor):
    """A resize to a GPU flavor that is over."""
    if instance.flavor.name != lease.flavor:
        fault = records.last_fault(instance._context, instance.uuid)
        return db.lease_transition(
            lease, states.LEASE_CANCELLED, actor, reason_code='resize_failed',
            reason='the server was not resized: %s' % (
                fault or 'Nova gave no reason'))
    started = clock.now()
    if instance.vm_state == vm_states.RESIZED:
        # Nova sets it at the end of a resize, if that went well.
        started = instance.launched_at.replace(tzinfo=datetime.timezone.utc)
    lease = db.lease_transition(
        lease, states.LEASE_ACTIVE, actor, host=instance.host,
        started_at=started, expires_at=started + datetime.timedelta(
            seconds=lease.duration))
    LOG.info('Lease %(lease)s began with a resize and ends at %(end)s.',
             {'lease': lease.uuid, 'end': lease.expires_at.isoformat()},
             instance=instance)
    return lease


def _has_lease(lease, instance):
    """Whether the server, as it is now, is one with a lease."""
    if not terms.is_gpu_flavor(instance.flavor.extra_specs, CONF.gpu_lease):
        return False
    if instance.flavor.name == lease.flavor or not worker.dispatches():
        # The hints cannot be read in the conductor of a cell; who can, looks
        # at it every [gpu_lease] dispatch_interval.
        return True
    spec = records.spec_of(instance._context, instance.uuid)
    return (spec is None or
            enrolment.terms_of(spec, instance.flavor) is not None)


def _update(lease, instance):
    """Note where a server is and what it holds."""
    flavor = instance.flavor
    values = {'host': instance.host or lease.host}
    if flavor.name != lease.flavor and worker.dispatches():
        values.update(
            flavor=flavor.name,
            devices=terms.requested_aliases(flavor.extra_specs),
            max_duration=_longest(flavor))
    if all(getattr(lease, name) == value for name, value in values.items()):
        return lease
    if db.lease_set(lease, **values):
        LOG.info('Lease %(lease)s goes on: host %(host)s, flavor %(flavor)s.',
                 {'lease': lease.uuid, 'host': values['host'],
                  'flavor': flavor.name}, instance=instance)
    return db.lease_get(lease.uuid)


def _longest(flavor):
    try:
        return terms.longest(flavor.extra_specs, CONF.gpu_lease)
    except exception.InvalidExtraSpec as exc:
        LOG.warning('Flavor %s: %s', flavor.name, exc)
        return None
