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


"""nova-gpu-lease-status: is everything in place?

``nova-gpu-lease-status upgrade check`` reads the live configuration and the
databases, changes nothing, and says of each missing piece what to do. Run it
where nova-api, nova-scheduler and nova-conductor run: it sees the nova.conf
and the api-paste.ini of the machine that it runs on.
"""

import datetime
import os
import sys

from nova import config as nova_config
from nova import context as nova_context
from nova import objects
from nova import servicegroup
from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from nova_gpu_lease.api import paste
from nova_gpu_lease import clock
from nova_gpu_lease.cmd import status_options as options
from nova_gpu_lease.conf import CONF
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease.db import migration
from nova_gpu_lease import exception
from nova_gpu_lease.planner import topology_file
from nova_gpu_lease import priorities
from nova_gpu_lease.scheduler import places
from nova_gpu_lease import terms
from nova_gpu_lease import topology_watch

#: Seconds that our note of a conductor may be older than Nova's, which is
#: written at other moments.
SLACK = 30

CLI_OPTS = [
    cfg.StrOpt(
        'api-paste', metavar='FILE',
        help='The api-paste.ini that nova-api loads. Default: as nova-api '
        'finds it, from OS_NOVA_CONFIG_DIR and OS_NOVA_CONFIG_FILES, else '
        'the api-paste.ini beside nova.conf.'),
]


class Checks(options.OptionChecks):
    """All checks; each method checks one thing, none stops the others."""

    def database(self):
        """Leases are kept in a database of their own."""
        try:
            version, latest = migration.version(), migration.latest()
        except exception.DatabaseNotConfigured as exc:
            return options.failure('%s', exc.format_message())
        except Exception as exc:
            # Whatever it is, the operator sees it and the next checks run.
            return options.failure(
                '[gpu_lease_database] connection does not work: %s', exc)
        if version != latest:
            return options.failure(
                'The database of [gpu_lease_database] is at revision %s, '
                'this version needs %s. Run "nova-gpu-lease-manage db '
                'sync".', version or 'none', latest)
        return options.ok()

    def api_paste(self):
        """nova-api must have the filter, in each of its pipelines.

        A pipeline without it takes hints unchecked and serves no
        /os-gpu-leases.
        """
        path = api_paste_path()
        try:
            with open(path, encoding='utf-8') as ini:
                problems = paste.problems(ini.read())
        except (OSError, UnicodeDecodeError) as exc:
            return options.failure(
                'The api-paste.ini of nova-api cannot be read: %s. Run this '
                'where nova-api runs, or say where the file is with '
                '--api-paste.', exc)
        if problems:
            return options.failure('%s: %s. Then restart nova-api.', path,
                                   '; '.join(problems))
        return options.ok()

    def conductors(self):
        """Every nova-conductor must be a nova-gpu-lease-conductor.

        A stock one takes its share of the new servers past the queue. Ours
        note in our database that they live; so one that lives for Nova and
        not there is a stock one.
        """
        try:
            running = running_conductors()
            beats = db_api.conductors_list()
        except Exception as exc:
            return options.failure(
                'The conductors cannot be checked: %s. This needs '
                '[api_database] and [gpu_lease_database].', exc)
        oldest = clock.now() - datetime.timedelta(
            seconds=CONF.service_down_time + SLACK)
        ours = {beat.host: beat for beat in beats if beat.seen_at >= oldest}
        stock = sorted(set(running) - set(ours))
        if stock:
            return options.failure(
                'A stock nova-conductor runs on %s: replace it with '
                'nova-gpu-lease-conductor and the same options.',
                ', '.join(stock))
        if not running:
            return options.warning(
                'No nova-conductor is running. Start '
                'nova-gpu-lease-conductor in its place.')
        if not any(beat.dispatches for beat in ours.values()):
            return options.failure(
                'No running conductor has [api_database] connection, so '
                'nobody dispatches. Set it where the conductors of the API '
                'run.')
        return options.ok()

    def topology(self):
        """What is said about the network must be readable and true.

        A topology file with a mistake is not used: nova-scheduler and
        nova-compute go on with what they read before, or without.
        """
        path = CONF.gpu_lease.topology_file
        try:
            found = (topology_watch.load(path) if path
                     else topology_file.Topology())
        except exception.InvalidTopology as exc:
            return options.failure('[gpu_lease] topology_file: %s', exc)
        try:
            problems = places.contradictions(found, *known_hosts())
        except Exception as exc:
            return options.warning(
                'The places of hosts cannot be compared with what Nova knows: '
                '%s. This needs [api_database].', exc)
        if problems:
            return options.warning('%s', '\n'.join(problems))
        return options.ok()

    def priority_classes(self):
        """Every priority class in use must be defined.

        New servers of a flavor whose class is not are refused; a lease in
        one counts with weight 0.
        """
        try:
            classes = priorities.parse(CONF.gpu_lease.priorities)
        except exception.InvalidPriorities as exc:
            return options.failure('%s', exc.format_message())
        try:
            flavors = flavor_priorities()
            used = db_api.priorities_used()
        except Exception as exc:
            return options.warning(
                'The priority classes in use cannot be compared with '
                '[gpu_lease] priorities: %s. This needs [api_database] and '
                '[gpu_lease_database].', exc)
        wrong = ['%s of flavor %s' % (priority, name)
                 for name, priority in sorted(flavors.items())
                 if priority not in classes]
        if wrong:
            return options.failure(
                '[gpu_lease] priorities does not have %s. New servers of '
                'such a flavor are refused: add the class, or change the '
                'property gpu_lease:priority.', ', '.join(wrong))
        gone = sorted(used - classes.keys())
        if gone:
            return options.warning(
                '[gpu_lease] priorities does not have %s, which leases are '
                'in. They count with weight 0 and are not preempted. Add '
                'what is missing, at least until they are over.',
                ', '.join(gone))
        return options.ok()

    _upgrade_checks = options.OptionChecks._upgrade_checks + (
        ('GPU lease database', database),
        ('Filter in nova-api', api_paste),
        ('Conductors', conductors),
        ('Network topology', topology),
        ('Priority classes', priority_classes),
    )


def api_paste_path():
    """The file that nova-api loads.

    It is found as nova.api.openstack.wsgi_app finds it, as far as that can be
    known outside of nova-api.
    """
    if CONF.api_paste:
        return CONF.api_paste
    name = os.environ.get('OS_NOVA_CONFIG_FILES', '').split(';')[0]
    folder = os.environ.get('OS_NOVA_CONFIG_DIR', '').strip()
    if not folder:
        folder = os.path.dirname((CONF.config_file or ['/etc/nova/'])[-1])
    return os.path.join(folder, name or 'api-paste.ini')


def running_conductors():
    """The hosts on which a nova-conductor lives, in all cells.

    :returns: a list of host names.
    """
    hosts = []
    context = nova_context.get_admin_context()
    group = servicegroup.API()
    for cell in objects.CellMappingList.get_all(context):
        with nova_context.target_cell(context, cell) as cell_context:
            hosts.extend(
                service.host for service in objects.ServiceList.get_by_binary(
                    cell_context, 'nova-conductor', include_disabled=True)
                if group.service_is_up(service))
    return hosts


def flavor_priorities():
    """The priority classes that flavors name.

    :returns: a dict of the name of a flavor to that of a class.
    """
    flavors = objects.FlavorList.get_all(
        nova_context.get_admin_context(), filters={'is_public': None})
    return {flavor.name: flavor.extra_specs[terms.SPEC_PRIORITY]
            for flavor in flavors
            if terms.SPEC_PRIORITY in flavor.extra_specs}


def known_hosts():
    """What Nova knows of its hosts, in all cells.

    :returns: a tuple of all aggregates, the names of all hosts, and the names
        of those where a PCI device is free.
    """
    context = nova_context.get_admin_context()
    hosts, with_devices = set(), set()
    for cell in objects.CellMappingList.get_all(context):
        with nova_context.target_cell(context, cell) as cell_context:
            for node in objects.ComputeNodeList.get_all(cell_context):
                hosts.add(node.host)
                if node.pci_device_pools:
                    with_devices.add(node.host)
    return objects.AggregateList.get_all(context), hosts, with_devices


def main():
    """The console script.

    :returns: 0 for success, 1 for a warning, 2 for a failure, 255 when the
        check itself went wrong.
    """
    CONF.register_cli_opts(CLI_OPTS)
    objects.register_all()
    # Do not wait for minutes for a database that is not there.
    for group in ('database', 'api_database', 'gpu_lease_database'):
        CONF.set_override('max_retries', 0, group=group)
    upgradecheck.register_cli_options(CONF, Checks())
    nova_config.parse_args(sys.argv)
    # upgradecheck.main() sets this, for --json, but knows no Nova.
    upgradecheck.CONF = CONF
    return upgradecheck.run(CONF)


if __name__ == '__main__':
    sys.exit(main())
