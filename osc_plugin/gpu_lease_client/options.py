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

"""Options that several commands share, and what they mean."""

from openstack import exceptions as sdk_exceptions
from osc_lib.cli import parseractions
from osc_lib import exceptions


def add_all_projects(parser):
    """Add ``--all-projects``.

    :param parser: the argparse.ArgumentParser of the command.
    """
    parser.add_argument(
        '--all-projects',
        action='store_true',
        help='Include all projects (admin only)',
    )


def add_long(parser):
    """Add ``--long``.

    :param parser: the argparse.ArgumentParser of the command.
    """
    parser.add_argument(
        '--long',
        action='store_true',
        help='List additional fields in output',
    )


def add_paging(parser):
    """Add ``--limit``, ``--marker`` and ``--max-items``.

    :param parser: the argparse.ArgumentParser of the command.
    """
    parser.add_argument(
        '--limit',
        metavar='<limit>',
        type=int,
        action=parseractions.NonNegativeAction,
        help='The maximum number of entries to ask for at once. This '
             'controls the size of a page, not the number of entries shown; '
             'use --max-items to limit that. A service may have a lower '
             'limit of its own.',
    )
    parser.add_argument(
        '--marker',
        metavar='<marker>',
        help='Show only what comes after the entry with this ID',
    )
    parser.add_argument(
        '--max-items',
        metavar='<max-items>',
        type=int,
        action=parseractions.NonNegativeAction,
        help='The maximum number of entries to show, over as many pages as '
             'that takes',
    )


def paging(parsed_args):
    """Turn the options of add_paging() into a query.

    :param parsed_args: the parsed arguments.
    :returns: a dict; None for what was not given.
    """
    # A limit or a number of items of zero is none, as in OpenStackClient.
    return {
        'limit': parsed_args.limit or None,
        'marker': parsed_args.marker,
        'max_items': parsed_args.max_items or None,
    }


def project_id(manager, name_or_id, domain=None):
    """Find the project that somebody means.

    :param manager: the ClientManager of the shell.
    :param name_or_id: a name or an id.
    :param domain: name or id of the domain the project is in, or None.
    :returns: the id.
    :raises: osc_lib.exceptions.CommandError if there is no such project.
    """
    auth = manager.auth_ref
    if auth and not domain and name_or_id in (auth.project_id,
                                              auth.project_name):
        return auth.project_id
    identity = manager.sdk_connection.identity
    return _identity_id(identity, identity.find_project, name_or_id, domain)


def user_id(manager, name_or_id, domain=None):
    """Find the user that somebody means.

    :param manager: the ClientManager of the shell.
    :param name_or_id: a name or an id.
    :param domain: name or id of the domain the user is in, or None.
    :returns: the id.
    :raises: osc_lib.exceptions.CommandError if there is no such user.
    """
    auth = manager.auth_ref
    if auth and not domain and name_or_id in (auth.user_id, auth.username):
        return auth.user_id
    identity = manager.sdk_connection.identity
    return _identity_id(identity, identity.find_user, name_or_id, domain)


def _identity_id(identity, find, name_or_id, domain):
    """Find the id of a project or user in Keystone.

    :returns: the id; or `name_or_id` itself where Keystone does not allow to
        look, which is usual for anyone but an admin.
    """
    try:
        scope = {}
        if domain:
            scope['domain_id'] = _identity_id(
                identity, identity.find_domain, domain, None)
        return find(name_or_id, ignore_missing=False, **scope).id
    except sdk_exceptions.ForbiddenException:
        return name_or_id
    except (sdk_exceptions.NotFoundException,
            sdk_exceptions.DuplicateResource) as error:
        raise exceptions.CommandError(str(error))
