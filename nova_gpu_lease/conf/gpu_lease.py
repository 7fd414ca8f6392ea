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

"""Options of the group [gpu_lease]; those of the queue are in queue.py."""

from oslo_config import cfg

from nova_gpu_lease.conf import queue
from nova_gpu_lease.conf import types
from nova_gpu_lease import states

GROUP = cfg.OptGroup(
    'gpu_lease', title='GPU lease options',
    help='How long servers keep their GPUs, and how others wait for them.')


TERMS = [
    types.duration_opt(
        'default_duration',
        help="""
How long a lease lasts when neither the server's hint ``gpu_lease`` nor its
flavor's ``gpu_lease:default_duration`` says so.

Written like a hint: ``90s``, ``30m``, ``2h``, ``1d12h``, ``PT2H``; a bare
number is minutes.

* Unset (the default): a GPU server without a hint has no lease and keeps its
  devices until it is deleted, as under stock Nova. It does not wait either:
  it goes to ERROR when no device is free.
* Set: every new GPU server has a lease. Existing ones are not touched until
  they are shelved and unshelved.

Set this to the same value on nova-api and nova-conductor.

Related options: ``max_duration``, ``without_hint``.
"""),
    types.duration_opt(
        'max_duration',
        help="""
The longest lease, extensions included. A server whose hint asks for more is
refused with 400. A flavor's ``gpu_lease:max_duration`` can only make it
shorter. Unset: no limit but the flavor's.

Set this to the same value on nova-api and nova-conductor.
"""),
    cfg.StrOpt(
        'on_expiry', default=states.ON_EXPIRY_SHELVE,
        choices=[
            (states.ON_EXPIRY_SHELVE, 'shelve and offload: the work is kept '
             'in an image (or its volume), the owner can unshelve it'),
            (states.ON_EXPIRY_DELETE, 'delete the server')],
        help="""
What happens to a server when its lease ends, unless its hint
``gpu_lease_on_expiry`` or its flavor's ``gpu_lease:on_expiry`` says
otherwise.
"""),
    cfg.StrOpt(
        'on_expiry_fallback', default='keep',
        choices=[
            ('keep', 'the server keeps running and holds its devices; the '
             'lease goes to ERROR, an error is logged, and shelving is tried '
             'again for ever'),
            ('delete', 'the server is deleted')],
        help="""
What happens when a server cannot be shelved at the end of its lease after
``expiry_attempts`` tries: it is locked, has a vTPM, its snapshot fails. (An
owner who may no longer act in the project is no reason: Nova then shelves the
server itself.)

Choose ``delete`` only where users know that unsaved work can be lost. A try
that could not begin because Keystone or Glance was away does not count, but a
snapshot that was broken off does: with the defaults five of these take about
two minutes; raise ``expiry_attempts`` for more.
"""),
    types.duration_opt(
        'end_when_off',
        help="""
End the lease of a server that has been powered off for this long: it is
shelved or deleted as at the end of its time, and whoever waits gets its
devices. It makes no difference whether the guest powered itself off, as one
does whose job is done, or somebody stopped the server through the API. One
that is started again before that keeps its lease, and one that is paused or
suspended is not powered off. A flavor's ``gpu_lease:end_when_off`` goes first.

* Unset (the default): a server that is powered off keeps its devices until its
  lease ends, as under stock Nova.
* Set: choose it long enough for those who stop a server for a moment, ``10m``
  for example. Take care where leases end by ``delete``: the disk of a server
  that was only stopped would be lost with it. Rather than for all, set it for
  flavors on which jobs run.

Nova notices a guest that powered itself off by an event of the hypervisor,
after some 15 seconds with libvirt, or else, as with ``[workarounds]
handle_virt_lifecycle_events=False``, at the next of its looks at all guests,
every ``[DEFAULT] sync_power_state_interval`` seconds (600).

Set this to the same value on nova-api and nova-compute.

Related options: ``on_expiry``.
"""),
    types.duration_opt(
        'max_wait',
        help="""
The longest time a request may wait for its devices. A request whose hint
``gpu_lease_wait`` asks for more is refused with 400; one without the hint
gives up after this time with the server in ERROR (a server that was to be
unshelved stays shelved). Unset: requests wait until they start or are deleted.
"""),
    cfg.StrOpt(
        'without_hint', default='default',
        choices=[
            ('default', 'a lease of the default duration, or no lease where '
             'there is none'),
            ('refuse', 'answer 400')],
        help="""
What to do with a GPU server that is created without the hint ``gpu_lease``.
A flavor with ``gpu_lease:required=true`` is always refused without it.
"""),
    cfg.ListOpt(
        'aliases', default=[],
        help="""
The PCI aliases (see ``[pci] alias``) whose devices are GPUs. Empty: all of
them. Name them when the cloud also passes other devices through, such as
network cards; a flavor that asks for a GPU and for another device waits for
both.

Set this to the same value on every service.
"""),
    types.duration_opt(
        'auto_extend_step', default='5m',
        help="""
A lease with the hint ``gpu_lease_auto_extend`` that ends while nobody waits
for its devices is extended by this much, again and again, up to its longest
duration. Somebody who comes to wait therefore waits at most this long.
"""),
]

TIMERS = [
    cfg.FloatOpt(
        'poll_interval', default=0.5, min=0.05,
        help="""
Seconds between two looks at the wake-up counter in the database, by each
nova-conductor worker that has ``[api_database]``, and between two looks of a
nova-compute at its own devices. One tiny query a look.
"""),
    types.duration_opt(
        'dispatch_interval', default='1m',
        help="""
The longest time between two looks at the whole queue. It is only a net: every
event that can free a device wakes the queue at once.
"""),
    types.duration_opt(
        'sync_interval', default='1m',
        help="""
How often a nova-compute compares its leases with its servers when nothing
happens. It is only a net: builds, ends and freed devices are reported at
once.
"""),
    cfg.IntOpt(
        'expiry_attempts', default=5, min=1,
        help="""
How often shelving (or deleting) a server at the end of its lease is tried
before ``on_expiry_fallback`` applies.
"""),
    types.duration_opt(
        'expiry_retry_interval', default='10s',
        help="""
The time before the second try to end a lease; it doubles with each further
one, up to ten minutes, or up to half a minute while Keystone or Glance does
not answer. Each wait is shortened by up to a half, by chance, so that leases
that ended together are not all tried together.
"""),
    types.duration_opt(
        'outage_grace', default='5m', zero=True,
        help="""
How much longer a lease lasts that ended while the service was away: when a
nova-compute can tell nova-conductor only more than a minute late that a lease
is over (because all conductors, the database, the message bus or that compute
service itself were down), the lease ends this long after that moment, once.
Its owner could not save or end anything through the API meanwhile. The end may
then be later than the longest lease allows. 0s: such leases end at once.
"""),
    types.duration_opt(
        'expiry_timeout', default='15m',
        help="""
How long one try to shelve or delete a server may take, snapshot included,
before it counts as failed.
"""),
    types.duration_opt(
        'warn_before', default='10m',
        help="""
How long before its end nova-compute logs that a lease is about to end.
"""),
]

WEIGHTS = [
    cfg.FloatOpt(
        'weight_multiplier', default=100.0,
        help="""
Multiplier of GPULeaseWeigher. Its weight is the place of a host in the order
in which the queue, too, chooses hosts, from 1 for the best to 0 for the last:

* the host that was planned for a server with a lease, whatever the multiplier;
* where the fewest devices of the requested aliases would be left;
* where other leases end at about the same time, so that whole hosts become
  free together for large requests;
* where the devices are the most common ones, so that scarce models are left to
  those who can use no other.

For a server without a GPU it prefers, softly, hosts without GPUs.

Zero switches it off; a negative value spreads. An aggregate's metadata
``gpu_lease_weight_multiplier`` overrides it for the hosts of that aggregate.
Lower it below 10 to let Nova's other weighers, such as the one for memory,
decide between hosts that differ little.
"""),
]

TOPOLOGY = [
    cfg.StrOpt(
        'topology_file',
        help="""
A YAML file that says where the hosts are in the network (sites, switches,
racks, whatever there is) and which of their GPUs share a NUMA node and an
NVLink group; the guide "Topology" describes it, and
``nova-gpu-lease-manage topology check FILE`` checks one. Servers that start
together are put on hosts that are near to each other, and the devices of one
server are taken from one NVLink group and one NUMA node, where that can be
had. It is never a reason to wait.

It is read by nova-scheduler and nova-compute, when they start and when it
changes: give each machine the same file. One with a mistake is not used; the
last good one is kept, and the log and ``nova-gpu-lease-status upgrade check``
say which line is wrong.

Unset: places come from the metadata ``gpu_lease:place`` of host aggregates,
NUMA nodes from Nova, and NVLink groups from the tag ``nvlink_group`` of
``[pci] device_spec``.
"""),
]

ALL_OPTS = TERMS + queue.ALL_OPTS + TIMERS + WEIGHTS + TOPOLOGY


def register_opts(conf):
    conf.register_group(GROUP)
    conf.register_opts(ALL_OPTS, group=GROUP)


def list_opts():
    return {GROUP: ALL_OPTS}
