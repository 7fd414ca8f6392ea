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


"""The queue: who is before whom.

Requests that differ in nothing but their age and their name are one group,
of which a plan looks at the first only: where that finds no place, none does.
"""

import bisect
import dataclasses


@dataclasses.dataclass(eq=False)
class Entry:
    """One request of the queue.

    :ivar request: its Waiting.
    :ivar place: what it is sorted by within its class: when it came, and
        where it was in what was handed in.
    :ivar ask: the Ask of one of its servers.
    :ivar group: its Group.
    :ivar checked: number of the change of Boards up to which is known that
        it finds nothing better than what it was promised.
    """

    request: object
    place: tuple
    ask: object
    group: object = None
    checked: int = 0

    def ends_at(self, now):
        """When it would end if it started now; None is never."""
        if self.request.duration is None:
            return None
        return now + self.request.duration


class Group:
    """Requests that are alike, in the order of their places.

    :ivar first: the Waiting of one of them; all but its age holds for each.
    :ivar entries: those that have no promise.
    :ivar promised: those that have one.
    """

    def __init__(self, key, entry):
        """:param key: of group_key().

        :param entry: the first Entry.
        """
        self.key = key
        self.first = entry.request
        self.ask = entry.ask
        self.entries, self.promised = [], []

    def add(self, entry, promised):
        """An Entry joins."""
        bisect.insort(self.promised if promised else self.entries, entry,
                      key=lambda entry: entry.place)

    def remove(self, entry, promised):
        """An Entry goes."""
        entries = self.promised if promised else self.entries
        del entries[bisect.bisect_left(entries, entry.place,
                                       key=lambda entry: entry.place)]

    def __bool__(self):
        return bool(self.entries or self.promised)

    @property
    def idle(self):
        """Whether none of them may start, nor keep anything."""
        return bool(self.first.stuck or self.first.over_quota)


def group_key(request, ask, by_project):
    """What the requests of one Group have in common.

    :param request: a Waiting.
    :param ask: its Ask.
    :param by_project: whether the project makes a difference.
    """
    return (id(ask), request.num_servers, request.together,
            frozenset(request.avoid), request.held, request.stuck,
            request.over_quota, request.missing, request.duration,
            request.priority, request.preemptible, request.unknown,
            request.project if by_project else None)


class Line:
    """All groups.

    :ivar entries: {request uuid: Entry}.
    :ivar groups: {key: Group}.
    """

    def __init__(self):
        self.entries = {}
        self.groups = {}
        self._came = 0

    def add(self, request, ask, promised, by_project):
        """A request joins, or takes the place of its old self.

        :param request: a Waiting.
        :param ask: its Ask.
        :param promised: whether it has a promise.
        :param by_project: as for group_key().
        """
        old = self.entries.get(request.uuid)
        if old:
            self.remove(request.uuid, promised)
            came = old.place[1]
        else:
            came = self._came
            self._came += 1
        entry = Entry(request, (request.queued_at, came), ask)
        key = group_key(request, ask, by_project)
        if key not in self.groups:
            self.groups[key] = Group(key, entry)
        entry.group = self.groups[key]
        entry.group.add(entry, promised)
        self.entries[request.uuid] = entry

    def remove(self, uuid, promised):
        """A request goes."""
        entry = self.entries.pop(uuid)
        entry.group.remove(entry, promised)
        if not entry.group:
            del self.groups[entry.group.key]

    def promise(self, uuid, promised):
        """A request has a promise now, or none any more."""
        entry = self.entries[uuid]
        entry.group.remove(entry, not promised)
        entry.group.add(entry, promised)
