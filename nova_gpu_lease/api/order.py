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


"""The order of the queue, as users see it; the planner's, from the rows."""

import functools

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import shares
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import priorities

#: Keeps what it reads of the use of GPUs for a while.
_SHARE = shares.FairShare()


def key():
    """What requests are sorted by now.

    :returns: a function of a request.
    """
    return functools.partial(
        priorities.queue_key,
        classes=priorities.parse(CONF.gpu_lease.priorities),
        factors=_SHARE.factors(clock.now()))


def positions():
    """The place of each queued request among those it competes with.

    :returns: a dict of request uuid to position; 1 is next.
    """
    return db_api.requests_positions(key())
