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


"""What Nova's records say of a server that waits to be unshelved.

Nova marks the server as UNSHELVING, and begins an action, before it asks the
conductor; both are ours to end when it does not come to that.
"""

import copy

from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import vm_states
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging

from nova_gpu_lease.conductor import last_action

LOG = logging.getLogger(__name__)

#: The name of the event that a failed wait leaves in the action.
EVENT = 'conductor_gpu_lease_wait'


def free(instance, request_id):
    """Take the mark off a server whose owner does not wait any more.

    :param instance: the Instance, with the context of its cell.
    :param request_id: that of the call that asked for the unshelve: a later
        one has a mark of its own.
    """
    if (instance.vm_state != vm_states.SHELVED_OFFLOADED or
            instance.task_state != task_states.UNSHELVING):
        return
    action = last_action.find(instance, instance_actions.UNSHELVE)
    if action is not None and action.request_id != request_id:
        return
    instance.task_state = None
    try:
        instance.save(expected_task_state=[task_states.UNSHELVING])
    except nova_exception.UnexpectedTaskStateError:
        LOG.debug('The server was freed by somebody else.',
                  instance=instance)


def note_failure(instance, fault, host):
    """Let the owner see in the server's actions that an unshelve failed.

    Nova shows a fault for servers in ERROR only, and a shelved one stays
    shelved.

    :param instance: the Instance, with the context of its cell.
    :param fault: a NovaException that was raised.
    :param host: the name of this service's host.
    """
    action = last_action.find(instance, instance_actions.UNSHELVE)
    if action is None:
        return
    # Nova finds the action by the id of the call.
    context = copy.copy(instance._context)
    context.request_id = action.request_id
    objects.InstanceActionEvent.event_start(
        context, instance.uuid, EVENT, want_result=False, host=host)
    objects.InstanceActionEvent.event_finish_with_failure(
        context, instance.uuid, EVENT, exc_val=fault.format_message(),
        exc_tb=fault.__traceback__, want_result=False)
