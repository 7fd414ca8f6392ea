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


"""How a project's use of GPUs counts in the queue."""

import datetime

from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease.planner import fairshare

#: After so many half-lives a thousandth is left: no need to read it.
HALVINGS = 10
#: Factors are good for so long: they change by the hour.
GOOD = datetime.timedelta(minutes=1)


class FairShare:
    """Works out the factors of all projects, now and then."""

    def __init__(self):
        self._factors = None
        self._at = None

    def factors(self, now):
        """The fair share factors of projects.

        :param now: the time, aware UTC.
        :returns: {project id: factor from 0 to 1}, those that used nothing
            are not there; None where use does not count.
        """
        half_life = CONF.gpu_lease.fair_share_half_life
        if half_life is None:
            return None
        if self._at is None or not self._at <= now < self._at + GOOD:
            self._factors = fairshare.factors(_usage(now, half_life))
            self._at = now
        return self._factors


def _usage(now, half_life):
    """{project id: GPU seconds as they count now}."""
    usage = {}
    since = now - datetime.timedelta(seconds=HALVINGS * half_life)
    for lease in db.leases_used(since):
        usage[lease.project_id] = usage.get(
            lease.project_id, 0) + fairshare.used(
                sum(lease.devices.values()), lease.started_at.timestamp(),
                (lease.ended_at or now).timestamp(), now.timestamp(),
                half_life)
    return usage
