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


"""Policy enforcement for the API.

Nova's own enforcer knows only Nova's rules, so this is a second one that
reads the same policy file. Nova's base rules are registered too, because ours
refer to them.
"""

import threading

from oslo_config import cfg
from oslo_log import log as logging
from oslo_policy import policy
from oslo_utils import excutils

from nova_gpu_lease import exception
from nova_gpu_lease import policies
from nova_gpu_lease.policies import base
from nova_gpu_lease.policies import priorities

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

_ENFORCER = None
_LOCK = threading.Lock()


def reset():
    """Forget the rules. Used by tests."""
    global _ENFORCER
    with _LOCK:
        if _ENFORCER:
            _ENFORCER.clear()
        _ENFORCER = None


def _get():
    global _ENFORCER
    with _LOCK:
        if _ENFORCER is None:
            enforcer = policy.Enforcer(CONF)
            # Nova says it once for its base rules; that is enough.
            enforcer.suppress_deprecation_warnings = True
            enforcer.suppress_default_change_warnings = True
            enforcer.register_defaults(base.list_nova_rules())
            enforcer.register_defaults(policies.list_rules())
            enforcer.load_rules()
            _ENFORCER = enforcer
    return _ENFORCER


def get_enforcer():
    """The enforcer, for the oslopolicy-* commands (an entry point)."""
    CONF([], project='nova')
    return _get()


def authorize_priority(context, priority, target=None):
    """Check that a user may use a priority class.

    :param context: the user's nova.context.RequestContext.
    :param priority: the name of a class of [gpu_lease] priorities.
    :param target: as in authorize().
    :raises: exception.PriorityForbidden
    """
    rule = priorities.rule_name(priority)
    if not authorize(context, rule, target, do_raise=False):
        raise exception.PriorityForbidden(priority=priority, action=rule)


def authorize(context, action, target=None, do_raise=True):
    """Check that a user may do something.

    :param context: the user's nova.context.RequestContext.
    :param action: the name of a rule of nova_gpu_lease.policies.
    :param target: a dict with the project_id (and user_id) of what is acted
        on; the user's own by default.
    :param do_raise: when false, only tell.
    :returns: True, or False when do_raise is false.
    :raises: exception.Forbidden
    """
    if target is None:
        target = {'project_id': context.project_id,
                  'user_id': context.user_id}
    try:
        allowed = _get().authorize(action, target, context)
    except policy.InvalidScope:
        allowed = False
    except policy.PolicyNotRegistered:
        with excutils.save_and_reraise_exception():
            LOG.exception('Policy not registered')
    if not allowed:
        LOG.debug('Policy check for %(action)s failed with credentials '
                  '%(credentials)s', {
                      'action': action,
                      'credentials': context.to_policy_values()})
        if do_raise:
            raise exception.Forbidden(action=action)
    return bool(allowed)
