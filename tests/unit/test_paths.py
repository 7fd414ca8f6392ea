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


"""The page of the documentation that names a test for every path."""

import ast
import pathlib
import re

from tests import base

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / 'doc' / 'source' / 'contributor' / 'paths.rst'


class PathsTest(base.TestCase):

    def test_every_named_test_is_there(self):
        names = re.findall(r'``((?:unit|functional|cloud|soak)\.[\w.]+)``',
                           PAGE.read_text())
        self.assertGreater(len(names), 40)
        for name in names:
            self.assertTrue(self._exists(name), name)

    @staticmethod
    def _exists(name):
        """Whether a test, or a class of tests, is below tests/."""
        module, _, rest = re.match(r'(.*?\.test_\w+)(\.)(.*)', name).groups()
        path = ROOT / 'tests' / (module.replace('.', '/') + '.py')
        classes = {node.name: node for node in
                   ast.parse(path.read_text()).body
                   if isinstance(node, ast.ClassDef)}
        wanted, _, test = rest.partition('.')
        return wanted in classes and (not test or any(
            isinstance(node, ast.FunctionDef) and node.name == test
            for node in classes[wanted].body))
