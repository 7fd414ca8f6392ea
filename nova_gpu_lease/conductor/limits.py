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

"""Compares with quotas as Nova does, in its database and in Keystone.

Two of Nova's ways of counting have servers among the used ones from the moment
that its API took them. The servers that only wait are taken off again.
"""

from nova import exception as nova_exception
from nova.limit import placement as placement_limits
from nova import objects
from nova import quota as nova_quota
from oslo_limit import exception as limit_exceptions

from nova_gpu_lease.conf import CONF

NOOP_DRIVER = 'nova.quota.NoopQuotaDriver'
#: What Nova's own quotas are for.
RESOURCES = ('instances', 'cores', 'ram')


def in_use():
    """Whether there are quotas at all."""
    return CONF.quota.driver != NOOP_DRIVER


def counts_mappings(context):
    """Whether servers count from the moment that the API takes them."""
    return (CONF.quota.count_usage_from_placement and
            nova_quota.is_qfd_populated(context))


def over_quotas(context, counts, waiting, project_id, user_id, deltas):
    """Compare with the quotas in Nova's database.

    :param counts: {(project id, user id): what Nova counted}, to fill and
        use again.
    :param waiting: a function of a user id, or of None for the project, that
        returns the number of servers that only wait.
    :param deltas: {one of RESOURCES: what is to be added}.
    :returns: a reason, or None.
    """
    own = objects.Quotas.get_all_by_project_and_user(
        context, project_id, user_id)
    if not any(name in own for name in RESOURCES):
        # No quota of the user, as in Nova.
        user_id = None
    key = project_id, user_id
    if key not in counts:
        counts[key] = objects.Quotas.count_as_dict(
            context, 'instances', project_id, user_id=user_id)
    used = {scope: dict(values) for scope, values in counts[key].items()}
    if counts_mappings(context):
        for scope, whose in (('project', None), ('user', user_id)):
            if scope in used:
                used[scope]['instances'] = max(
                    0, used[scope]['instances'] - waiting(whose))
    wanted = {scope: {name: values[name] + delta
                      for name, delta in deltas.items()}
              for scope, values in used.items()}
    try:
        objects.Quotas.limit_check_project_and_user(
            context, project_values=wanted['project'],
            user_values=wanted.get('user'), project_id=project_id,
            user_id=user_id)
    except nova_exception.OverQuota as exc:
        scope = exc.kwargs.get('scope', 'project')
        return _reason(
            (name, used[scope][name], exc.kwargs['quotas'][name],
             deltas[name]) for name in exc.kwargs['overs'])
    return None


def over_limits(context, project_id, spec, count, new, waiting):
    """Compare with the limits in Keystone.

    :param count: how many servers like that of the spec are to be added.
    :param new: how many of them are not among those that run.
    :param waiting: how many servers Nova counts that only wait.
    :returns: a reason, or None.
    """
    try:
        placement_limits.enforce_num_instances_and_resources(
            context, project_id, spec, count, count,
            delta_updates={'servers': new - waiting})
    except nova_exception.TooManyInstances as exc:
        cause = exc
        while cause and not isinstance(
                cause, limit_exceptions.ProjectOverLimit):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return exc.format_message()
        return _reason(
            (info.resource_name, info.current_usage - waiting, info.limit,
             new) if info.resource_name == 'servers' else
            (info.resource_name, info.current_usage, info.limit, info.delta)
            for info in cause.over_limit_info_list)
    return None


def _reason(overs):
    return 'The quota of the project does not allow it now: %s.' % '; '.join(
        '%s: %s of %s used, %s more needed' % (name, used, limit, delta)
        for name, used, limit, delta in overs)
