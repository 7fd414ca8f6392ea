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

"""Orders to nova-compute that were lost on their way.

Nova's API layer marks a server as busy and tells its nova-compute then. Who
dies in between, or with the order in his hands, leaves a server that is busy
for ever.
"""

from nova.compute import instance_actions
from nova.compute import task_states
from nova import exception as nova_exception
from nova import objects
from nova import servicegroup

from nova_gpu_lease.conductor import last_action

#: {task state of a server that was just told: the kinds of its action}
_TOLD = {
    task_states.DELETING: (instance_actions.DELETE,),
    task_states.SHELVING: (instance_actions.SHELVE,),
    task_states.SHELVING_OFFLOADING: (instance_actions.SHELVE_OFFLOAD,
                                      instance_actions.SHELVE),
}


def is_lost(instance):
    """Whether nobody does what a server waits for.

    A nova-compute notes at once that it begins. One that is down may still
    find the order when it is back, except that to delete: Nova's API layer
    deletes the servers of a host that is down by itself.

    :param instance: the Instance, with the context of its cell; it has been
        busy for longer than an order takes to arrive.
    """
    if instance.task_state not in _TOLD:
        return False
    kinds = _TOLD[instance.task_state]
    action = last_action.find(instance, *kinds)
    if (len(kinds) > 1 and
            (action is None or action.action != kinds[0])):
        # It goes with a shelve, or Nova does it by itself, without a note.
        return False
    under_way = action is not None and last_action.is_under_way(
        instance, action)
    if instance.task_state == task_states.DELETING:
        return not under_way or not _host_is_up(instance)
    return not under_way and _host_is_up(instance)


def _host_is_up(instance):
    try:
        service = objects.Service.get_by_compute_host(
            instance._context, instance.host)
    except nova_exception.ComputeHostNotFound:
        return False
    return servicegroup.API().service_is_up(service)
