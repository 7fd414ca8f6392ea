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

"""Starts what waits: one look at the whole queue at a time.

Survey the hosts, plan, write the plan for the scheduler filter, start what
can start. Only the holder of the dispatcher lock runs this, one request after
the other.
"""

import datetime

from nova import context as nova_context
from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import builder as nova_builder
from nova_gpu_lease.conductor import payload
from nova_gpu_lease.conductor import planning
from nova_gpu_lease.conductor import quota
from nova_gpu_lease.conductor import reaper
from nova_gpu_lease.conductor import records
from nova_gpu_lease.conductor import shares
from nova_gpu_lease.conductor import unstarted
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import failpoints
from nova_gpu_lease import planner
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)

#: The waits between tries to start one request, in seconds.
BACKOFF = (1, 1, 2, 5, 10, 30, 60)
#: See Dispatcher._is_hopeless.
NEW = datetime.timedelta(minutes=1)
STANDS = datetime.timedelta(minutes=5)

#: The time before a request that could not be settled is looked at again.
UNSETTLED = datetime.timedelta(seconds=5)
#: The time before the first of several looks, see Dispatcher._next_time.
CLAIMED = datetime.timedelta(seconds=1)


class Dispatcher:
    """Moves requests from QUEUED to PLACED, FAILED or CANCELLED."""

    def __init__(self, builder, reaper, creds, scheduler, host):
        """:param builder: a builder.Builder.

        :param reaper: a reaper.Reaper.
        :param creds: a credentials.Credentials.
        :param scheduler: a scheduler rpcapi.SchedulerAPI.
        :param host: the name of this service's host.
        """
        self.builder = builder
        self.reaper = reaper
        self.creds = creds
        self.scheduler = scheduler
        self.host = host
        self.quota = quota.Quota(builder)
        self.shares = shares.FairShare()
        #: Whether somebody waited for quota in the last plan.
        self._over_quota = False
        #: {request uuid: since when no host can ever hold it}.
        self._hopeless = {}
        #: Whether the last survey saw a host with devices down.
        self._host_down = False
        #: Since when surveys see devices that are claimed and not taken.
        self._claimed_since = None

    def run(self, still_ours):
        """Start everything that can start now.

        :param still_ours: a function that tells whether the dispatcher lock
            is still held; asked before each plan and each start.
        :returns: the time of the next thing to do without an event, an aware
            datetime, or None.
        """
        context = nova_context.get_admin_context()
        began = clock.now()
        self._give_up_waiting(context)
        while still_ours():
            if not self._round(context, still_ours):
                return self._next_time(began)
        # What is left is due at once, for whoever holds the lock then: that
        # may be this process, whose beat was only late.
        return began

    def _round(self, context, still_ours):
        """Plan once and start what the plan starts.

        :returns: whether another round may find more to do.
        """
        failed = self.reaper.requeue_failed()
        waiting = db.requests_in([states.REQUEST_QUEUED])
        if not waiting:
            db.plan_save({})
            planning.save_preemptions(
                planner.Plan({}, {}, {}), db.leases_preempting(),
                clock.now())
            return False
        plan, parts, hosts = self._plan(context, waiting)
        if any(request.id not in failed
               for request in db.requests_with_failed_builds()):
            # It freed the devices that were seen, and comes before those who
            # would take them.
            return True
        for request in waiting:
            for name, leases in parts[request.uuid].items():
                if name not in plan.starts:
                    continue
                if not still_ours():
                    return True
                self._start(context, request,
                            {lease.server_id for lease in leases},
                            plan.starts[name], hosts)
        # Nobody starts later for it.
        planning.save(waiting, plan)
        # What was started may have left room, or failed and given it back.
        return bool(plan.starts)

    def _plan(self, context, waiting):
        """Decide who starts, and write why the others wait.

        :returns: a tuple of a Plan, the parts of the requests as
            planning.parts(), and {node uuid: name of its host}.
        """
        leases = db.leases_of_requests([request.id for request in waiting])
        # Only what was sent to a host before can be in a cell.
        parts = planning.parts(waiting, leases, records.cells_of(context, [
            lease.server_id for each in leases.values() if len(each) > 1
            for lease in each if lease.node_uuid]))
        survey = self.scheduler.survey(
            context, planning.questions(waiting, parts))
        over_quota = self.quota.review(context, waiting)
        self._over_quota = bool(over_quota)
        now = clock.now()
        self._note_hosts(survey['nodes'], now)
        waiting = [request for request in waiting if self._may_start(
            context, request, survey['requests'].get(request.uuid), now)]
        held = db.leases_held()
        nodes = {uuid: planner.Node.from_dict(node)
                 for uuid, node in survey['nodes'].items()}
        plan = planner.plan(
            planning.queue(waiting, parts, survey, over_quota, now), nodes,
            planning.running(survey['nodes'], held, now), now.timestamp(),
            planning.policy(), planning.promises(waiting),
            self.shares.factors(now))
        db.plan_save(plan.reservations)
        planning.save_preemptions(plan, held, now)
        return plan, parts, {
            uuid: node.host for uuid, node in nodes.items()}

    def _note_hosts(self, nodes, now):
        """Remember what makes another look worthwhile without an event."""
        self._host_down = not all(node['up'] for node in nodes.values())
        if any(node.get('claimed') for node in nodes.values()):
            self._claimed_since = self._claimed_since or now
        else:
            self._claimed_since = None

    def _may_start(self, context, request, answer, now):
        """Whether a request is to be planned; others are ended if need be.

        :param answer: its entry in the survey's answer, or None.
        """
        if answer is None:
            if not self._waiting_leases(request):
                # What was begun with it was broken off.
                self._move(request, reaper.over(
                    request, states.REQUEST_CANCELLED))
            return False
        if self._is_hopeless(request, answer, now):
            self._fail(context, request, 'never', answer['never'])
            return False
        return True

    def _is_hopeless(self, request, answer, now):
        """Whether no host can ever hold a request.

        A new request is told at once. One that has waited may only have lost
        its hosts for a moment (an aggregate is rebuilt, a host is replaced),
        so that the answer has to stand for a while.
        """
        if not answer['never']:
            self._hopeless.pop(request.uuid, None)
            return False
        since = self._hopeless.setdefault(request.uuid, now)
        return (now - request.queued_at < NEW or now - since >= STANDS)

    def _start(self, context, request, servers, nodes, hosts):
        # Fewer than planned where some were deleted meanwhile.
        leases = [lease for lease in self._waiting_leases(request)
                  if lease.server_id in servers]
        if not leases or not self._within_quota(context, request):
            return
        now = clock.now()
        planned = {
            lease.server_id: {'host': hosts[node], 'node_uuid': node,
                              'dispatched_at': now}
            for lease, node in zip(leases, nodes)}
        try:
            request = db.request_transition(
                request, states.REQUEST_DISPATCHING, self.host,
                lease_state=states.LEASE_BUILDING, lease_values=planned,
                servers=list(planned))
        except exception.StaleState:
            return
        failpoints.hit('dispatching')
        try:
            build = self._prepare(request, list(planned), nodes)
        except nova_builder.AlreadyBegun as exc:
            LOG.warning('%s', exc)
            self._settle(context, request, servers=list(planned))
        except exception.StaleState as exc:
            self._leave(context, request, exc)
        except (unstarted.LeaseFault, exception.UserGone) as exc:
            self._settle(context, request, fault=nova_builder.text_of(exc),
                         servers=list(planned))
        except Exception as exc:
            # Whatever is away may be back soon, and nothing was begun.
            LOG.info('Request %s could not be started.', request.uuid,
                     exc_info=True)
            self._requeue(request, list(planned), nova_builder.text_of(exc))
        else:
            self._build(context, request, list(planned), build)

    def _within_quota(self, context, request):
        try:
            self.quota.check(context, request)
        except quota.OverQuota as exc:
            # The next plan knows, and keeps no device for it.
            LOG.debug('Request %s: %s', request.uuid, exc)
            return False
        except Exception as exc:
            LOG.warning('The quota of request %s could not be checked.',
                        request.uuid, exc_info=True)
            db.request_set(request, **self._again(
                request, nova_builder.text_of(exc)))
            return False
        return True

    def _prepare(self, request, server_ids, nodes):
        generations = {lease.server_id: lease.generation
                       for lease in db.leases_of(request.id)}
        tenant = self.creds.context_for(request)
        cast = payload.load(tenant, request)
        self.builder.check(tenant, request.kind, server_ids, cast)
        # What another one claimed meanwhile would be given back.
        reaper.still_begun(request)
        return self.builder.prepare(
            tenant, request.kind, {server_id: generations[server_id]
                                   for server_id in server_ids},
            nodes, cast)

    def _build(self, context, request, server_ids, build):
        try:
            reaper.still_begun(request)
            build()
        except nova_builder.AlreadyBegun as exc:
            LOG.warning('%s', exc)
            self._settle(context, request, servers=server_ids)
        except exception.StaleState as exc:
            self._leave(context, request, exc)
        except nova_builder.SelectionLost as exc:
            self._requeue(request, server_ids, nova_builder.text_of(exc))
        except (quota.OverQuota, nova_builder.NothingSent) as exc:
            LOG.info('Request %s waits again: %s', request.uuid, exc)
            self._settle(context, request, servers=server_ids,
                         retry=self._again(request, nova_builder.text_of(exc)))
        except Exception as exc:
            # Nova puts the servers that it created into ERROR, and raises.
            LOG.exception('Request %s could not be started.', request.uuid)
            self._settle(
                context, request, begun=True, servers=server_ids,
                fault='The server could not be started: %s' %
                nova_builder.text_of(exc))
        else:
            # What it was built from is kept until it runs.
            self._move(request, states.REQUEST_PLACED, attempts=0)
            failpoints.hit('placed')
            LOG.info('Request %s starts.', request.uuid)

    def _settle(self, context, request, **kwargs):
        try:
            self.reaper.settle(context, request, **kwargs)
        except exception.StaleState:
            LOG.warning('Request %s was taken over by another dispatcher.',
                        request.uuid)

    def _leave(self, context, request, exc):
        """Leave a request to the dispatcher that took over meanwhile.

        What was claimed for servers that wait again would keep them waiting.
        """
        LOG.warning('This process stood still, and another one dispatches '
                    'by now: %s', exc)
        self.builder.unstarted.release(context, [
            lease.server_id for lease in self._waiting_leases(request)])

    def _requeue(self, request, server_ids, reason):
        """Back into the queue, in its old place, for another try soon.

        :param server_ids: the servers that were to be started; others of the
            request may be being built already.
        """
        LOG.info('Request %(request)s goes on waiting, it could not start: '
                 '%(reason)s', {'request': request.uuid, 'reason': reason})
        self._move(request, states.REQUEST_QUEUED,
                   lease_state=states.LEASE_QUEUED, servers=server_ids,
                   **self._again(request, reason))

    @staticmethod
    def _again(request, reason):
        """The columns of a request that is to be tried again."""
        wait = BACKOFF[min(request.attempts, len(BACKOFF) - 1)]
        return {
            'reason': 'The last try to start failed: %s' % reason,
            'reason_code': planner.WAIT_RETRY,
            'attempts': request.attempts + 1,
            'next_attempt_at': clock.now() + datetime.timedelta(seconds=wait)}

    def _fail(self, context, request, code, reason):
        """End a waiting request with a fault for its owner.

        One that cannot be ended now must not keep the others waiting.
        """
        LOG.info('Request %(request)s fails: %(reason)s',
                 {'request': request.uuid, 'reason': reason})
        try:
            self._fail_servers(context, request, code, reason)
        except Exception:
            LOG.exception('Request %s could not be failed; that is tried '
                          'again.', request.uuid)

    def _fail_servers(self, context, request, code, reason):
        servers = [lease.server_id for lease in self._waiting_leases(request)]
        for server_id in servers:
            self.builder.unstarted.fail(
                context, request.kind, server_id, reason)
        self._hopeless.pop(request.uuid, None)
        self._move(request, reaper.over(request, states.REQUEST_FAILED),
                   reason=reason, reason_code=code,
                   lease_state=states.LEASE_CANCELLED, servers=servers)

    def _move(self, request, state, **values):
        try:
            db.request_transition(request, state, self.host, **values)
        except exception.StaleState:
            LOG.warning('Request %s was changed by somebody else.',
                        request.uuid)

    def _give_up_waiting(self, context):
        now = clock.now()
        for request in db.requests_in([states.REQUEST_QUEUED]):
            if request.credentials == states.CREDENTIALS_NONE:
                # Said now, and not when it is the request's turn.
                self._fail(context, request, 'no_credentials',
                           exception.NoCredentials().format_message())
            elif request.wait_until and request.wait_until <= now:
                self._fail(
                    context, request, 'wait_limit',
                    'No GPU became free within the wait limit of %s. %s' % (
                        duration.format(round((
                            request.wait_until - request.queued_at
                        ).total_seconds())), request.reason or ''))

    @staticmethod
    def _waiting_leases(request):
        return [lease for lease in db.leases_of(request.id)
                if lease.state == states.LEASE_QUEUED]

    def _next_time(self, began):
        """When to look again without an event.

        :param began: when this look began: what became due since was not yet
            due when the queue was planned.
        """
        now = clock.now()
        times = [now + datetime.timedelta(
            seconds=CONF.gpu_lease.dispatch_interval)]
        if db.requests_in([states.REQUEST_DISPATCHING]):
            # They could not be settled; what was away may be back soon.
            times.append(now + UNSETTLED)
        waiting = db.requests_in([states.REQUEST_QUEUED])
        if waiting and self._host_down:
            # It may be up again with its next report: nobody tells when the
            # reports of a host that ran all the time come through again.
            times.append(now + datetime.timedelta(
                seconds=CONF.report_interval))
        if waiting and self._claimed_since:
            # Nova gives some claims up without a word: that of a move that
            # failed, for example. Most are soon gone, or taken.
            times.append(now + max(CLAIMED, now - self._claimed_since))
        if waiting and self._over_quota:
            times.append(now + datetime.timedelta(seconds=quota.RETRY))
        for request in waiting:
            times.extend(when for when in (request.wait_until,
                                           request.next_attempt_at)
                         if when and when > began)
        times.extend(since + STANDS for since in self._hopeless.values()
                     if since + STANDS > began)
        return min(times)
