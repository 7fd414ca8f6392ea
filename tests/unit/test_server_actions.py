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

"""The table of server actions and its tests are the same list."""

import ast
import pathlib
import re

from tests import base

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / 'doc' / 'source' / 'reference' / 'server-actions.rst'
#: A class without its ``Test``, and tests without their ``test_``.
_NAMED = re.compile(
    r'\b(Stay|PoweredOff|Shelve|Resize|Move|Live|Expiry)\.'
    r'([a-z_]+(?:,\s+[a-z_]+)*)')


def named():
    """The (class, test) pairs that the table names."""
    return {(cls, name) for cls, names in _NAMED.findall(TABLE.read_text())
            for name in re.split(r',\s+', names)}


def written(pattern):
    """The (class, test) pairs in modules of the functional tests."""
    found = set()
    for path in (ROOT / 'tests' / 'functional').glob(pattern):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                cls = re.sub('(Placement)?(Test|Cases)$', '', node.name)
                found.update((cls, method.name.removeprefix('test_'))
                             for method in node.body
                             if isinstance(method, ast.FunctionDef) and
                             method.name.startswith('test_'))
    return found


class ServerActionsTest(base.TestCase):

    def test_table_names_tests_that_exist(self):
        self.assertEqual(set(), named() - written('test_actions*.py') -
                         written('test_expiry.py'))

    def test_every_test_is_in_the_table(self):
        self.assertEqual(set(), written('test_actions*.py') - named())
        self.assertGreater(len(named()), 50)
