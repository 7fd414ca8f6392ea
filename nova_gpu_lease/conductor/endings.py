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

"""What a server needs before it can be shelved at the end of its lease.

Nova shelves servers that run, are stopped, paused or suspended, and no others;
a lease ends at its time whatever state its server is in.
"""

from nova.compute import vm_states

from nova_gpu_lease.conf import CONF
from nova_gpu_lease import states
from nova_gpu_lease import terms

#: Begins the reason_code of a lease whose server is made ready.
_CODE = 'ending_'
#: The server does something that was begun before the lease ended.
BUSY = _CODE + 'busy'

#: The reason_code of a lease that ends early: its server was powered off.
POWERED_OFF = 'powered_off'

#: {state of a server: (method of nova.compute.api.API, what it does)}
_STEPS = {
    # What runs is the work; the devices of the other side are held as well.
    vm_states.RESIZED: ('confirm_resize', 'its resize is confirmed'),
    vm_states.RESCUED: ('unrescue', 'it is unrescued'),
    # Nova stops, and then shelves, what an administrator or a failed action
    # put into ERROR.
    vm_states.ERROR: ('stop', 'it is stopped'),
    # Its owner deleted it. It cannot be shelved, and as long as it can be
    # restored its devices are held.
    vm_states.SOFT_DELETED: ('force_delete', 'its deletion is made final'),
}


def why(lease):
    """Why a lease ends, or ended.

    :param lease: a models.Lease that is EXPIRING or ERROR.
    :returns: a tuple of a reason_code and a reason.
    """
    if lease.preempt_at is not None:
        return (states.REASON_PREEMPTED,
                'it made room for a request of another priority class')
    if lease.reason_code == POWERED_OFF:
        return POWERED_OFF, 'the server was powered off'
    return 'expired', 'the lease ended'


def step_of(instance, deletes):
    """What is to be done with a server first.

    :param instance: a nova Instance that is not busy, with its flavor.
    :param deletes: whether it is to be deleted, not shelved.
    :returns: the name of a method of nova.compute.api.API; None when the
        server can be shelved, or deleted, as it is.
    """
    if deletes and terms.is_gpu_flavor(
            instance.flavor.extra_specs, CONF.gpu_lease):
        # Nova deletes servers in any state.
        return None
    # With a flavor without a GPU it only waits to be confirmed: then it
    # holds none any more, and has not to go.
    return _STEPS.get(instance.vm_state, (None,))[0]


def values_of(instance):
    """What the row of a lease says while that is done.

    :param instance: a nova Instance that is not busy.
    :returns: a dict of columns.
    """
    name, what = _STEPS.get(instance.vm_state, (None, None))
    return {'reason_code': name and _CODE + name,
            'reason': name and 'The lease ended; first %s.' % what}


def has_failed(lease, instance):
    """Whether the try that was begun has failed.

    :param lease: a models.Lease with attempt_started_at.
    :param instance: its server, which is not busy any more.
    :returns: False when the try only made the server ready for the next step.
    """
    code = lease.reason_code or ''
    return not code.startswith(_CODE) or code == values_of(
        instance)['reason_code']
