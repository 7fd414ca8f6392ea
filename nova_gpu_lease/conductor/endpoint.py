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

"""Takes the casts that start GPU servers, in front of Nova's own endpoint.

Only the methods taken over are defined: oslo.messaging picks the first
endpoint that has a method, so everything else reaches Nova's.
"""

import dataclasses
import datetime

from nova.compute import vm_states
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import builder
from nova_gpu_lease.conductor import credentials
from nova_gpu_lease.conductor import payload
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease import states
from nova_gpu_lease import terms

LOG = logging.getLogger(__name__)

#: How long a new request stays back for its Keystone trust.
TRUST_TIMEOUT = datetime.timedelta(seconds=20)


class QueueEndpoint:
    """Puts a leased GPU server into the queue; hands others to Nova."""

    def __init__(self, task_mgr, creds, host):
        """:param task_mgr: Nova's ComputeTaskManager.

        :param creds: a credentials.Credentials.
        :param host: the name of this service's host.
        """
        self.target = task_mgr.target
        self.task_mgr = task_mgr
        self.builder = builder.Builder(task_mgr)
        self.creds = creds
        self.host = host

    def schedule_and_build_instances(
            self, context, build_requests, request_specs, image,
            admin_password, injected_files, requested_networks,
            block_device_mapping, tags=None):
        agreed = _terms_of(request_specs[0])
        if agreed is None:
            return self.task_mgr.schedule_and_build_instances(
                context, build_requests, request_specs, image,
                admin_password, injected_files, requested_networks,
                block_device_mapping, tags=tags)
        cast = payload.Cast(
            image=image, requested_networks=requested_networks,
            block_device_mapping=block_device_mapping, tags=tags,
            admin_password=admin_password, injected_files=injected_files)
        self._enqueue(context, states.KIND_CREATE, agreed, cast,
                      request_specs[0],
                      [build_request.get_new_instance(context)
                       for build_request in build_requests])

    def unshelve_instance(self, context, instance, request_spec=None):
        agreed = None
        if (instance.vm_state == vm_states.SHELVED_OFFLOADED and
                request_spec):
            agreed = _terms_again(instance.uuid, request_spec)
        if agreed is None:
            return self.task_mgr.unshelve_instance(
                context, instance, request_spec)
        self._close_last(instance)
        cast = payload.Cast(image={}, requested_networks=None,
                            block_device_mapping=None, tags=None)
        self._enqueue(context, states.KIND_UNSHELVE, agreed, cast,
                      request_spec, [instance])

    def _close_last(self, instance):
        """Close the lease of a server whose end nobody has noted yet."""
        lease = db.lease_current(instance.uuid)
        if lease is None:
            return
        try:
            if lease.state == states.LEASE_ACTIVE:
                db.lease_transition(
                    lease, states.LEASE_RELEASED, self.host,
                    reason='the server was shelved', reason_code='shelved')
            elif lease.state in (states.LEASE_EXPIRING, states.LEASE_ERROR):
                db.lease_transition(
                    lease, states.LEASE_EXPIRED, self.host,
                    end_action=states.ENDED_SHELVED,
                    reason='the lease ended', reason_code='expired')
        except exception.StaleState:
            LOG.debug('The lease was closed by somebody else.',
                      instance=instance)

    def build_instances(
            self, context, instances, image, filter_properties,
            admin_password, injected_files, requested_networks,
            security_groups, block_device_mapping=None, legacy_bdm=True,
            request_spec=None, host_lists=None):
        # A build that failed on a compute. Leased servers have no alternate
        # hosts, so Nova ends them; close their leases when it has. Nova's
        # fault only says that no host is left.
        reason = (filter_properties.get('retry') or {}).get('exc_reason')
        try:
            return self.task_mgr.build_instances(
                context, instances, image, filter_properties, admin_password,
                injected_files, requested_networks, security_groups,
                block_device_mapping, legacy_bdm, request_spec, host_lists)
        finally:
            for instance in instances:
                self._build_failed(context, instance.uuid, reason)

    def _enqueue(self, context, kind, agreed, cast, spec, instances):
        kept, secrets = payload.dump(context, cast, spec)
        now = clock.now()
        request = {
            'uuid': uuidutils.generate_uuid(),
            'kind': kind,
            'project_id': instances[0].project_id,
            'user_id': instances[0].user_id,
            'priority': agreed.priority,
            'num_servers': len(instances),
            'devices': agreed.devices,
            'queued_at': now,
            # As the planner names it where no alias shares its devices.
            'queue_group': ','.join(sorted(agreed.devices))[:255],
            'reason': 'It has just been queued.',
            'reason_code': 'new',
            'wait_until': (now + datetime.timedelta(seconds=agreed.wait)
                           if agreed.wait else None),
            'payload': kept,
            'secrets': secrets,
            'context': credentials.Credentials.to_dict(context),
            'destination': _destination(spec),
            # Not before the trust is there, or its maker is dead.
            'next_attempt_at': now + TRUST_TIMEOUT,
        }
        leases = [_lease_values(agreed, instance, spec)
                  for instance in instances]
        try:
            row = db.request_create(request, leases, self.host)
        except exception.LeaseExists:
            LOG.warning('The cast that builds a server came a second time '
                        'and is dropped.', instance=instances[0])
            return
        except Exception:
            # Nobody else will ever look at these servers.
            LOG.exception('A server could not be queued.',
                          instance=instances[0])
            for instance in instances:
                self.builder.fail(
                    context.elevated(), kind, instance.uuid,
                    'The request could not be queued. Please try again.')
            return
        LOG.info('Request %(request)s for %(count)d server(s) with '
                 '%(devices)s each is queued.',
                 {'request': row.uuid, 'count': len(instances),
                  'devices': agreed.devices}, instance=instances[0])
        self._make_ready(context, row)

    def _make_ready(self, context, row):
        values = self.creds.delegate(context)
        if not db.request_set(row, next_attempt_at=None, **values):
            # It took so long that the request went on without.
            self.creds.revoke_trust(values.get('trust_id'))
        db.wake()

    def _build_failed(self, context, server_id, reason):
        lease = db.lease_current(server_id)
        if lease is None or lease.state != states.LEASE_BUILDING:
            return
        try:
            db.lease_transition(
                lease, states.LEASE_CANCELLED, self.host,
                reason='the server could not be built: %s' % (
                    reason or builder.last_fault(context, server_id)),
                reason_code='build_failed')
        except exception.StaleState:
            LOG.debug('The lease was closed by somebody else.',
                      instance_uuid=server_id)


def _terms_of(spec):
    """The Terms of a RequestSpec; None when it has no lease."""
    try:
        return terms.resolve(
            spec.scheduler_hints if 'scheduler_hints' in spec else {},
            spec.flavor.extra_specs, CONF.gpu_lease)
    except exception.InvalidInput as exc:
        # nova-api lets none of these through; its configuration differs, or
        # a flavor was changed while the server was shelved.
        LOG.warning('A server is built without a lease: %s', exc,
                    instance_uuid=spec.instance_uuid)
        return None


def _terms_again(server_id, spec):
    """The Terms of a shelved server: as long as its last lease."""
    agreed = _terms_of(spec)
    if agreed is None:
        return None
    try:
        last = db.lease_get(server_id)
    except exception.LeaseNotFound:
        return agreed
    length = last.duration
    if agreed.max_duration is not None:
        length = min(length, agreed.max_duration)
    return dataclasses.replace(agreed, duration=length)


def _destination(spec):
    """Where the owner wants the server: what Nova keeps in no table."""
    wanted = {}
    if 'requested_destination' in spec and spec.requested_destination:
        destination = spec.requested_destination
        for name in ('host', 'node'):
            if name in destination and getattr(destination, name):
                wanted[name] = getattr(destination, name)
    if 'ignore_hosts' in spec and spec.ignore_hosts:
        wanted['ignore_hosts'] = spec.ignore_hosts
    return wanted or None


def _lease_values(agreed, instance, spec):
    return {
        'uuid': uuidutils.generate_uuid(),
        'server_id': instance.uuid,
        'server_name': instance.display_name,
        'project_id': instance.project_id,
        'user_id': instance.user_id,
        'flavor': spec.flavor.name,
        'devices': agreed.devices,
        'duration': agreed.duration,
        'max_duration': agreed.max_duration,
        'on_expiry': agreed.on_expiry,
        'auto_extend': agreed.auto_extend,
    }
