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

"""What was last asked of a server, as Nova keeps it."""

from nova import objects


def find(instance, *names):
    """The newest action of these kinds of a server.

    :param instance: the Instance, with the context of its cell.
    :param names: of nova.compute.instance_actions.
    :returns: a nova InstanceAction, or None.
    """
    # They come newest first.
    for action in objects.InstanceActionList.get_by_instance_uuid(
            instance._context, instance.uuid):
        if action.action in names:
            return action
    return None


def is_under_way(instance, action):
    """Whether a nova-compute has begun an action, and not finished it.

    :param instance: as for find().
    :param action: what that returned.
    """
    return any(
        event.event.startswith('compute_') and event.finish_time is None
        for event in objects.InstanceActionEventList.get_by_action(
            instance._context, action.id))
