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


"""What the owner of a lease may still change about it.

Pure functions from a lease, and what is wanted, to the columns to set. A
lease of which a start or an end has begun is what it is.
"""

import datetime

from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import priorities
from nova_gpu_lease import states

#: What to do about a lease that cannot be changed, by its state.
_ADVICE = {
    states.LEASE_BUILDING: 'its server is being started; try again when it '
                           'runs',
    states.LEASE_EXPIRING: 'its server is being shelved or deleted already',
    states.LEASE_ERROR: 'it is over, and its server could not be shelved or '
                        'deleted yet',
}


def check_open(lease):
    """Make sure that a lease waits or runs.

    :param lease: a lease with its request.
    :raises: exception.NotChangeable
    """
    state = lease.state
    if (state == states.LEASE_QUEUED and
            lease.request.state != states.REQUEST_QUEUED):
        # A start that is being taken back.
        state = states.LEASE_BUILDING
    if state not in (states.LEASE_QUEUED, states.LEASE_ACTIVE):
        raise exception.NotChangeable(
            id=lease.uuid, state=state,
            advice=_ADVICE.get(state, 'it is over'))


def duration_of(lease, wanted):
    """Another length of a lease.

    One that runs can only become longer: it ends early when its server is
    shelved or deleted.

    :param lease: a lease for which check_open() was happy.
    :param wanted: a duration as in the hints; with a ``+`` in front, so much
        more than it is now.
    :returns: a dict of columns of the lease.
    :raises: exception.LengthRefused
    """
    now = lease.duration
    if lease.expires_at is not None:
        # It may have been extended since.
        now = round((lease.expires_at - lease.started_at).total_seconds())
    seconds = _seconds(lease, wanted, now)
    if lease.max_duration is not None and seconds > lease.max_duration:
        raise exception.LengthRefused(
            id=lease.uuid, wanted=wanted,
            reason='the longest it may be is %s, and it is %s now' % (
                duration.format(lease.max_duration), duration.format(now)))
    if lease.expires_at is None:
        return {'duration': seconds}
    if seconds <= now:
        raise exception.LengthRefused(
            id=lease.uuid, wanted=wanted,
            reason='it is %s already, and can only become longer; shelve or '
            'delete its server to end it' % duration.format(now))
    return {'duration': seconds,
            'expires_at': lease.started_at +
            datetime.timedelta(seconds=seconds)}


def _seconds(lease, wanted, now):
    more = wanted.startswith('+')
    try:
        seconds = duration.parse(wanted[1:] if more else wanted)
        if more and now + seconds > duration.MAX_SECONDS:
            raise exception.InvalidDuration(
                value=wanted, accepted='at most %s in all' %
                duration.format(duration.MAX_SECONDS))
    except exception.InvalidDuration as exc:
        raise exception.LengthRefused(
            id=lease.uuid, wanted=wanted,
            reason='use %s; with a + in front for so much more' %
            exc.kwargs['accepted'])
    return now + seconds if more else seconds


def priority_of(lease, wanted, classes):
    """Another class of the request that a lease belongs to.

    :param lease: a lease for which check_open() was happy.
    :param wanted: the name of a class.
    :param classes: what priorities.parse() returned.
    :returns: a dict of columns of the request.
    :raises: exception.InvalidInput for a class that is not defined,
        NotWaiting for a lease that does not wait.
    """
    if wanted not in classes:
        raise exception.InvalidInput(
            "priority '%s' is not accepted; use %s." % (
                wanted, ' or '.join(classes)))
    if lease.state != states.LEASE_QUEUED:
        raise exception.NotWaiting(
            id=lease.uuid, state=lease.state,
            advice='its priority counts only while it waits')
    columns = {'priority': wanted}
    before = priorities.find(classes, lease.request.priority)
    if classes[wanted].weight < before.weight:
        # A promise holds within a class: those of the lower one who were
        # promised a start come first.
        columns.update(promise=None, promised=False, expected_start=None)
    return columns
