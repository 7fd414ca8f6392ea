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

"""What a nova-compute that died was just doing with a server.

Nova leaves a server that was being built in ERROR, with its devices, until it
is deleted, and one that was being shelved as busy as it was.
"""

from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import vm_states
from nova import objects

from nova_gpu_lease.conductor import last_action

#: Task states that only nova-compute sets, and those that whoever asks for it
#: sets: the cast may still come.
_SNAPSHOT = (task_states.SHELVING_IMAGE_PENDING_UPLOAD,
             task_states.SHELVING_IMAGE_UPLOADING)
_ASKED = (task_states.SHELVING, task_states.SHELVING_OFFLOADING)


def is_half_built(instance):
    """Whether a server is being built, or unshelved, on its host just now.

    :param instance: the Instance, as it was when nova-compute died.
    """
    return instance.task_state != task_states.DELETING and (
        instance.vm_state == vm_states.BUILDING or is_unshelved(instance))


def is_unshelved(instance):
    """Whether it is the unshelve of a server."""
    return (instance.vm_state, instance.task_state) == (
        vm_states.SHELVED_OFFLOADED, task_states.SPAWNING)


def is_half_shelved(instance):
    """Whether a server was being shelved, or offloaded, on its host.

    :param instance: the Instance, as it was when nova-compute died.
    """
    return instance.task_state in _SNAPSHOT or (
        instance.task_state in _ASKED and _was_begun(instance))


def _was_begun(instance):
    """Whether the last shelve of a server was begun, and not finished."""
    action = last_action.find(
        instance, instance_actions.SHELVE, instance_actions.SHELVE_OFFLOAD)
    return action is not None and last_action.is_under_way(instance, action)


def take_down(manager, context, instance):
    """Remove a server from its host as Nova does when its build fails.

    The caller saves it.

    :param manager: Nova's ComputeManager of this host.
    :param context: an admin RequestContext.
    :param instance: the Instance.
    """
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    if is_unshelved(instance):
        # It keeps its volumes, and its image.
        manager.driver.destroy(
            context, instance, instance.get_network_info(),
            manager._get_instance_block_device_info(
                context, instance, bdms=bdms))
        manager._terminate_volume_connections(context, instance, bdms)
        manager.network_api.unbind_ports(context, [
            port['id'] for port in manager.network_api.list_ports(
                context, device_id=instance.uuid)['ports']], detach=False)
        _reset_image_ref(instance)
    else:
        # Its volumes are attached again at the next try, and its networks
        # given back before: here nobody knows what ports are its owner's.
        manager._shutdown_instance(context, instance, bdms, notify=False,
                                   try_deallocate_networks=False)
    # Nova's client takes an answer that does not come for "away", and says
    # nothing: whoever has the server wait again frees it, too.
    manager.reportclient.delete_allocation_for_instance(
        context, instance.uuid, force=True)
    manager._nil_out_instance_obj_host_and_node(instance)


def _reset_image_ref(instance):
    """Undo what Nova does for the time of an unshelve.

    It names the snapshot as the image of the server, and removes it later.
    """
    image = instance.system_metadata.get('image_base_image_ref')
    if image and instance.image_ref == instance.system_metadata.get(
            'shelved_image_id'):
        instance.image_ref = image
