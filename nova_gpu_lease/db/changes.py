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


"""What the owner of a lease changes about it while it waits or runs.

Use them through :mod:`nova_gpu_lease.db.api`.
"""

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import _rows
from nova_gpu_lease.db import leases as db_leases
from nova_gpu_lease.db import models


@_engine.writer
def change(session, lease, actor, reason, lease_values=None,
           request_values=None):
    """Set columns of a lease, of its request, or of both or neither.

    Their states stay, but not their generations: a dispatcher or a compute
    that decides by what they were finds out. The history has a row with
    ``reason`` for each, and the dispatcher is woken.

    :param lease: the models.Lease as read.
    :param actor: host name of the service that does it.
    :param reason: what is changed, and by whom.
    :param lease_values: a dict of columns of the lease.
    :param request_values: a dict of columns of its request.
    :returns: the models.Lease as it is now.
    :raises: exception.StaleState if the lease was changed since it was read,
        in any column, or the state of the request; nothing is written then.
    """
    request = lease.request
    if request_values:
        # Its reason and its expected start are written with every plan.
        _rows.amend(session, models.Request, request, request_values)
        _rows.write_history(session, request.uuid, None, request.state,
                            request.state, actor, reason)
    if lease_values:
        _rows.amend(session, models.Lease, lease, lease_values, exact=True)
        _rows.write_history(session, request.uuid, lease.uuid, lease.state,
                            lease.state, actor, reason)
    _rows.bump(session)
    return session.scalars(db_leases.select().where(
        models.Lease.id == lease.id).execution_options(
            populate_existing=True)).one()
