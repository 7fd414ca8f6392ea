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


"""The check strings that the rules share, and Nova's rules behind them."""

from nova.policies import base

POLICY_ROOT = 'os_compute_api:os-gpu-leases:%s'

ADMIN = base.ADMIN
PROJECT_MEMBER_OR_ADMIN = base.PROJECT_MEMBER_OR_ADMIN
PROJECT_READER_OR_ADMIN = base.PROJECT_READER_OR_ADMIN


def list_nova_rules():
    """Nova's base rules, which our check strings name.

    They are Nova's, so they are not in our own list_rules(): the sample file
    would show them twice.

    :returns: a list of oslo_policy.policy.RuleDefault.
    """
    return base.list_rules()
