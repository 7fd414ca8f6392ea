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

"""The check of actions on servers, before Nova sees them.

Nova expects that a server is in its cell seconds after it was asked for. Until
then it answers most actions with 409, some with 404, and lock, reset-state and
a few more with 500. Servers wait for hours here: all of these get the same
answer, which says why.
"""

from oslo_log import log as logging

from nova_gpu_lease.api import hints
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease import exception
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: What Nova can do before a server is in a cell.
_POSSIBLE = ('forceDelete',)


def check(context, server_id, body):
    """Check an action on a server.

    :param context: the user's nova.context.RequestContext.
    :param server_id: the server, as in the path of the request.
    :param body: the decoded JSON of the request, whatever it is.
    :raises: exception.ServerWaits, and what hints.check_action() raises
    """
    if isinstance(body, dict) and len(body) == 1:
        action, = body
        if action not in _POSSIBLE and _waits(context, server_id):
            raise exception.ServerWaits(action=action, id=server_id)
    hints.check_action(context, server_id, body)


def _waits(context, server_id):
    """Whether a server that the user may know of was never on a host."""
    try:
        lease = db_api.lease_current(server_id)
    except Exception as exc:
        # Stopping a server, for one, goes on without our database.
        LOG.warning('Could not look for the lease of a server, Nova answers '
                    'by itself: %s', exc)
        return False
    return (lease is not None and lease.state == states.LEASE_QUEUED and
            lease.request.kind == states.KIND_CREATE and
            # It is in a cell once a build of it failed.
            not lease.build_attempts and
            (context.is_admin or lease.project_id == context.project_id))
