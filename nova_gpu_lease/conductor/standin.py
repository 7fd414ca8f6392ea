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


"""Ends leases in the place of owners for whom we may not act any more.

A user was disabled or lost a role, a project was deleted, a token is too old:
the lease ends as it was agreed. Nova's own user shelves the server, as an
administrator would, and what it made becomes the owner's.
"""

from keystoneauth1 import exceptions as ks_exc
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from nova.image import glance
from oslo_log import log as logging

from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception

LOG = logging.getLogger(__name__)


#: The user may not act, or nobody can read any more what shows that he may.
_GONE = (exception.UserGone, exception.UnreadableSecrets,
         exception.NoEncryptionKey, exception.InvalidEncryptionKey)


class StandIn:
    """Finds who ends a lease: its owner, or Nova's own user."""

    def __init__(self, creds):
        """:param creds: a credentials.Credentials."""
        self.creds = creds

    def context(self, lease, deletes):
        """The context of an end: the owner's, or else our own.

        To shelve takes a token, ours if there is no other; to delete does
        not, and does not stop at a lock.

        :param deletes: whether the server is to be deleted.
        :returns: a tuple of a RequestContext and whether it is our own in
            place of the owner's.
        :raises: exception.GPULeaseException,
            keystoneauth1.exceptions.ClientException
        """
        try:
            context = self.creds.context_for(
                db.request_get(lease.request.uuid))
        except (ks_exc.ClientException, exception.GPULeaseException) as exc:
            if deletes:
                LOG.info('The server is deleted without a token of its user: '
                         '%s', exc, instance_uuid=lease.server_id)
                return nova_context.get_admin_context(), False
            if not isinstance(exc, _GONE):
                raise
            LOG.info('The server is shelved by Nova itself: %s', exc,
                     instance_uuid=lease.server_id)
            return self.creds.service_context(), True
        return context.elevated() if deletes else context, False

    @staticmethod
    def begin(lease, instance, ours):
        """Note who shelves a server, before that is begun.

        On the lease, where it outlasts a try that fails half-way.

        :param ours: whether we do, and not its owner.
        :raises: nova.exception.InstanceIsLocked: our rights are greater than
            the owner's, and a lock is to be kept all the same.
        """
        if ours and instance.locked:
            raise nova_exception.InstanceIsLocked(instance_uuid=instance.uuid)
        if (ours != lease.stand_in and
                instance.vm_state != vm_states.SHELVED):
            # A shelved server has its image, whoever offloads it.
            db.lease_set(lease, stand_in=ours)

    def finish(self, lease, instance):
        """Give the owner's project the image that we made, if we did.

        Nova made it a shared one of the service project, from which the
        owner can unshelve, but which only an administrator can delete. Where
        Glance does not let us change that, it stays so.

        :returns: what to add to the reason of the end.
        :raises: nova.exception.GlanceConnectionFailed,
            keystoneauth1.exceptions.ClientException: try again.
        """
        if not lease.stand_in:
            return ''
        image_id = instance.system_metadata.get('shelved_image_id')
        if image_id:
            try:
                glance.API().update(
                    self.creds.service_context(), image_id,
                    {'owner': lease.project_id, 'visibility': 'private'})
            except (nova_exception.GlanceConnectionFailed,
                    ks_exc.ClientException):
                raise
            except Exception as exc:
                LOG.warning('Image %(image)s stays with the service project, '
                            'shared with project %(project)s; delete it when '
                            'the server was unshelved: %(reason)s',
                            {'image': image_id, 'project': lease.project_id,
                             'reason': exc}, instance=instance)
        return ('; Nova might not act for the owner any more and shelved the '
                'server itself')
