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

"""Commands that change a lease which waits or runs."""

from osc_lib.command import command
from osc_lib import exceptions

from gpu_lease_client.v1 import lease


def _add_lease(parser, what):
    parser.add_argument(
        'lease',
        metavar='<lease>',
        help='Lease to %s: the ID of a lease, or the name or ID of its '
             'server' % what,
    )


class ExtendLease(command.ShowOne):
    """Make a GPU lease longer, up to its longest duration.

    Others who wait for its GPUs may then wait longer.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        _add_lease(parser, 'extend')
        parser.add_argument(
            'duration',
            metavar='<duration>',
            help='How much longer with a + in front, such as +30m or +2h; '
                 'without, how long the lease is from its beginning, such as '
                 '1d12h (a bare number is minutes)',
        )
        return parser

    def take_action(self, parsed_args):
        return lease.show(self.app.client_manager.gpu_lease.change_lease(
            parsed_args.lease, duration=parsed_args.duration))


class SetLease(command.Command):
    """Change a GPU lease that waits or runs."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        _add_lease(parser, 'change')
        parser.add_argument(
            '--priority',
            metavar='<class>',
            help='The priority class, only while it waits; servers that were '
                 'asked for together get it together',
        )
        parser.add_argument(
            '--on-expiry',
            metavar='<action>',
            choices=('shelve', 'delete'),
            help='What happens to the server at the end: shelve (the work is '
                 'kept) or delete',
        )
        extends = parser.add_mutually_exclusive_group()
        extends.add_argument(
            '--auto-extend',
            action='store_true',
            default=None,
            help='Extend the lease in small steps while nobody waits for its '
                 'GPUs, up to its longest duration',
        )
        extends.add_argument(
            '--no-auto-extend',
            action='store_false',
            dest='auto_extend',
            help='Do not do that',
        )
        return parser

    def take_action(self, parsed_args):
        values = {name: value for name, value in (
            ('priority', parsed_args.priority),
            ('on_expiry', parsed_args.on_expiry),
            ('auto_extend', parsed_args.auto_extend)) if value is not None}
        if not values:
            raise exceptions.CommandError(
                'Nothing is to be changed: give --priority, --on-expiry, '
                '--auto-extend or --no-auto-extend.')
        self.app.client_manager.gpu_lease.change_lease(
            parsed_args.lease, **values)
