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


"""Who may use which priority class: a rule for each one that is configured."""

from oslo_policy import policy

from nova_gpu_lease.conf import CONF
from nova_gpu_lease.policies import base
from nova_gpu_lease import priorities

_NAME = base.POLICY_ROOT % 'priority:%s'


def rule_name(priority):
    """The rule of a class.

    :param priority: the name of the class.
    """
    return _NAME % priority


def list_rules():
    """The rules of the classes of ``[gpu_lease] priorities``.

    A class whose requests start before those of the default class is for
    admins; with all others one can only wait longer, or be preempted.

    :returns: a list of oslo_policy.policy.DocumentedRuleDefault.
    :raises: exception.InvalidPriorities
    """
    classes = priorities.parse(CONF.gpu_lease.priorities)
    usual = priorities.default(classes).weight
    return [_rule(each.name, base.ADMIN if each.weight > usual
                  else base.PROJECT_MEMBER_OR_ADMIN)
            for each in classes.values()]


def _rule(priority, check_str):
    return policy.DocumentedRuleDefault(
        name=rule_name(priority), check_str=check_str,
        description="Use the priority class '%s' of [gpu_lease] priorities, "
        "named by the server's hint or its flavor, for a new server or for "
        'one that waits.' % priority,
        operations=[{'method': 'POST', 'path': '/servers'},
                    {'method': 'PATCH', 'path': '/os-gpu-leases/{id}'}],
        scope_types=['project'])
