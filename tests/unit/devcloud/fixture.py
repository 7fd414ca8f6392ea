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

"""A state directory for a test."""

import os

import fixtures

from nova_gpu_lease.devcloud import options
from nova_gpu_lease.devcloud import state


class StateFixture(fixtures.Fixture):
    """A devcloud's state, with a cache directory of its own."""

    def __init__(self, **asked):
        super().__init__()
        self.asked = asked

    def _setUp(self):
        base = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.EnvironmentVariable(
            'XDG_CACHE_HOME', os.path.join(base, 'cache')))
        self.state = state.State(os.path.join(base, 'cloud'))
        with self.state.lock():
            self.state.create(*options.new(self.asked))
