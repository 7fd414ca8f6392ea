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


"""What a server that asks for GPUs gets: its terms, and its rows.

Nothing here writes to the database.
"""

import dataclasses
import datetime

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import credentials
from nova_gpu_lease.conductor import payload
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import terms

LOG = logging.getLogger(__name__)


def terms_of(spec, flavor=None, default=None):
    """The Terms of a RequestSpec; None when it has no lease.

    :param flavor: another nova Flavor, that the server is resized to.
    :param default: the seconds of a lease that no hint asks for.
    """
    hints = spec.scheduler_hints if 'scheduler_hints' in spec else {}
    if default is not None and terms.is_gpu_flavor(
            spec.flavor.extra_specs, CONF.gpu_lease):
        hints = {terms.HINT: duration.format(default), **(hints or {})}
    try:
        return terms.resolve(
            hints,
            (flavor or spec.flavor).extra_specs, CONF.gpu_lease,
            strict=False)
    except exception.InvalidInput as exc:
        # nova-api lets none of these through; its configuration differs, or
        # a flavor was changed while the server was shelved.
        LOG.warning('A server is built without a lease: %s', exc,
                    instance_uuid=spec.instance_uuid)
        return None


def terms_again(server_id, spec):
    """The Terms of a shelved server: as long as its last lease.

    One that made room and went on does not count for less.
    """
    last = db.lease_original(server_id)
    if last is None:
        return terms_of(spec)
    # Without a hint the default of that time counts.
    agreed = terms_of(spec, default=last.duration)
    if agreed is None:
        return None
    length = last.duration
    if agreed.max_duration is not None:
        length = min(length, agreed.max_duration)
    return dataclasses.replace(agreed, duration=length)


def rows(context, kind, agreed, cast, spec, instances):
    """The rows of a request and of its leases.

    :param context: the RequestContext of the user's call.
    :param kind: states.KIND_CREATE or KIND_UNSHELVE.
    :param agreed: the Terms.
    :param cast: a payload.Cast.
    :param spec: the RequestSpec of the first server.
    :param instances: the servers.
    :returns: (columns of models.Request, list of columns of models.Lease).
    """
    kept, secrets = payload.dump(context, cast, spec)
    now = clock.now()
    request = {
        'uuid': uuidutils.generate_uuid(),
        'kind': kind,
        'project_id': instances[0].project_id,
        'user_id': instances[0].user_id,
        'priority': agreed.priority,
        'num_servers': len(instances),
        'devices': agreed.devices,
        'queued_at': now,
        # As the planner names it where no alias shares its devices.
        'queue_group': ','.join(sorted(agreed.devices))[:255],
        'reason': 'It has just been queued.',
        'reason_code': 'new',
        'wait_until': (now + datetime.timedelta(seconds=agreed.wait)
                       if agreed.wait else None),
        'payload': kept,
        'secrets': secrets,
        'context': credentials.Credentials.to_dict(context),
        'destination': _destination(spec),
    }
    return request, [lease_values(agreed, instance, spec.flavor)
                     for instance in instances]


def _destination(spec):
    """Where the owner wants the server: what Nova keeps in no table."""
    wanted = {}
    if 'requested_destination' in spec and spec.requested_destination:
        destination = spec.requested_destination
        for name in ('host', 'node'):
            if name in destination and getattr(destination, name):
                wanted[name] = getattr(destination, name)
    if 'ignore_hosts' in spec and spec.ignore_hosts:
        wanted['ignore_hosts'] = spec.ignore_hosts
    return wanted or None


def lease_values(agreed, instance, flavor):
    """The columns of a new lease.

    :param agreed: a terms.Terms.
    :param instance: a nova Instance.
    :param flavor: the nova Flavor that it has or is to have.
    """
    return {
        'uuid': uuidutils.generate_uuid(),
        'server_id': instance.uuid,
        'server_name': instance.display_name,
        'project_id': instance.project_id,
        'user_id': instance.user_id,
        'flavor': flavor.name,
        'devices': agreed.devices,
        'duration': agreed.duration,
        'max_duration': agreed.max_duration,
        'on_expiry': agreed.on_expiry,
        'auto_extend': agreed.auto_extend,
    }
