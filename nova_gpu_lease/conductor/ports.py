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

"""What the ports of a new server ask Placement for: bandwidth, for example.

Nova's API reads it at the create call, and Nova again whenever it moves or
unshelves a server. A new server may wait for hours in between, and its ports
may get other QoS policies meanwhile: its compute would fail to bind a port
that asks for what was not claimed.
"""

from nova import objects

#: What Nova calls the requests for accelerators. They are no ports' own, and
#: need to be those that the server was created with.
_ACCELERATOR = 'device_profile_'


def refresh(network_api, context, spec, networks):
    """Have a RequestSpec ask for what its ports ask for by now.

    :param network_api: Nova's network API.
    :param context: a RequestContext.
    :param spec: the RequestSpec, with no groups of PCI devices yet.
    :param networks: the requested networks, or None.
    """
    if not any(network.port_id for network in networks or ()):
        return
    # Copies: Nova notes there which PCI device is for which port.
    copies = objects.NetworkRequestList(
        objects=[network.obj_clone() for network in networks])
    metadata, groups, params = network_api.create_resource_requests(
        context, copies, objects.InstancePCIRequests(requests=[]))
    spec.network_metadata = metadata
    spec.request_level_params = params
    spec.requested_resources = [
        group for group in spec.requested_resources
        if _is_of_accelerator(group)] + [
        group for group in groups if not _is_of_accelerator(group)]


def _is_of_accelerator(group):
    return (group.requester_id or '').startswith(_ACCELERATOR)
