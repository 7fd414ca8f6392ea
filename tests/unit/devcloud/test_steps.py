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

"""Steps that wait for each other."""

import threading

from oslotest import base

from nova_gpu_lease.devcloud import steps


class StepsTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.reported = []
        self.steps = steps.Steps(
            report=lambda name, seconds: self.reported.append(name))

    def test_order(self):
        self.steps.add('c', lambda: None, 'a', 'b')
        self.steps.add('b', lambda: None, 'a')
        self.steps.add('a', lambda: None, 'never added')
        self.steps.run()
        self.assertEqual(['a', 'b', 'c'], self.reported)

    def test_independent_steps_run_together(self):
        together = threading.Barrier(2, timeout=20)
        self.steps.add('a', together.wait)
        self.steps.add('b', together.wait)
        self.steps.run()
        self.assertEqual(['a', 'b'], sorted(self.reported))

    def test_error_is_raised_and_ends_the_rest(self):
        ended = threading.Event()
        self.steps.add('waits', lambda: ended.wait(20))
        self.steps.add('fails', lambda: 1 / 0)
        self.steps.add('never', lambda: None, 'fails')
        self.steps.failed = ended.set
        self.assertRaises(ZeroDivisionError, self.steps.run)
        self.assertTrue(ended.is_set())
        self.assertEqual([], self.reported)

    def test_circle(self):
        self.steps.add('a', lambda: None, 'b')
        self.steps.add('b', lambda: None, 'a')
        self.assertRaises(ValueError, self.steps.run)
