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


"""Sends a server that is in a cell already to a compute once more.

Nova has no way to do that: its first build ends with the deletion of the
BuildRequest, and its reschedule wants a list of hosts that were chosen before.
What is done here is what Nova does for a new server once it is in its cell.
"""

from nova import availability_zones
from nova.compute import task_states
from nova import objects
from nova.scheduler import utils as scheduler_utils

from nova_gpu_lease import failpoints


def send(task_mgr, context, instance, spec, selection, cast):
    """Have the selected host build a server.

    :param task_mgr: Nova's ComputeTaskManager.
    :param context: the tenant's RequestContext.
    :param instance: the Instance, with its context set to its cell.
    :param spec: its RequestSpec, ready to schedule with.
    :param selection: the Selection of the host; its resources are claimed.
    :param cast: the payload.Cast of the request.
    :raises: nova.exception.UnexpectedTaskStateError when a compute works on
        the server.
    """
    filter_properties = spec.to_legacy_filter_properties_dict()
    scheduler_utils.populate_filter_properties(filter_properties, selection)
    scheduler_utils.fill_provider_mapping(spec, selection)
    instance.availability_zone = availability_zones.get_host_availability_zone(
        context, selection.service_host)
    instance.task_state = task_states.SCHEDULING
    instance.save(expected_task_state=[task_states.SCHEDULING])
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        instance._context, instance.uuid)
    # The compute on which the build failed has deleted them.
    task_mgr._validate_existing_attachment_ids(context, instance, bdms)
    accel_uuids = task_mgr._create_and_bind_arq_for_instance(
        context, instance, selection.nodename, spec, cast.requested_networks)
    task_mgr.compute_rpcapi.build_and_run_instance(
        instance._context, instance=instance, image=cast.image,
        request_spec=spec, filter_properties=filter_properties,
        admin_password=cast.admin_password,
        injected_files=cast.injected_files,
        requested_networks=cast.requested_networks,
        security_groups=[group.identifier for group in spec.security_groups],
        block_device_mapping=bdms, host=selection.service_host,
        node=selection.nodename, limits=selection.limits, host_list=[],
        accel_uuids=accel_uuids)


class StampedComputeAPI:
    """Nova's compute RPC API; a cast that builds says for which dispatch.

    :param rpcapi: a nova.compute.rpcapi.ComputeAPI.
    :param name: the key in the filter properties.
    :param generations: {server id: generation of its lease}.
    """

    def __init__(self, rpcapi, name, generations):
        self._rpcapi = rpcapi
        self._name = name
        self._generations = generations
        #: The ids of the servers that were sent to a compute.
        self.sent = set()

    def __getattr__(self, name):
        return getattr(self._rpcapi, name)

    def build_and_run_instance(self, context, instance, **kwargs):
        self._cast('build_and_run_instance', context, instance, kwargs)

    def unshelve_instance(self, context, instance, host, request_spec,
                          **kwargs):
        kwargs.update(host=host, request_spec=request_spec)
        self._cast('unshelve_instance', context, instance, kwargs)

    def _cast(self, method, context, instance, kwargs):
        properties = dict(kwargs.pop('filter_properties'))
        properties[self._name] = self._generations[instance.uuid]
        # Without it a compute ends a server whose build failed, as Nova wants
        # it where a host was forced or [scheduler] max_attempts is 1.
        properties.setdefault('retry', {'num_attempts': 1, 'hosts': []})
        failpoints.hit('cast')
        self.sent.add(instance.uuid)
        getattr(self._rpcapi, method)(
            context, instance=instance, filter_properties=properties,
            **kwargs)
        failpoints.hit('cast-sent')
