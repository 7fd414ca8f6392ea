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


"""nova-gpu-lease-manage: what an operator does with files and database."""

import collections
import datetime
import sys

from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_log import log as logging

from nova_gpu_lease import clock
from nova_gpu_lease import conf
from nova_gpu_lease.db import api as db_api
from nova_gpu_lease.db import migration
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import secrets
from nova_gpu_lease import topology_watch

CONF = conf.CONF


def _sync(command):
    migration.sync(command.version)
    print('The database is at revision %s.' % migration.version())


def _version(command):
    now, latest = migration.version(), migration.latest()
    print(now or 'none')
    if now != latest:
        print('The latest revision is %s; run "nova-gpu-lease-manage db '
              'sync".' % latest, file=sys.stderr)


def _purge(command):
    deleted = db_api.purge(command.before)
    for table in sorted(deleted):
        print('%s: %d deleted' % (table, deleted[table]))


def _generate(command):
    print(secrets.generate_key())


def _rotate(command):
    counts = db_api.secrets_rotate()
    print('%(rotated)d encrypted anew, %(current)d had the first key already, '
          '%(changed)d changed by a service meanwhile.' % counts)
    if counts['unreadable']:
        raise exception.UnreadableSecrets(
            '%d cannot be decrypted with any of [gpu_lease] '
            'encryption_keys.' % counts['unreadable'])


def _overdue(command):
    now = clock.now()
    leases = db_api.leases_overdue(now, CONF.gpu_lease.expiry_timeout)
    for lease in leases:
        print('%s server=%s host=%s status=%s overdue=%s attempts=%d%s' % (
            lease.uuid, lease.server_id, lease.host, lease.state,
            duration.format(round((now - lease.expires_at).total_seconds())),
            lease.attempts,
            ' error=%s' % lease.last_error if lease.last_error else ''))
    print('%d leases are overdue.' % len(leases))


def _check_topology(command):
    path = command.file or CONF.gpu_lease.topology_file
    if path is None:
        raise exception.InvalidTopology(
            problems='Name a file, or set [gpu_lease] topology_file.')
    topology = topology_watch.load(path)
    print('%s: places of %d hosts, devices of %d.' % (
        path, len(topology.places), len(topology.devices)))
    # How far hosts are that have no more than a level in common.
    levels = collections.defaultdict(dict)
    for place in topology.places.values():
        for depth in range(len(place.path) + 1):
            apart = 2 * (1 + sum(place.steps[depth:]))
            known = levels[depth].get(place.path[:depth], 0)
            levels[depth][place.path[:depth]] = max(apart, known)
    for depth, nodes in sorted(levels.items()):
        print('level %d%s: %d %s; between hosts that meet there: %g' % (
            depth, '' if depth else ' (the whole network)', len(nodes),
            'nodes' if len(nodes) > 1 else 'node', max(nodes.values())))


def _date(text):
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError('not a date')
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.timezone.utc)
    return date


# What argparse calls the type in its error message.
_date.__name__ = 'date (use for example 2026-11-21 or 2026-11-21T08:00Z)'


def _add_commands(nouns):
    """Fill in the sub-commands; nouns is argparse's action for them."""
    verbs = nouns.add_parser(
        'db', help='the database [gpu_lease_database]').add_subparsers(
            dest='verb', required=True)
    sync = verbs.add_parser(
        'sync', help='create the tables, or bring them up to date')
    sync.add_argument('version', nargs='?', metavar='REVISION',
                      help='stop at this revision; default: the latest')
    sync.set_defaults(func=_sync)
    version = verbs.add_parser('version', help='show the revision it is at')
    version.set_defaults(func=_version)
    purge = verbs.add_parser(
        'purge', help='delete requests that ended, with their leases and '
        'their history')
    purge.add_argument(
        '--before', required=True, type=_date, metavar='DATE',
        help='those that ended before this time; ISO 8601, UTC unless it '
        'says otherwise')
    purge.set_defaults(func=_purge)

    verbs = nouns.add_parser(
        'keys', help='keys that protect secrets').add_subparsers(
            dest='verb', required=True)
    generate = verbs.add_parser(
        'generate', help='print a new key for [gpu_lease] encryption_keys')
    generate.set_defaults(func=_generate)
    rotate = verbs.add_parser(
        'rotate', help='encrypt what is kept with the first key, so that the '
        'others can be taken out; may be repeated, services may run')
    rotate.set_defaults(func=_rotate)

    verbs = nouns.add_parser('lease', help='leases').add_subparsers(
        dest='verb', required=True)
    overdue = verbs.add_parser(
        'overdue', help='list the leases that should be over and hold their '
        'devices, the oldest end first')
    overdue.set_defaults(func=_overdue)

    verbs = nouns.add_parser(
        'topology', help='where hosts are in the network').add_subparsers(
            dest='verb', required=True)
    check = verbs.add_parser(
        'check', help='say which lines of a topology file are wrong, and how '
        'far hosts are from each other if none is')
    check.add_argument('file', nargs='?', metavar='FILE',
                       help='default: [gpu_lease] topology_file')
    check.set_defaults(func=_check_topology)


def main(argv=None):
    """Run one command.

    :param argv: arguments without the program's name; sys.argv's if None.
    :returns: exit status: 0, or 1 after an error that is printed.
    """
    CONF.register_cli_opt(cfg.SubCommandOpt(
        'command', title='Commands', handler=_add_commands))
    logging.register_options(CONF)
    logging.set_defaults(default_log_levels=[
        *logging.get_default_log_levels(), 'alembic=WARNING'])
    try:
        CONF(sys.argv[1:] if argv is None else argv, project='nova',
             prog='nova-gpu-lease-manage')
        logging.setup(CONF, 'nova_gpu_lease')
        CONF.command.func(CONF.command)
    except (cfg.Error, db_exc.DBError, exception.GPULeaseException) as exc:
        print('ERROR: %s' % exc, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
