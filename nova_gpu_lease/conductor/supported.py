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

"""Whether the installed Nova's conductor is the one that the hooks know."""

from nova.conductor import manager

from nova_gpu_lease import hooks

#: Methods of ComputeTaskManager, with the arguments they were tested with.
TESTED = {
    'schedule_and_build_instances': (
        'context', 'build_requests', 'request_specs', 'image',
        'admin_password', 'injected_files', 'requested_networks',
        'block_device_mapping', 'tags'),
    'build_instances': (
        'context', 'instances', 'image', 'filter_properties',
        'admin_password', 'injected_files', 'requested_networks',
        'security_groups', 'block_device_mapping', 'legacy_bdm',
        'request_spec', 'host_lists'),
    'unshelve_instance': ('context', 'instance', 'request_spec'),
    'migrate_server': (
        'context', 'instance', 'scheduler_hint', 'live', 'rebuild', 'flavor',
        'block_migration', 'disk_over_commit', 'reservations',
        'clean_shutdown', 'request_spec', 'host_list'),
    '_schedule_instances': (
        'context', 'request_spec', 'instance_uuids', 'return_alternates'),
    '_create_block_device_mapping': (
        'cell', 'flavor', 'instance_uuid', 'block_device_mapping'),
    '_delete_build_request': (
        'context', 'build_request', 'instance', 'cell', 'instance_bdms',
        'instance_tags'),
    '_create_and_bind_arq_for_instance': (
        'context', 'instance', 'hostname', 'request_spec',
        'requested_networks'),
    '_validate_existing_attachment_ids': ('context', 'instance', 'bdms'),
    '_restrict_request_spec_to_cell': ('context', 'instance', 'request_spec'),
    '_recheck_quota': (
        'context', 'flavor', 'request_spec', 'orig_num_req', 'project_id',
        'user_id'),
    '_cleanup_build_artifacts': (
        'context', 'exc', 'instances', 'build_requests', 'request_specs',
        'block_device_mappings', 'tags', 'cell_mapping_cache'),
    '_cleanup_when_reschedule_fails': (
        'context', 'instance', 'exception', 'legacy_request_spec',
        'requested_networks'),
    '_bury_in_cell0': (
        'context', 'request_spec', 'exc', 'build_requests', 'instances',
        'block_device_mapping', 'tags'),
}
TESTED_RPC_MAJOR = '1'


def check():
    """Refuse a Nova whose conductor is not the tested one.

    :raises: exception.UnsupportedNova
    """
    hooks.check(
        manager.ComputeTaskManager, TESTED_RPC_MAJOR,
        ((manager.ComputeTaskManager, name, arguments)
         for name, arguments in TESTED.items()))
