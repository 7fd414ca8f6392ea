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


"""Gives back what requests keep: trusts, tokens and secrets.

Run by the holder of the dispatcher lock. What a request keeps is only taken
when no lease of it needs it any more; whatever is left behind by a service
that died is found again by a look at Keystone.
"""

import datetime
import time

from keystoneauth1 import exceptions as ks_exc
from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import credentials
from nova_gpu_lease.db import api as db
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: Younger requests may still get their trust from the conductor that made
#: them.
YOUNG = datetime.timedelta(minutes=2)
#: Seconds between two runs, however much happens.
PAUSE = 5
#: Seconds between two looks at all trusts in Keystone.
SWEEP = 600


class Keeper:
    """Keeps no longer than needed what lets us act for users."""

    def __init__(self, creds):
        """:param creds: a credentials.Credentials."""
        self.creds = creds
        self._swept_at = None

    def run(self):
        """Give back what is not needed; now and then look for the rest."""
        wiped = db.requests_wipe_payloads()
        if wiped:
            LOG.debug('What %d requests asked for is wiped.', wiped)
        for request in db.requests_done_with_credentials():
            if self.creds.revoke_trust(request.trust_id):
                db.request_set(request, trust_id=None, token=None)
        if not self.creds.keystone.configured():
            return
        undecided = db.requests_undecided(clock.now() - YOUNG)
        if (undecided or self._swept_at is None or
                time.monotonic() - self._swept_at >= SWEEP):
            self.sweep()

    def sweep(self):
        """Find trusts that nobody knows, and requests without any."""
        try:
            self._sweep_trusts()
        except ks_exc.ClientException as exc:
            LOG.warning('The trusts of the service user could not be listed: '
                        '%s', exc)
            return
        self._swept_at = time.monotonic()
        for request in db.requests_undecided(clock.now() - YOUNG):
            # Whoever took the cast died before Keystone answered.
            row = db.request_get(request.uuid)
            db.request_set(row, **credentials.without_trust(row))

    def _sweep_trusts(self):
        marked = self.creds.keystone.marked_trusts()
        requests = db.requests_named(set(marked.values()))
        for trust_id, uuid in marked.items():
            # A trust for an unknown request is another region's.
            if uuid in requests:
                self._settle(trust_id, requests[uuid])

    def _settle(self, trust_id, request):
        """Adopt a trust that its request does not name, or delete it."""
        if (request.trust_id == trust_id or
                clock.now() - request.created_at < YOUNG):
            return
        request = db.request_get(request.uuid)
        if request.trust_id is None and self._lives(request):
            LOG.info('Request %(request)s gets its trust %(trust)s back.',
                     {'request': request.uuid, 'trust': trust_id})
            db.request_set(request, trust_id=trust_id, token=None,
                           credentials=states.CREDENTIALS_TRUST)
        elif request.trust_id != trust_id:
            LOG.info('Trust %(trust)s of request %(request)s is not needed '
                     'and deleted.',
                     {'request': request.uuid, 'trust': trust_id})
            self.creds.revoke_trust(trust_id)

    @staticmethod
    def _lives(request):
        return any(lease.state in states.LEASE_CURRENT
                   for lease in db.leases_of(request.id))
