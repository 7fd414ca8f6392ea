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


"""Base classes of tests. Tests that need Nova have their own."""

from oslotest import base

from tests import fixtures


class TestCase(base.BaseTestCase):
    """A test with the global CONF at its defaults."""

    def setUp(self):
        super().setUp()
        self.conf = self.useFixture(fixtures.ConfFixture())

    def flags(self, group='gpu_lease', **options):
        """Set options for this test."""
        self.conf.config(group=group, **options)


class DatabaseTestCase(TestCase):
    """A test with an empty database."""

    database_fixture = fixtures.DatabaseFixture

    def setUp(self):
        super().setUp()
        self.database = self.useFixture(self.database_fixture())
