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

"""``openstack gpu lease queue list``."""

import datetime

from osc_lib.command import command
from osc_lib import utils

from gpu_lease_client import columns
from gpu_lease_client import options

_formatters = {
    'devices': columns.DevicesColumn,
    'estimate': columns.OptionalColumn,
    'expected_start': columns.OptionalColumn,
    'reason': columns.OptionalColumn,
    'server_names': columns.ServersColumn,
    'server_ids': columns.ServersColumn,
    'wait_until': columns.OptionalColumn,
    'waiting': columns.ShortDurationColumn,
}

_COLUMNS = (
    ('position', 'Position'),
    ('server_names', 'Servers'),
    ('devices', 'Devices'),
    ('queued_at', 'Queued At'),
    ('waiting', 'Waiting'),
    ('expected_start', 'Expected Start'),
    ('estimate', 'Estimate'),
    ('wait_until', 'Give Up At'),
    ('reason', 'Reason'),
)
_PROJECT_COLUMN = (
    ('project_id', 'Project ID'),
)
_LONG_COLUMNS = (
    ('id', 'Request ID'),
    ('kind', 'Kind'),
    ('server_ids', 'Server IDs'),
    ('priority', 'Priority'),
    ('attempts', 'Attempts'),
    ('project_id', 'Project ID'),
    ('user_id', 'User ID'),
)


def seconds_since(time, now):
    """Tell how long ago a time was.

    :param time: ISO 8601 with a zone, or None.
    :param now: an aware datetime.
    :returns: whole seconds; 0 if `time` is ahead, which happens when two
        clocks differ; None for None.
    """
    if time is None:
        return None
    elapsed = now - datetime.datetime.fromisoformat(time)
    return max(0, int(elapsed.total_seconds()))


class ListQueue(command.Lister):
    """List the requests that wait for GPUs, in the order of the queue.

    Positions count the requests of all projects. Servers that were asked
    for together start together and are one entry.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        options.add_all_projects(parser)
        options.add_paging(parser)
        options.add_long(parser)
        return parser

    def take_action(self, parsed_args):
        entries = self.app.client_manager.gpu_lease.queue(
            all_projects=parsed_args.all_projects or None,
            **options.paging(parsed_args))
        shown = _COLUMNS
        if parsed_args.long:
            shown += _LONG_COLUMNS
        elif parsed_args.all_projects:
            shown += _PROJECT_COLUMN
        attributes, headers = zip(*shown)
        now = datetime.datetime.now(datetime.timezone.utc)
        return headers, (
            self._row(entry, attributes, now) for entry in entries)

    def _row(self, entry, attributes, now):
        values = columns.split_start(entry.to_dict())
        values['waiting'] = seconds_since(entry.queued_at, now)
        return utils.get_dict_properties(
            values, attributes, formatters=_formatters)
