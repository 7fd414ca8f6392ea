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

"""An ML2 mechanism driver that binds any port of any host.

Fake guests need no wires: a port is bound as soon as it has a host, and is
active at once, so that nothing waits for an agent.
"""

from neutron_lib import constants
from neutron_lib.plugins.ml2 import api


class DevcloudMechanismDriver(api.MechanismDriver):
    """Binds to the first segment, whichever host and network it is."""

    def initialize(self):
        """Need nothing."""

    def bind_port(self, context):
        """Bind a port, see the base class."""
        segment = context.segments_to_bind[0]
        context.set_binding(segment[api.ID], 'other', {},
                            status=constants.PORT_STATUS_ACTIVE)
