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

import datetime

from nova_gpu_lease.conductor import dispatcher
from nova_gpu_lease.db import api
from tests import fixtures
from tests.unit.db import base


class NextTimeTest(base.TestCase):
    """When a dispatcher looks again; the rest is in the functional tests."""

    def setUp(self):
        super().setUp()
        self.clock = self.useFixture(fixtures.ClockFixture())
        self.dispatcher = dispatcher.Dispatcher(None, None, None, None, 'c1')

    def test_what_became_due_meanwhile_is_done_at_once(self):
        began = self.clock.now
        for name in ('next_attempt_at', 'wait_until'):
            request = self.queue()
            due = began + datetime.timedelta(seconds=1)
            api.request_set(request, **{name: due})
            self.assertEqual(due, self.dispatcher._next_time(began))
            # The look took longer.
            self.clock.advance(2)
            self.assertEqual(due, self.dispatcher._next_time(began))
            # The next one knows.
            self.assertGreater(self.dispatcher._next_time(self.clock.now),
                               self.clock.now)
            began = self.clock.now

    def test_one_that_is_ending_makes_no_plan(self):
        """It has no reaper and no scheduler here."""
        self.queue()
        self.assertRaises(AttributeError, self.dispatcher.run, lambda: True)
        self.dispatcher.run(lambda: False)

    def test_one_that_is_ending_leaves_it_to_the_next(self):
        self.queue()
        began = self.clock.now
        self.assertEqual(began, self.dispatcher.run(
            lambda: self.clock.advance(1) and False))
