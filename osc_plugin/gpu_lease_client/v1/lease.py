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

"""``openstack gpu lease list`` and ``show``."""

from openstack import exceptions as sdk_exceptions
from openstackclient.identity import common as identity_common
from osc_lib.command import command
from osc_lib import exceptions
from osc_lib import utils

from gpu_lease_client import columns
from gpu_lease_client import options

_formatters = {
    'credentials': columns.OptionalColumn,
    'devices': columns.DevicesColumn,
    'duration': columns.DurationColumn,
    'ended_at': columns.OptionalColumn,
    'end_action': columns.OptionalColumn,
    'estimate': columns.OptionalColumn,
    'expected_start': columns.OptionalColumn,
    'expected_start_promised': columns.OptionalColumn,
    'expires_at': columns.OptionalColumn,
    'flavor': columns.OptionalColumn,
    'host': columns.OptionalColumn,
    'last_error': columns.OptionalColumn,
    'max_duration': columns.DurationColumn,
    'position': columns.OptionalColumn,
    'preempt_at': columns.OptionalColumn,
    'queued_at': columns.OptionalColumn,
    'reason': columns.OptionalColumn,
    'reason_code': columns.OptionalColumn,
    'remaining': columns.ShortDurationColumn,
    'server_name': columns.OptionalColumn,
    'started_at': columns.OptionalColumn,
    'updated_at': columns.OptionalColumn,
    'wait_until': columns.OptionalColumn,
}

_COLUMNS = (
    ('id', 'ID'),
    ('server_name', 'Server'),
    ('status', 'Status'),
    ('position', 'Position'),
    ('expected_start', 'Expected Start'),
    ('estimate', 'Estimate'),
    ('started_at', 'Started'),
    ('expires_at', 'Expires'),
    ('remaining', 'Remaining'),
    ('on_expiry', 'On Expiry'),
)
_PROJECT_COLUMN = (
    ('project_id', 'Project ID'),
)
_LONG_COLUMNS = (
    ('server_id', 'Server ID'),
    ('flavor', 'Flavor'),
    ('priority', 'Priority'),
    ('preempt_at', 'Preempted At'),
    ('devices', 'Devices'),
    ('host', 'Host'),
    ('reason', 'Reason'),
    ('project_id', 'Project ID'),
    ('user_id', 'User ID'),
)


def show(lease):
    """The columns and the values of one lease.

    :param lease: a resources.GPULease.
    :returns: what ShowOne.take_action() returns.
    """
    hidden = ['location', 'name']
    if lease.host is None:
        # Not known yet, or not for everybody.
        hidden.append('host')
    headers, attributes = utils.get_osc_show_columns_for_sdk_resource(
        lease, {}, hidden)
    start = (columns.PromisedColumn if lease.expected_start_promised
             else columns.EstimateColumn)
    return headers, utils.get_item_properties(
        lease, attributes, formatters={**_formatters, 'expected_start': start})


class ListLease(command.Lister):
    """List GPU leases: who holds GPUs, who waits, and until when."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--status',
            metavar='<status>',
            type=str.upper,
            help='Only leases in this status: QUEUED, BUILDING, ACTIVE, '
                 'EXPIRING, EXPIRED, RELEASED, CANCELLED or ERROR',
        )
        parser.add_argument(
            '--server',
            metavar='<server>',
            help='Only leases of this server (name or ID)',
        )
        parser.add_argument(
            '--expires-before',
            metavar='<time>',
            help='Only leases that end before this time '
                 '(ISO 8601, for example 2026-11-21T19:08:07Z)',
        )
        parser.add_argument(
            '--project',
            metavar='<project>',
            help='Only leases of this project (name or ID) (admin only, '
                 'except for the own one)',
        )
        identity_common.add_project_domain_option_to_parser(parser)
        parser.add_argument(
            '--user',
            metavar='<user>',
            help='Only leases of this user (name or ID)',
        )
        identity_common.add_user_domain_option_to_parser(parser)
        options.add_all_projects(parser)
        parser.add_argument(
            '--sort',
            metavar='<key>[:<direction>]',
            help='Sort by a field of the API, such as expires_at or '
                 'created_at, ascending (asc, the default) or descending '
                 '(desc); several separated by commas',
        )
        options.add_paging(parser)
        options.add_long(parser)
        return parser

    def take_action(self, parsed_args):
        leases = self.app.client_manager.gpu_lease.leases(
            **self._query(parsed_args))
        shown = _COLUMNS
        if parsed_args.long:
            shown += _LONG_COLUMNS
        elif parsed_args.all_projects:
            shown += _PROJECT_COLUMN
        attributes, headers = zip(*shown)
        return headers, (
            utils.get_dict_properties(
                columns.split_start(lease.to_dict()), attributes,
                formatters=_formatters)
            for lease in leases)

    def _query(self, parsed_args):
        """Turn the options into the query of the API."""
        manager = self.app.client_manager
        query = options.paging(parsed_args)
        query.update(
            status=parsed_args.status,
            sort=parsed_args.sort,
            expires_before=parsed_args.expires_before)
        all_projects = parsed_args.all_projects
        if parsed_args.project:
            query['project_id'] = options.project_id(
                manager, parsed_args.project, parsed_args.project_domain)
            auth = manager.auth_ref
            # Another project's leases are among those of all projects.
            all_projects |= not (
                auth and query['project_id'] == auth.project_id)
        if parsed_args.user:
            query['user_id'] = options.user_id(
                manager, parsed_args.user, parsed_args.user_domain)
        if parsed_args.server:
            query['server_id'] = manager.gpu_lease.find_server_id(
                parsed_args.server, all_projects=all_projects)
        query['all_projects'] = all_projects or None
        return query


class CancelLease(command.Command):
    """Take servers that wait to be unshelved out of the queue.

    They stay shelved and can be unshelved again. A new server that waits is
    taken out of the queue by deleting it.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'leases',
            metavar='<lease>',
            nargs='+',
            help='Lease(s) to cancel: the ID of a lease, or the name or ID '
                 'of a server that waits',
        )
        return parser

    def take_action(self, parsed_args):
        failed = 0
        for name_or_id in parsed_args.leases:
            try:
                self.app.client_manager.gpu_lease.cancel_lease(name_or_id)
            except (exceptions.CommandError,
                    sdk_exceptions.SDKException) as error:
                failed += 1
                self.log.error("The wait of '%s' could not be cancelled: %s",
                               name_or_id, error)
        if failed:
            raise exceptions.CommandError(
                '%d of %d GPU leases could not be cancelled.' % (
                    failed, len(parsed_args.leases)))


class ShowLease(command.ShowOne):
    """Show a GPU lease."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'lease',
            metavar='<lease>',
            help='Lease to show: the ID of a lease, or the name or ID of a '
                 'server for its current lease, or for its latest one if it '
                 'has none now',
        )
        return parser

    def take_action(self, parsed_args):
        lease = self.app.client_manager.gpu_lease.find_lease(
            parsed_args.lease)
        return show(lease)
