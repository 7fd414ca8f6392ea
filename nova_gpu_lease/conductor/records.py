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

"""What Nova's records say of a server, wherever it is by now."""

import copy

from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects

from nova_gpu_lease.conductor import rpcapi
from nova_gpu_lease.conf import CONF


def find_instance(context, server_id, attrs=None):
    """The instance record of a server, with its context set to its cell.

    :param context: an admin RequestContext.
    :param server_id: the UUID of the server.
    :param attrs: further attributes to load.
    :returns: a nova Instance; None for a server that is in no cell yet.
    :raises: nova.exception.InstanceNotFound
    """
    if not CONF.api_database.connection:
        # A conductor of one cell: it only hears of servers of its own.
        return objects.Instance.get_by_uuid(context, server_id,
                                            expected_attrs=attrs)
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            context, server_id)
    except nova_exception.InstanceMappingNotFound:
        raise nova_exception.InstanceNotFound(instance_id=server_id)
    if mapping.cell_mapping is None:
        return None
    return objects.Instance.get_by_uuid(
        cell_context(context, mapping.cell_mapping), server_id,
        expected_attrs=attrs)


def cells_of(context, server_ids):
    """The ids of the cells of servers; those in no cell are left out.

    :param context: an admin RequestContext.
    :param server_ids: UUIDs of servers.
    :returns: {server id: id of its CellMapping}.
    """
    if not server_ids:
        return {}
    return {mapping.instance_uuid: mapping.cell_mapping.id for mapping in
            objects.InstanceMappingList.get_by_instance_uuids(
                context, server_ids) if mapping.cell_mapping}


def cell_context(context, cell):
    """A copy of a context that reads and writes the database of a cell."""
    targeted = copy.copy(context)
    nova_context.set_target_cell(targeted, cell)
    return targeted


def server_of(context, server_id):
    """The BuildRequest of a server that was never in a cell.

    :returns: a nova BuildRequest; None when the server was deleted or is in
        a cell.
    """
    try:
        return objects.BuildRequest.get_by_instance_uuid(context, server_id)
    except nova_exception.BuildRequestNotFound:
        return None


def is_waiting(instance):
    """Whether no compute works on a server that is to be built.

    It may have been sent to one; which then asks first.

    :param instance: the Instance, as it is now.
    """
    return (instance.vm_state, instance.task_state) in (
        (vm_states.BUILDING, task_states.SCHEDULING),
        (vm_states.SHELVED_OFFLOADED, task_states.UNSHELVING))


def is_interrupted(instance):
    """Whether a compute gave a server up, and holds nothing for it.

    A nova-compute that starts does so with what was sent to it before.

    :param instance: the Instance, as it is now.
    """
    if (instance.host is not None or (
            instance.vm_state, instance.task_state) != (
                vm_states.ERROR, None)):
        return False
    return _last_fault(instance) == rpcapi.INTERRUPTED


def is_placed(context, server_id):
    """Whether a server is on a host, which may hold devices for it."""
    try:
        instance = find_instance(context, server_id)
    except nova_exception.InstanceNotFound:
        return False
    return instance is not None and instance.host is not None


def last_fault(context, server_id):
    """The message of the newest fault of a server, or None."""
    try:
        instance = find_instance(context, server_id)
    except nova_exception.InstanceNotFound:
        return None
    return _last_fault(instance) if instance else None


def _last_fault(instance):
    fault = objects.InstanceFault.get_latest_for_instance(
        instance._context, instance.uuid)
    return fault.message if fault else None


def spec_of(context, server_id):
    """The stored RequestSpec of a server; None when it was deleted."""
    try:
        return objects.RequestSpec.get_by_instance_uuid(context, server_id)
    except nova_exception.RequestSpecNotFound:
        return None
