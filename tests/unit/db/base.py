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


"""What the tests of the database share."""

import concurrent.futures
import datetime
import os
import time
import uuid

import sqlalchemy as sa

from nova_gpu_lease.db import _engine
from nova_gpu_lease.db import api
from nova_gpu_lease.db import models
from tests import base

HOST = 'conductor-1'
NOW = datetime.datetime(2026, 11, 21, 19, 8, 7, 123456,
                        tzinfo=datetime.timezone.utc)


def seconds(number):
    return datetime.timedelta(seconds=number)


def in_threads(count, function):
    """Call function(0) … function(count - 1) at the same time.

    :returns: their results in that order; an exception is a result too.
    """
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(function, n) for n in range(count)]
        return [future.exception() or future.result() for future in futures]


class TestCase(base.DatabaseTestCase):
    """A test with a database and words to fill it."""

    def queue(self, *servers, lease=None, initial=None, **values):
        """Queue a request for servers (one if none is given).

        :param initial: further arguments of request_create.
        """
        servers = servers or (str(uuid.uuid4()),)
        values = {'kind': 'create', 'project_id': 'project',
                  'user_id': 'user', 'priority': 'normal',
                  'devices': {'gpu': 1}, 'context': {'user': 'user'},
                  'payload': {'image': 'x'}, **values}
        return api.request_create(values, [
            {'server_id': server, 'server_name': 'name of ' + server[:8],
             'flavor': 'gpu', 'duration': 3600, 'on_expiry': 'shelve',
             **(lease or {})} for server in servers], HOST,
            **(initial or {}))

    def place(self, *servers, lease=None, **values):
        """Queue a request and start its servers: they are BUILDING."""
        request = self.queue(*servers, **values)
        request = api.request_transition(request, 'DISPATCHING', HOST)
        leases = api.leases_of(request.id)
        api.request_transition(
            request, 'PLACED', HOST, lease_state='BUILDING',
            lease_values={one.server_id: lease or {} for one in leases})
        return api.leases_of(request.id)

    def activate(self, *servers, started_at=NOW, duration=3600, **kwargs):
        """Leases that are ACTIVE."""
        return [api.lease_transition(
            lease, 'ACTIVE', HOST, started_at=started_at,
            expires_at=started_at + seconds(duration))
            for lease in self.place(*servers, **kwargs)]

    def end(self, lease, at, state='RELEASED'):
        """End an ACTIVE lease."""
        return api.lease_transition(lease, state, HOST, ended_at=at)

    def rows(self, model):
        """All rows of a table, in the order of its primary key."""
        key = sa.inspect(model).primary_key[0]
        with _engine.manager().reader.using(_engine._Context()) as session:
            return session.scalars(sa.select(model).order_by(key)).all()

    def history(self):
        """The changes of state: (is it a lease, old, new, reason)."""
        return [(row.lease_uuid is not None, row.old_state, row.new_state,
                 row.reason) for row in self.rows(models.History)]

    def in_child(self, function):
        """Fork; the child's exit status is 0 if function() is true."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if function() else 2
            finally:
                os._exit(status)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        self.fail('The child did not end.')
