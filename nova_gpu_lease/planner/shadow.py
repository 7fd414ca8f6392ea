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


"""When a blocked request can start at the latest, and where.

Its shadow time is the first at which enough of what runs has come to its end
(Mu'alem and Feitelson, "Utilization, Predictability, Workloads, and User
Runtime Estimates in Scheduling the IBM SP2 with Backfilling", IEEE TPDS 12(6),
2001).
"""

import heapq
import itertools
import operator

from nova_gpu_lease.planner import board

#: The time and the kind of an event.
_WHEN = operator.itemgetter(0, 1)


def find(ask, count, together, length, now, booked, near=None, only=None,
         profile=board.Board.profile):
    """The first time at which servers can be somewhere for their length.

    :param ask: the Ask of one of them.
    :param count: how many.
    :param together: whether on one node.
    :param length: of their lease in seconds; AFTER where it never ends.
    :param now: the time; the earliest one.
    :param booked: Boards with something booked, which has to find its place.
    :param near: a function of all that can be used, an iterable of (Board,
        number of servers), those that are free last first, that returns those
        to use, {Board: number of servers}, or None: the first.
    :param only: Boards; look at no others.
    :param profile: looks at one; whoever looks often keeps what it saw.
    :returns: a tuple of the time and {Board: number of servers}, or None
        where not enough ends.
    """
    if only is not None:
        booked = only
    booked = [one for one in booked if one in ask.possible]
    sources = [_around(profile(one, ask, now), one.number, length, now)
               for one in booked]
    if only is None:
        sources.append(_unbooked(ask, now, {one.number for one in booked}))
    events = heapq.merge(*sources) if booked else itertools.chain(*sources)
    found, total = {}, 0
    for (time, drop), some in itertools.groupby(events, _WHEN):
        enough = False
        for _time, _drop, number, more in some:
            # What comes last is at the end.
            found[number] = found.pop(number, 0) + more
            total += more
            enough = enough or found[number] >= count
        if drop or not (enough if together else total >= count):
            continue
        if together:
            found = {number: have for number, have in found.items()
                     if have >= count}
        return time, _latest(ask, found, count, near)
    return None


def _latest(ask, found, count, near):
    """Of the nodes that were found those that are free last.

    What is free before may be used by others, of whatever length.
    """
    chosen = near and near((ask.board(number), found[number])
                           for number in reversed(found))
    if chosen:
        return chosen
    chosen = {}
    for number in reversed(found):
        one = ask.board(number)
        if found[number]:
            chosen[one] = min(found[number], count)
            count -= chosen[one]
        if not count:
            break
    return chosen


def _unbooked(ask, now, without):
    for time, number, more in ask.ready():
        if number not in without:
            if time == board.BEFORE:
                time = now
            elif time < now + board.OVERDUE:
                time = now + board.OVERDUE
            yield time, 0, number, more


def _around(points, number, length, now):
    """What an Ask finds on a Board beside what is booked there.

    :param points: what Board.profile() says.
    :param number: of the Board.
    :returns: an iterator of (time, whether it is less from right after that
        time on, number of the Board, how many more), in order of time.
    """
    events = [(now, 0)]
    before = points[0][1]
    for time, count in points[1:]:
        if count > before:
            events.append((time, 0))
        elif time - length >= now:
            # A server that starts later than that is not gone in time.
            events.append((time - length, 1))
        before = count
    before = 0
    for time, drop in sorted(events):
        end = time + length
        least = min([count for (when, count), then in zip(
            points, [*(when for when, _count in points[1:]), board.AFTER])
            if then > time and (when < end or drop and when == end)])
        if least != before:
            yield time, drop, number, least - before
            before = least


def without_end(ask, count, together, old):
    """Where a request waits that nothing known makes room for.

    On its old nodes, or where most devices are free once all has ended that
    ends.

    :param old: {node uuid: number of servers} of the last time.
    :returns: {Board: number of servers}.
    """
    ranked = sorted(ask.possible, key=lambda one: (
        one.uuid not in old, one.uuid not in ask.fits, bool(one.booked),
        -one.freed(ask.devices), one.number))
    chosen = {}
    for one in ranked:
        if together and ask.possible[one] < count:
            continue
        chosen[one] = min(ask.possible[one], count)
        count -= chosen[one]
        if not count:
            break
    return chosen
