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

"""What the commands ask of the compute service."""

from openstack import exceptions as sdk_exceptions
from osc_lib import exceptions
from oslo_utils import uuidutils

from gpu_lease_client import resources


class Client:
    """GPU leases on the compute endpoint."""

    def __init__(self, compute):
        """Keep the connection.

        :param compute: the compute proxy of an openstacksdk connection.
        """
        self._compute = compute

    def leases(self, **query):
        """Yield leases page by page.

        :param query: filters, ``sort``, ``limit`` (of one page), ``marker``
            and ``max_items`` (of all pages); those that are None are left
            out.
        :returns: a generator of resources.GPULease.
        :raises: osc_lib.exceptions.CommandError if the cloud has no leases.
        """
        return self._list(resources.GPULease, query)

    def queue(self, **query):
        """Yield the requests that wait, first in the queue first.

        :param query: ``all_projects`` and paging, as in leases().
        :returns: a generator of resources.GPUQueueEntry.
        :raises: osc_lib.exceptions.CommandError if the cloud has no leases.
        """
        return self._list(resources.GPUQueueEntry, query)

    def find_lease(self, name_or_id):
        """Find one lease.

        :param name_or_id: the id of a lease, or the id or name of a server:
            then its current lease, or the latest one if it has none now.
        :returns: a resources.GPULease.
        :raises: osc_lib.exceptions.CommandError if there is none.
        """
        # Only ids go into the URL of a lease: a server may be named "queue".
        if uuidutils.is_uuid_like(name_or_id):
            lease = self._get(name_or_id)
            if lease is not None:
                return lease
        try:
            server = self._find_server(name_or_id)
        except sdk_exceptions.NotFoundException:
            raise exceptions.CommandError(
                'No lease or server with a name or ID of "%s" exists.'
                % name_or_id)
        lease = self._get(server.id)
        if lease is None:
            raise exceptions.CommandError(
                'Server "%s" (%s) has no GPU lease.'
                % (server.name, server.id))
        return lease

    def cancel_lease(self, name_or_id):
        """Take a server that waits to be unshelved out of the queue.

        :param name_or_id: as in find_lease().
        :raises: osc_lib.exceptions.CommandError if there is none;
            openstack.exceptions.HttpException if the service refuses.
        """
        # By the id of the lease: the server may get another one meanwhile.
        self.find_lease(name_or_id).delete(self._compute)

    def change_lease(self, name_or_id, **values):
        """Change a lease that waits or runs.

        :param name_or_id: as in find_lease().
        :param values: what is to be changed: ``duration`` (such as ``4h`` or
            ``+30m``), ``on_expiry``, ``auto_extend`` or ``priority``.
        :returns: the resources.GPULease as it is then.
        :raises: osc_lib.exceptions.CommandError if there is none;
            openstack.exceptions.HttpException if the service refuses.
        """
        return self.find_lease(name_or_id).change(self._compute, values)

    def find_server_id(self, name_or_id, all_projects=False):
        """Find the server that somebody means.

        :param name_or_id: a name; or an id, which is taken as it is, because
            the leases of a server outlive it.
        :param all_projects: look for the name in all projects.
        :returns: the id.
        :raises: osc_lib.exceptions.CommandError if there is no such server.
        """
        if uuidutils.is_uuid_like(name_or_id):
            return name_or_id
        try:
            return self._find_server(name_or_id, all_projects).id
        except sdk_exceptions.NotFoundException:
            raise exceptions.CommandError(
                'No server with a name or ID of "%s" exists. Give the ID of '
                'a server that was deleted.' % name_or_id)

    def _find_server(self, name_or_id, all_projects=False):
        return self._compute.find_server(
            name_or_id, ignore_missing=False, details=False,
            all_projects=all_projects)

    def _get(self, lease_or_server_id):
        lease = resources.GPULease.new(id=lease_or_server_id)
        try:
            return lease.fetch(self._compute)
        except sdk_exceptions.NotFoundException:
            return None

    def _list(self, resource_type, query):
        query = {key: value for key, value in query.items()
                 if value is not None}
        try:
            yield from resource_type.list(self._compute, **query)
        except sdk_exceptions.NotFoundException:
            raise exceptions.CommandError(
                'The compute service of this cloud has no GPU leases: %s is '
                'not found.' % resource_type.base_path)
