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


"""The priority classes that ``[gpu_lease] priorities`` defines.

Pure functions on its text. Who may use a class is a matter of policy, what it
means one of the planner.
"""

import dataclasses
import re

from nova_gpu_lease import exception

#: The class of servers that name none, if there is one of this name.
NORMAL = 'normal'
PREEMPTIBLE = 'preemptible'

#: Part of the name of a policy rule, and of a column of 64 characters.
_NAME = re.compile(r'[A-Za-z0-9_.-]{1,64}\Z')


@dataclasses.dataclass(frozen=True)
class PriorityClass:
    """One class.

    :ivar name: its name.
    :ivar weight: an int; a higher one starts first.
    :ivar preemptible: whether its leases may be ended early.
    """

    name: str
    weight: int = 0
    preemptible: bool = False


def parse(items):
    """The classes of the option.

    :param items: a list of ``name:weight[:preemptible]``.
    :returns: a dict of name to PriorityClass, in the order of the list.
    :raises: exception.InvalidPriorities naming the item that is wrong.
    """
    classes = {}
    for item in items:
        found = _parse_one(item)
        if found.name in classes:
            raise exception.InvalidPriorities(
                item=item, reason="the class '%s' is defined twice" %
                found.name)
        classes[found.name] = found
    if not classes:
        raise exception.InvalidPriorities(
            item='', reason='at least one class is needed')
    _check_preemptible(classes.values(), items)
    return classes


def _check_preemptible(classes, items):
    """Keep servers that make room from starting again before the others."""
    lowest = min((each.weight for each in classes if not each.preemptible),
                 default=None)
    for each, item in zip(classes, items):
        if each.preemptible and lowest is not None and each.weight >= lowest:
            raise exception.InvalidPriorities(
                item=item, reason='a preemptible class needs a lower weight '
                'than all that are not, here below %d' % lowest)


def _parse_one(item):
    name, *rest = (part.strip() for part in item.split(':'))
    if not name:
        raise exception.InvalidPriorities(
            item=item, reason='the name is empty')
    if not _NAME.match(name):
        raise exception.InvalidPriorities(
            item=item, reason='a name is up to 64 letters, digits, dots, '
            'underscores and hyphens')
    if not rest or not re.fullmatch(r'[+-]?[0-9]{1,9}', rest[0], re.ASCII):
        raise exception.InvalidPriorities(
            item=item, reason='the weight is no whole number (of up to nine '
            'digits)')
    flags = rest[1:]
    for flag in flags:
        if flag != PREEMPTIBLE:
            raise exception.InvalidPriorities(
                item=item, reason="the flag '%s' is unknown, the only one is "
                "'%s'" % (flag, PREEMPTIBLE))
    if len(flags) > 1:
        raise exception.InvalidPriorities(
            item=item, reason="the flag '%s' is given twice" % PREEMPTIBLE)
    return PriorityClass(name, int(rest[0]), bool(flags))


def default(classes):
    """The class of servers that name none.

    :param classes: what parse() returned.
    :returns: the PriorityClass ``normal`` if there is one, else the first.
    """
    return classes.get(NORMAL) or next(iter(classes.values()))


def queue_key(request, classes, factors=None):
    """The place of a waiting request, to sort the queue by.

    :param request: anything with priority (a name), promise (what a plan
        reserved for it, or None), project_id, id and resumes (the id of the
        request that it goes on with, or None).
    :param classes: what parse() returned.
    :param factors: {project id: fair share factor}, 1 for one that is not
        there; None where use does not count.
    :returns: a tuple; the lowest one is next.
    """
    return (-find(classes, request.priority).weight, not request.promise,
            -(factors or {}).get(request.project_id, 1),
            request.resumes or request.id, request.id)


def find(classes, name):
    """The class of a lease, which may be defined no more.

    :param classes: what parse() returned.
    :param name: the name on the row.
    :returns: a PriorityClass; one of weight 0 that is not preemptible for a
        class that is not defined, so that its servers are safe.
    """
    return classes.get(name) or PriorityClass(name)
