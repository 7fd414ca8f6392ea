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

"""Whether the quota of its project lets a request start.

Nova checks quota when the API takes a request, and what it counts then may
change while the request waits. It is checked again before the devices of a
request are planned, directly before it starts, and once its servers are in
their cell, since others may be quicker in between.

What is counted is what runs and what starts. Servers that wait are not,
although two of Nova's three ways of counting have them among the servers of a
project: a project whose quota is full of waiting servers could start none.
"""

import dataclasses
import itertools
import time

from nova import context as nova_context
from nova import exception as nova_exception
from nova.limit import utils as limit_utils
from nova import objects
from nova.scheduler import utils as scheduler_utils
from oslo_log import log as logging

from nova_gpu_lease.conductor import limits
from nova_gpu_lease.conductor import payload
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import exception
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: Seconds between two looks at the quota of a request that waits for it: a
#: limit in Keystone is raised, and a server without a GPU goes, without a word
#: to us.
RETRY = 10
#: For so many seconds a plan trusts that a request is within its quota; its
#: start does not.
TRUSTED = 10.0


class OverQuota(nova_exception.TooManyInstances):
    """The quota was used up by somebody else while a request was started."""

    msg_fmt = '%(reason)s'


@dataclasses.dataclass
class _Demand:
    """What one server of a request is counted as."""

    cores: int
    #: In MiB.
    ram: int
    #: The RequestSpec, where limits are kept in Keystone.
    spec: object = None
    #: Servers with the same are counted alike.
    key: tuple = ()


class _Project:
    """What a project has waiting."""

    def __init__(self):
        #: {user id: number of servers in no cell}; None for all users.
        self.waiting = {None: 0}

    def add(self, user_id, count):
        for key in (None, user_id):
            self.waiting[key] = self.waiting.get(key, 0) + count

    def of(self, user_id):
        return self.waiting.get(user_id, 0)


class _View:
    """The servers that wait, as the API database has them."""

    def __init__(self, context, requests):
        leases = db.leases_of_requests([request.id for request in requests])
        #: {request uuid: [server id]}
        self.servers = {
            request.uuid: [lease.server_id for lease in leases[request.id]
                           if lease.state == states.LEASE_QUEUED]
            for request in requests}
        nowhere = {
            mapping.instance_uuid for mapping in
            objects.InstanceMappingList.get_by_instance_uuids(
                context, list(itertools.chain(*self.servers.values())))
            if mapping.cell_mapping is None and not mapping.queued_for_delete}
        #: {request uuid: how many of its servers are in no cell}
        self.new = {}
        self.projects = {}
        for request in requests:
            new = sum(server in nowhere
                      for server in self.servers[request.uuid])
            self.new[request.uuid] = new
            self.projects.setdefault(request.project_id, _Project()).add(
                request.user_id, new)
        #: {(project id, user id): the counts of Nova}
        self.counts = {}
        #: {what was asked: the answer}; most requests ask the same.
        self.reasons = {}


class Quota:
    """Finds the requests that are over quota. For use by one thread."""

    def __init__(self, builder):
        """:param builder: a builder.Builder."""
        self.builder = builder
        self._demands = {}
        #: {request uuid: until when it is trusted to be within its quota}
        self._trusted = {}
        #: {request uuid: why its quota does not let it start}
        self._over = {}

    def review(self, context, waiting):
        """Find those that may not start, before all of them are planned.

        :param context: an admin RequestContext.
        :param waiting: the rows of the queue.
        :returns: {request uuid: reason for its owner}.
        """
        if not limits.in_use():
            return {}
        uuids = {request.uuid for request in waiting}
        for known in (self._demands, self._trusted, self._over):
            for gone in known.keys() - uuids:
                del known[gone]
        now = time.monotonic()
        unsure = [request for request in waiting
                  if self._trusted.get(request.uuid, now) <= now]
        if unsure:
            self._review(context, _View(context, waiting), unsure,
                         now + TRUSTED)
        return dict(self._over)

    def _review(self, context, view, unsure, until):
        for request in unsure:
            try:
                reason = self._excess(context, view, request)
            except (nova_exception.RequestSpecNotFound,
                    exception.GPULeaseException) as exc:
                # Deleted, or its start will say what is wrong with it.
                LOG.debug('Request %s: %s', request.uuid, exc)
                continue
            except Exception:
                # What is away is away for all: they are as they were, and
                # none starts without a check.
                LOG.warning('The quotas of waiting requests could not be '
                            'checked.', exc_info=True)
                return
            if reason:
                self._over[request.uuid] = reason
            else:
                self._over.pop(request.uuid, None)
                self._trusted[request.uuid] = until

    def check(self, context, request):
        """Make sure that a request which is to start is within its quota.

        :param context: an admin RequestContext.
        :param request: a row of the queue.
        :raises: OverQuota
        """
        if not limits.in_use():
            return
        view = _View(context, [
            other for other in db.requests_in([states.REQUEST_QUEUED])
            if other.project_id == request.project_id])
        if request.uuid not in view.servers:
            return
        # What starts now is not left for the others.
        for uuid in view.servers:
            self._trusted.pop(uuid, None)
        reason = self._excess(context, view, request)
        if reason:
            self._over[request.uuid] = reason
            raise OverQuota(reason=reason)

    def _excess(self, context, view, request):
        servers = view.servers[request.uuid]
        if not servers:
            return None
        demand = self._demands.get(request.uuid)
        if demand is None:
            demand = self._demands[request.uuid] = self._demand(
                context, request, servers[0])
        new, count = view.new[request.uuid], len(servers)
        key = (request.project_id, request.user_id, demand.key, count, new)
        if key not in view.reasons:
            view.reasons[key] = self._compare(
                context, view, request, demand, count, new)
        return view.reasons[key]

    @staticmethod
    def _compare(context, view, request, demand, count, new):
        project = view.projects[request.project_id]
        if limit_utils.use_unified_limits():
            return limits.over_limits(
                context, request.project_id, demand.spec, count, new,
                project.of(None))
        if not limits.counts_mappings(context):
            # Nova goes on counting servers that are in a cell, shelved or
            # not.
            if not new:
                return None
            count = new
        return limits.over_quotas(
            context, view.counts, project.of, request.project_id,
            request.user_id,
            {'instances': new, 'cores': count * demand.cores,
             'ram': count * demand.ram})

    def _demand(self, context, request, server_id):
        spec = objects.RequestSpec.get_by_instance_uuid(context, server_id)
        cores, ram = spec.flavor.vcpus, spec.flavor.memory_mb
        if not limit_utils.use_unified_limits():
            return _Demand(cores, ram, key=(cores, ram))
        spec = self.builder.spec_of(
            context, server_id,
            payload.load(context, db.request_get(request.uuid)), 1)
        resources = scheduler_utils.ResourceRequest.from_request_spec(
            spec).merged_resources()
        return _Demand(cores, ram, spec, tuple(sorted(resources.items())))


def recheck(spec, project_id, user_id):
    """Check once more, now that the servers are where Nova counts them.

    In place of Nova's own check, which also counts servers that wait.

    :param spec: the RequestSpec of one of the servers.
    :param project_id: whose servers they are.
    :param user_id: likewise.
    :raises: OverQuota
    """
    if not limits.in_use() or not CONF.quota.recheck_quota:
        return
    admin = nova_context.get_admin_context()
    view = _View(admin, [
        request for request in db.requests_in([states.REQUEST_QUEUED])
        if request.project_id == project_id])
    project = view.projects.get(project_id, _Project())
    if limit_utils.use_unified_limits():
        reason = limits.over_limits(
            admin, project_id, spec, 0, 0, project.of(None))
    else:
        reason = limits.over_quotas(
            admin, view.counts, project.of, project_id, user_id,
            dict.fromkeys(limits.RESOURCES, 0))
    if reason:
        raise OverQuota(reason=reason)
