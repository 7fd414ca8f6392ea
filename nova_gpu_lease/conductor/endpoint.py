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

import datetime

from nova.compute import task_states
from nova.compute import vm_states
from oslo_log import log as logging
from oslo_utils import excutils

from nova_gpu_lease.conductor import again
from nova_gpu_lease.conductor import endings
from nova_gpu_lease.conductor import enrolment
from nova_gpu_lease.conductor import payload
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import resizes
from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conductor import unstarted
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease import failpoints
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: How long a new request of which no token is kept stays back for its
#: Keystone trust. It is compared with the clock of the dispatcher, which may
#: be half a minute off.
TRUST_TIMEOUT = datetime.timedelta(seconds=60)

#: How often it is tried to note a trust on a request that is changed by
#: others at the same time. The keeper finds one that is noted nowhere.
SET_TRIES = 5


class QueueEndpoint:
    """Puts a leased GPU server into the queue; hands others to Nova."""

    def __init__(self, task_mgr, creds, host):
        """:param task_mgr: Nova's ComputeTaskManager.

        :param creds: a credentials.Credentials.
        :param host: the name of this service's host.
        """
        self.target = task_mgr.target
        self.task_mgr = task_mgr
        self.unstarted = unstarted.Unstarted(task_mgr)
        self.creds = creds
        self.host = host

    def schedule_and_build_instances(
            self, context, build_requests, request_specs, image,
            admin_password, injected_files, requested_networks,
            block_device_mapping, tags=None):
        agreed = enrolment.terms_of(request_specs[0])
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
            agreed = enrolment.terms_again(instance.uuid, request_spec)
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
                code, reason = endings.why(lease)
                db.lease_transition(
                    lease, states.LEASE_EXPIRED, self.host,
                    end_action=states.ENDED_SHELVED,
                    reason=reason, reason_code=code)
        except exception.StaleState:
            LOG.debug('The lease was closed by somebody else.',
                      instance=instance)

    def build_instances(
            self, context, instances, image, filter_properties,
            admin_password, injected_files, requested_networks,
            security_groups, block_device_mapping=None, legacy_bdm=True,
            request_spec=None, host_lists=None):
        # A build that failed on a compute, which has given back what it had
        # claimed. Always one server, but nothing in Nova says so.
        for instance in instances:
            if not self._retry(context, instance, filter_properties,
                               request_spec, requested_networks):
                self.task_mgr.build_instances(
                    context, [instance], image, filter_properties,
                    admin_password, injected_files, requested_networks,
                    security_groups, block_device_mapping, legacy_bdm,
                    request_spec, host_lists)

    def _retry(self, context, instance, filter_properties, spec, networks):
        """Queue a server again whose build failed, or end it.

        :returns: whether it has a lease, and that was done.
        """
        lease = db.lease_current(instance.uuid)
        if lease is None:
            return False
        stamp = filter_properties.get(rpcapi.STAMP, lease.generation)
        if (lease.state, lease.generation) != (states.LEASE_BUILDING, stamp):
            LOG.info('A failed build is not repeated: the server has been '
                     'taken back already.', instance=instance)
            return True
        reason = (filter_properties.get('retry') or {}).get(
            'exc_reason') or records.last_fault(context, instance.uuid)
        try:
            if not again.requeue(lease, reason, self.host):
                reason = again.last_words(lease, reason)
                self.unstarted.end_build(
                    context, instance, spec, networks, reason)
                db.lease_transition(
                    lease, states.LEASE_CANCELLED, self.host, reason=reason,
                    reason_code='build_failed')
        except exception.StaleState:
            LOG.debug('The lease was changed by somebody else.',
                      instance=instance)
        return True

    def migrate_server(
            self, context, instance, scheduler_hint, live, rebuild, flavor,
            block_migration, disk_over_commit, reservations=None,
            clean_shutdown=True, request_spec=None, host_list=None):
        # A resize, or a move. It comes once more when the chosen compute
        # could not take the server.
        try:
            if flavor is not None:
                resizes.begin(context, instance, flavor, request_spec,
                              self.creds, self.host)
        except Exception:
            # It would have a GPU for ever.
            LOG.exception('A server is not resized, since its lease could '
                          'not be written down.', instance=instance)
            unstarted.give_back(
                context.elevated(), instance.uuid,
                'The lease could not be written down. Please try again.',
                task_states.RESIZE_PREP)
            return
        try:
            return self.task_mgr.migrate_server(
                context, instance, scheduler_hint, live, rebuild, flavor,
                block_migration, disk_over_commit, reservations,
                clean_shutdown, request_spec, host_list)
        except Exception:
            with excutils.save_and_reraise_exception():
                if flavor is not None:
                    resizes.look(context.elevated(), instance.uuid, self.host)

    def _enqueue(self, context, kind, agreed, cast, spec, instances):
        try:
            request, leases = enrolment.rows(
                context, kind, agreed, cast, spec, instances)
            kept = self.creds.keep(context)
            request.update(kept)
            if not kept:
                # Not before the trust is there, or its maker is dead. With
                # its token it can start meanwhile.
                request['next_attempt_at'] = (
                    request['queued_at'] + TRUST_TIMEOUT)
            failpoints.hit('cast-taken')
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
                self.unstarted.fail(
                    context.elevated(), kind, instance.uuid,
                    'The request could not be queued. Please try again.')
            return
        failpoints.hit('queued')
        LOG.info('Request %(request)s for %(count)d server(s) with '
                 '%(devices)s each is queued.',
                 {'request': row.uuid, 'count': len(instances),
                  'devices': agreed.devices}, instance=instances[0])
        self._make_ready(context, row)

    def _make_ready(self, context, row):
        values = self.creds.delegate(context, row)
        failpoints.hit('trust-made')
        if not db.request_set(row, next_attempt_at=None, **values):
            # The request went on without. It may do so once more just now.
            for _ in range(SET_TRIES):
                if db.request_set(db.request_get(row.uuid), **values):
                    break
        db.wake()
