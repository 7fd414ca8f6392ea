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


"""The text of ``[gpu_lease] priorities``."""

import testscenarios

from nova_gpu_lease import exception
from nova_gpu_lease import priorities
from tests import base

load_tests = testscenarios.load_tests_apply_scenarios


class RefusedTest(base.TestCase):
    """Each fault is named, with the item that has it."""

    scenarios = [(name, {'items': items, 'item': item, 'reason': reason})
                 for name, items, item, reason in (
        ('none', [], '', 'at least one'),
        ('empty', [''], '', 'name is empty'),
        ('no name', ['normal:0', ':5'], ':5', 'name is empty'),
        ('twice', ['a:1', 'b:2', 'a:3'], 'a:3', "'a' is defined twice"),
        ('no weight', ['normal'], 'normal', 'no whole number'),
        ('empty weight', ['normal:'], 'normal:', 'no whole number'),
        ('fraction', ['a:1.5'], 'a:1.5', 'no whole number'),
        ('word', ['a:high'], 'a:high', 'no whole number'),
        ('huge', ['a:1000000000'], 'a:1000000000', 'nine digits'),
        ('unknown flag', ['a:1:quick'], 'a:1:quick', "flag 'quick'"),
        ('empty flag', ['a:1:'], 'a:1:', "flag ''"),
        ('flag twice', ['a:1:preemptible:preemptible'],
         'a:1:preemptible:preemptible', 'given twice'),
        ('preemptible and first', ['normal:0', 'spare:0:preemptible'],
         'spare:0:preemptible', 'below 0'),
        ('name with a space', ['a b:1'], 'a b:1', 'letters'),
        ('long name', ['x' * 65 + ':1'], 'x' * 65 + ':1', 'up to 64'),
    )]

    def test_priorities_refused(self):
        error = self.assertRaises(exception.InvalidPriorities,
                                  priorities.parse, self.items)
        self.assertIn("'%s'" % self.item, str(error))
        self.assertIn(self.reason, str(error))


class AcceptedTest(base.TestCase):

    def test_priorities_in_their_order(self):
        classes = priorities.parse(
            ['urgent:100', ' spare : -5 : preemptible ', 'a.b_c-1:+7'])
        self.assertEqual(
            [priorities.PriorityClass('urgent', 100, False),
             priorities.PriorityClass('spare', -5, True),
             priorities.PriorityClass('a.b_c-1', 7, False)],
            list(classes.values()))
        self.assertEqual(['urgent', 'spare', 'a.b_c-1'], list(classes))

    def test_default_is_normal(self):
        classes = priorities.parse(['urgent:100', 'normal:0'])
        self.assertEqual('normal', priorities.default(classes).name)

    def test_default_without_normal_is_the_first(self):
        classes = priorities.parse(['urgent:100', 'calm:0'])
        self.assertEqual('urgent', priorities.default(classes).name)

    def test_find_a_class_that_is_gone(self):
        classes = priorities.parse(['normal:3', 'spare:1:preemptible'])
        self.assertEqual(3, priorities.find(classes, 'normal').weight)
        self.assertEqual(priorities.PriorityClass('old', 0, False),
                         priorities.find(classes, 'old'))
