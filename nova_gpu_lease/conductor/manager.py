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

"""The manager of a nova-gpu-lease-conductor."""

import datetime
import time

from nova.conductor import manager as nova_manager
from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease.conductor import builder as nova_builder
from nova_gpu_lease.conductor import credentials
from nova_gpu_lease.conductor import dispatcher
from nova_gpu_lease.conductor import endpoint
from nova_gpu_lease.conductor import expirer
from nova_gpu_lease.conductor import keeper
from nova_gpu_lease.conductor import leases
from nova_gpu_lease.conductor import reaper
from nova_gpu_lease.conductor import supported
from nova_gpu_lease.conductor import worker
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db
from nova_gpu_lease import priorities
from nova_gpu_lease.scheduler import rpcapi as scheduler_rpcapi
from nova_gpu_lease import version

LOG = logging.getLogger(__name__)


class GPULeaseConductorManager(nova_manager.ConductorManager):
    """Nova's manager with the queue in front and its threads beside."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        supported.check()
        priorities.parse(CONF.gpu_lease.priorities)
        self.gpu_lease_creds = credentials.Credentials()
        self.additional_endpoints.insert(0, endpoint.QueueEndpoint(
            self.compute_task_mgr, self.gpu_lease_creds, self.host))
        self.additional_endpoints.append(leases.LeaseEndpoint(
            self.host, self._gpu_lease_look))
        self._gpu_lease_threads = []
        self._gpu_lease_swept_at = None
        self._gpu_lease_deletions = None

    def post_start_hook(self):
        super().post_start_hook()
        # After the fork: threads and connections are this worker's own.
        db.dispose()
        builder = nova_builder.Builder(self.compute_task_mgr)
        self.gpu_lease_reaper = reaper.Reaper(
            builder.unstarted, self.host)
        self.gpu_lease_dispatcher = dispatcher.Dispatcher(
            builder, self.gpu_lease_reaper, self.gpu_lease_creds,
            scheduler_rpcapi.SchedulerAPI(), self.host)
        self.gpu_lease_keeper = keeper.Keeper(self.gpu_lease_creds)
        self.gpu_lease_expirer = expirer.Expirer(
            self.gpu_lease_creds, self.host)
        self.gpu_lease_leader = worker.Leader(
            self.host, version.version_string())
        self._gpu_lease_threads = [
            self.gpu_lease_leader,
            worker.Loop('dispatch', self.gpu_lease_leader, self,
                        self._gpu_lease_dispatch),
            worker.Loop('expire', self.gpu_lease_leader, self,
                        self._gpu_lease_expire),
            # By itself: a Keystone that hangs holds up nothing else.
            worker.Loop('keep', self.gpu_lease_leader, self,
                        self._gpu_lease_keep)]
        for thread in self._gpu_lease_threads:
            thread.start()

    def set_shutdown_in_progress(self):
        super().set_shutdown_in_progress()
        if self._gpu_lease_threads:
            self.gpu_lease_leader.stopping.set()
            self._gpu_lease_look()

    def graceful_shutdown(self, timeout):
        # Running rounds are registered as tasks, which Nova waits for.
        super().graceful_shutdown(timeout)
        for thread in self._gpu_lease_threads:
            thread.join(timeout=5)

    def _gpu_lease_dispatch(self, first):
        interval = CONF.gpu_lease.dispatch_interval
        # Nobody else dispatches: those of a dead one, and those that could
        # not be settled before.
        self.gpu_lease_reaper.recover()
        deletions = db.deletions_value()
        sweep = (first or self._gpu_lease_swept_at is None or
                 time.monotonic() - self._gpu_lease_swept_at >= interval)
        if sweep or deletions != self._gpu_lease_deletions:
            self.gpu_lease_reaper.cancel_deleted()
            self._gpu_lease_deletions = deletions
        self.gpu_lease_reaper.free_cancelled()
        self.gpu_lease_reaper.close_builds()
        if sweep:
            self.gpu_lease_reaper.follow_servers()
            self.gpu_lease_reaper.fail_lost()
            self.gpu_lease_reaper.give_back_late()
            self._gpu_lease_swept_at = time.monotonic()
        return self.gpu_lease_dispatcher.run(self._gpu_lease_may_go_on)

    def _gpu_lease_expire(self, first):
        busy = self.gpu_lease_expirer.run(self._gpu_lease_may_go_on)
        seconds = (CONF.gpu_lease.poll_interval if busy else
                   min(CONF.gpu_lease.expiry_retry_interval, 5))
        return min([clock.now() + datetime.timedelta(seconds=seconds)] + [
            lease.preempt_at for lease in db.leases_preempting()])

    def _gpu_lease_keep(self, first):
        self.gpu_lease_keeper.run()
        # Events come by the hundred, and this is not urgent.
        self.gpu_lease_leader.stopping.wait(keeper.PAUSE)
        return clock.now() + datetime.timedelta(
            seconds=CONF.gpu_lease.dispatch_interval)

    def _gpu_lease_look(self):
        """Have the loops look at the wake-up counter now.

        :returns: whether they work here.
        """
        if not self._gpu_lease_threads:
            return False
        for loop in self.gpu_lease_leader.loops:
            loop.woken.set()
        return self.gpu_lease_leader.holds()

    def _gpu_lease_may_go_on(self):
        return (self.gpu_lease_leader.holds() and
                not self.gpu_lease_leader.stopping.is_set())
