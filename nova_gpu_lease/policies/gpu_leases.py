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


"""Who may read leases and the queue, change a lease, and leave the queue."""

from oslo_policy import policy

from nova_gpu_lease.policies import base

INDEX = base.POLICY_ROOT % 'index'
INDEX_ALL_PROJECTS = base.POLICY_ROOT % 'index:all_projects'
SHOW = base.POLICY_ROOT % 'show'
SHOW_HOST = base.POLICY_ROOT % 'show:host'
UPDATE = base.POLICY_ROOT % 'update'
EXTEND = base.POLICY_ROOT % 'extend'
CANCEL = base.POLICY_ROOT % 'cancel'
QUEUE = base.POLICY_ROOT % 'queue'
QUEUE_ALL_PROJECTS = base.POLICY_ROOT % 'queue:all_projects'


def _rule(name, check_str, description, *paths, method='GET'):
    return policy.DocumentedRuleDefault(
        name=name, check_str=check_str, description=description,
        operations=[{'method': method, 'path': path} for path in paths],
        scope_types=['project'])


RULES = [
    _rule(INDEX, base.PROJECT_READER_OR_ADMIN,
          "List the GPU leases of one's own project.",
          '/os-gpu-leases'),
    _rule(INDEX_ALL_PROJECTS, base.ADMIN,
          'List the GPU leases of all projects, or of another one.',
          '/os-gpu-leases?all_projects=true'),
    _rule(SHOW, base.PROJECT_READER_OR_ADMIN,
          'Show a GPU lease. Who may not sees a 404.',
          '/os-gpu-leases/{id}'),
    _rule(SHOW_HOST, base.ADMIN,
          'See the host in a GPU lease.',
          '/os-gpu-leases', '/os-gpu-leases/{id}'),
    _rule(UPDATE, base.PROJECT_MEMBER_OR_ADMIN,
          'Change what happens at the end of a GPU lease, whether it extends '
          'itself, its length or, while it waits, its priority class. The '
          'last two have rules of their own, which are checked besides. Who '
          'may not sees a 404, if the lease is not of the own project.',
          '/os-gpu-leases/{id}', method='PATCH'),
    _rule(EXTEND, base.PROJECT_MEMBER_OR_ADMIN,
          'Make a GPU lease longer, up to its longest duration, even if '
          'others then wait longer than they were promised.',
          '/os-gpu-leases/{id}', method='PATCH'),
    _rule(CANCEL, base.PROJECT_MEMBER_OR_ADMIN,
          'Take a server that waits to be unshelved out of the queue. Who may '
          'not sees a 404, if the lease is not of the own project.',
          '/os-gpu-leases/{id}', method='DELETE'),
    _rule(QUEUE, base.PROJECT_READER_OR_ADMIN,
          "List the waiting GPU requests of one's own project.",
          '/os-gpu-leases/queue'),
    _rule(QUEUE_ALL_PROJECTS, base.ADMIN,
          'List the waiting GPU requests of all projects.',
          '/os-gpu-leases/queue?all_projects=true'),
]


def list_rules():
    return RULES
