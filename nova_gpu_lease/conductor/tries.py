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


"""How often the end of a lease is tried, and when it is given up."""

import datetime
import random

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import endings
from nova_gpu_lease.conf import CONF
from nova_gpu_lease import states

#: The longest wait between two tries, in seconds, and the longest after one
#: that failed because a service was away: that may be back soon, and the
#: devices are held.
MAX_RETRY = 600
MAX_OUTAGE_RETRY = 30


def failures(lease):
    """The failed tries after which work may be given up: not for outages."""
    return lease.attempts - lease.outages


def deletes(lease):
    """Whether the next end of a lease deletes its server.

    One that makes room before its end is always kept.
    """
    if lease.preempt_at is not None:
        return False
    return lease.on_expiry == states.ON_EXPIRY_DELETE or (
        failures(lease) >= CONF.gpu_lease.expiry_attempts and
        CONF.gpu_lease.on_expiry_fallback == 'delete')


def pause(tries, outage):
    """How long to wait before the next try to end a lease.

    Twice as long after each, and up to a half less by chance, so that leases
    that ended together are not all tried together.

    :param tries: how many tries failed before the last one.
    :param outage: whether the last one failed because a service was away.
    :returns: seconds.
    """
    longest = min(CONF.gpu_lease.expiry_retry_interval * 2 ** min(tries, 20),
                  MAX_OUTAGE_RETRY if outage else MAX_RETRY)
    return longest * random.uniform(0.5, 1)


def next_time(tries, outage):
    """The time of the next try, aware UTC; as pause()."""
    return clock.now() + datetime.timedelta(seconds=pause(tries, outage))


def failed(lease, reason, outage):
    """What a failed try makes of a lease.

    :param lease: a models.Lease as it is now.
    :param reason: why it failed.
    :param outage: whether a service was away.
    :returns: a tuple of the columns to set, and whether the end is given up:
        the devices stay held.
    """
    reason = 'The server could not be %s (try %d): %s' % (
        'deleted' if deletes(lease) else 'shelved', lease.attempts + 1,
        reason)
    values = {
        'attempts': lease.attempts + 1,
        'outages': lease.outages + outage,
        'last_error': reason,
        'reason': reason,
        # Of one that ends early it goes on saying so.
        'reason_code': (lease.reason_code if lease.reason_code in (
            endings.POWERED_OFF, states.REASON_PREEMPTED)
            else 'expiry_failed'),
        'attempt_started_at': None,
        'next_attempt_at': next_time(lease.attempts, outage)}
    count = failures(lease) + (not outage)
    gives_up = (count >= CONF.gpu_lease.expiry_attempts and
                lease.state == states.LEASE_EXPIRING and not outage)
    if (gives_up and lease.preempt_at is None and
            CONF.gpu_lease.on_expiry_fallback == 'delete'):
        if count == CONF.gpu_lease.expiry_attempts:
            values['next_attempt_at'] = None
        gives_up = False
    return values, gives_up
