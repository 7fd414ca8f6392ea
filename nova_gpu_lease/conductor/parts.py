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

"""What a waiting server is made of, and whether it still is there.

Looked at when it is the turn of a request, as its owner: what is gone for good
ends it with a fault that names it, before anything is claimed. A service that
does not answer is no such thing; its error passes.
"""

from nova import exception as nova_exception

#: What ends a request. Whether the owner was deprived of something or it was
#: deleted looks the same from here.
GONE = (nova_exception.ImageNotActive,
        nova_exception.ImageNotAuthorized,
        nova_exception.ImageNotFound,
        nova_exception.NetworkNotFound,
        nova_exception.PortInUse,
        nova_exception.PortNotFound,
        nova_exception.SnapshotNotFound,
        nova_exception.VolumeAttachmentNotFound,
        nova_exception.VolumeNotFound)


def check(task_mgr, context, server_ids, image_ids, networks, bdms):
    """Look for everything that servers are made of.

    :param task_mgr: Nova's ComputeTaskManager.
    :param context: the tenant's RequestContext.
    :param server_ids: the UUIDs of the servers.
    :param image_ids: the images that their disks are made from.
    :param networks: the requested networks, or None.
    :param bdms: a list of nova BlockDeviceMappings.
    :raises: one of GONE
    """
    for image_id in image_ids:
        _check_image(task_mgr, context, image_id)
    for network in networks or ():
        if network.port_id:
            port = task_mgr.network_api.show_port(
                context, network.port_id)['port']
            if port.get('device_id') not in ('', None, *server_ids):
                raise nova_exception.PortInUse(port_id=network.port_id)
        elif network.network_id and not (
                network.auto_allocate or network.no_allocate):
            task_mgr.network_api.get(context, network.network_id)
    for bdm in bdms:
        _check_volume(task_mgr, context, bdm)


def _check_image(task_mgr, context, image_id):
    image = task_mgr.image_api.get(context, image_id)
    # Glance shows a deactivated image, and gives nobody its data.
    if image['status'] != 'active':
        raise nova_exception.ImageNotActive(image_id=image_id)


def _check_volume(task_mgr, context, bdm):
    if bdm.volume_id:
        task_mgr.volume_api.get(context, bdm.volume_id)
        if bdm.attachment_id:
            # It keeps the volume for the server; whoever removed it may have
            # given the volume to another one.
            task_mgr.volume_api.attachment_get(context, bdm.attachment_id)
    elif bdm.source_type == 'image' and bdm.image_id:
        _check_image(task_mgr, context, bdm.image_id)
    elif bdm.source_type == 'snapshot' and bdm.snapshot_id:
        task_mgr.volume_api.get_snapshot(context, bdm.snapshot_id)
