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

"""Options of the group [gpu_lease] that say who waits, and who is next."""

from oslo_config import cfg

from nova_gpu_lease.conf import types
WAITING = [
    cfg.IntOpt(
        'max_waiting_per_project', default=100, min=-1,
        help="""
How many servers of one project may wait at a time; more new ones are refused
with 403. Servers that are unshelved count, but are never refused. 0: all new
servers with a lease are. -1: no limit. Nova reads every waiting server of a
project each time that the project lists its servers, so very long queues make
that slow.
"""),
    types.duration_opt(
        'build_timeout', default='10m',
        help="""
A server that was sent to a compute, and that no compute has begun to build (or
to unshelve) within this time, is taken back: it waits again in its old place
in the queue, or fails if that was its last try (see ``max_build_attempts``).
A server that a compute works on is left alone however long that takes, since
its guest may run. If the compute comes back and finds the old order, it drops
it.
"""),
    cfg.IntOpt(
        'max_build_attempts', default=3, min=1,
        help="""
How often a server may be sent to a compute. One whose guest does not start,
whose devices were taken by somebody else, or whose compute does not answer,
goes back to the head of the queue; after so many tries it goes to ERROR (or
stays shelved) with the reason of the last one. Hosts on which it failed come
last at the next try.

This replaces ``[scheduler] max_attempts`` for servers with a lease.

Related options: ``build_timeout``.
"""),
    cfg.MultiStrOpt(
        'encryption_keys', default=[], secret=True,
        help="""
Keys that protect passwords and files of servers while these wait (they are
needed to build the server, and stored nowhere by Nova), and the tokens of
users for whom Keystone makes no trust, such as those with an application
credential, until their leases are over. The first key encrypts, all of them
decrypt. Make one with ``nova-gpu-lease-manage keys generate``; after a change
``nova-gpu-lease-manage keys rotate`` encrypts with the first key what is kept.

Without a key, servers that bring a password or files of their own are refused
with 400, a password that Nova makes up is not kept, and requests of users
without a trust fail.

Set this to the same values on nova-api and nova-conductor.
"""),
]

#: Who is next.
ORDER = [
    cfg.StrOpt(
        'queue_policy', default='backfill',
        choices=[
            ('fifo', 'first come, first served: whoever waits for the same '
             'devices starts after those in front of it'),
            ('backfill', 'a later request may start first if that does not '
             'delay the first ones, whose starts are promised'),
            ('conservative', 'a later request may start first if that delays '
             'nobody in front of it; every start is promised')],
        help="""
Which waiting request starts next. Whatever is chosen, higher priority classes
come first.

* ``backfill`` (the default) keeps GPUs busy: the end of each lease is known,
  so a short lease can use devices that are being collected for a large
  request, and is over in time. The first ``reservation_depth`` requests have
  a promised start; all others have an estimate, which others may delay.
* ``conservative`` when users must be able to rely on every printed start.
  It costs waiting time for all, and planning long queues takes longer.
* ``fifo`` when nobody may ever pass anybody, or to compare. Large requests
  leave devices idle in front of them.

Set this on nova-conductor. A change takes effect when that is restarted;
starts that were promised before are kept.

Related options: ``reservation_depth``, ``priorities``, ``turnover``.
"""),
    cfg.IntOpt(
        'reservation_depth', default=1, min=1, max=1000,
        help="""
How many requests that cannot start yet are promised a start on certain hosts,
with ``queue_policy = backfill``; for those that compete for the same devices.
No later request may delay these.

Raise it when the requests behind the first one wait too long because short
leases slip in front of them again and again; each further promise leaves less
to slip into. ``conservative`` protects all of them; ``fifo`` needs none.

Related options: ``queue_policy``.
"""),
    cfg.ListOpt(
        'priorities', default=['normal:0'],
        help="""
The priority classes of leases, each ``name:weight`` or
``name:weight:preemptible``, for example
``normal:0, urgent:100, spare:-100:preemptible``. A server names its class with
the hint ``gpu_lease_priority`` or its flavor with ``gpu_lease:priority``;
without either it is in the class ``normal``, or in the first one listed if
there is no ``normal``.

The weight is a whole number; a class with a higher weight starts before all
that wait in lower ones. A lease of a preemptible class may use devices that
nobody else waits for, and is shelved after ``preemption_grace`` when a request
of a class that is not preemptible would otherwise wait; it then waits in its
old place in its class, by the age of its first request, and comes back by
itself. A preemptible class needs a lower weight than all that are not.

Each class has a policy rule,
``os_compute_api:os-gpu-leases:priority:<name>``. By default every member of a
project may use the default class and all whose weight is not higher; higher
ones are for administrators until the policy file says otherwise.

Do not take out a class while leases or flavors use it: servers of such flavors
are refused, and waiting requests count with weight 0. ``nova-gpu-lease-status
upgrade check`` names them. The services refuse to start with a list that
cannot be read.

Set this to the same value on nova-api and nova-conductor.

Related options: ``preemption_grace``, ``fair_share_half_life``.
"""),
    types.duration_opt(
        'fair_share_half_life',
        help="""
After how long the use of GPUs by a project counts half as much against it.
Set it, for example to ``7d``, to let those who used less start first: within a
priority class requests are then ordered by the GPU-seconds that their projects
used, instead of by age alone.

Unset (the default): the use does not count, which is fair where requests come
from few projects, or where each has its own quota of GPUs.

Set this on nova-conductor.

Related options: ``priorities``.
"""),
    types.duration_opt(
        'preemption_grace', default='2m', zero=True,
        help="""
How long a server of a preemptible class runs on after it was decided that
somebody else needs its devices. Its owner sees the time as ``preempt_at`` of
the lease, and can save work until then. If the devices become free otherwise
meanwhile, the server keeps its own.

Choose it as long as such work needs to save its state; the guaranteed request
waits that much longer. 0s: shelve at once. It matters only with a class that
has the flag ``preemptible`` in ``priorities``.

Set this on nova-conductor.
"""),
    types.duration_opt(
        'turnover', default='1m', zero=True,
        help="""
The time from the end of a lease to the start of the next one on its devices:
shelving (with the upload of the image) and building. It is added to the end of
each running lease where expected starts are computed.

Raise it where shelving takes longer, since servers then start later than they
were promised; a value that is too high only makes the printed starts late and
leaves less to backfill. The time that leases spend EXPIRING in ``openstack gpu
lease list`` tells how long shelving takes.

Set this on nova-conductor.

Related options: ``queue_policy``, ``expiry_timeout``.
"""),
]

ALL_OPTS = WAITING + ORDER
