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

"""Writing configuration files, with overrides from the command line."""

import re

from nova_gpu_lease.devcloud import exceptions

SERVICES = ('nova', 'keystone', 'placement', 'glance', 'neutron')
_SETTING = re.compile(r'^(?:(?P<service>[a-z]+):)?(?P<group>[A-Za-z0-9_]+)\.'
                      r'(?P<option>[A-Za-z0-9_]+)=(?P<value>.*)$', re.DOTALL)


def parse_setting(text):
    """Parse one ``[SERVICE:]GROUP.OPTION=VALUE``; the service is nova.

    :returns: list of service, group, option and value
    :raises: DevcloudError that says what is accepted
    """
    match = _SETTING.match(text)
    service = (match['service'] or 'nova') if match else None
    if service not in SERVICES or '\n' in text:
        raise exceptions.DevcloudError(
            f'--set {text} is not accepted; GROUP.OPTION=VALUE is, for '
            'example DEFAULT.debug=true, with one of '
            f'{", ".join(f"{name}:" for name in SERVICES[1:])} before it for '
            'a service other than Nova.')
    return [service, match['group'], match['option'], match['value']]


def override(sections, settings, service):
    """Put settings into sections; one given twice becomes several lines.

    :param sections: dict of group to dict of option to value
    :param settings: lists as ``parse_setting`` returns them
    :param service: the service whose settings are wanted
    """
    given = {}
    for name, group, option, value in settings:
        if name == service:
            given.setdefault((group, option), []).append(value)
    for (group, option), values in given.items():
        sections.setdefault(group, {})[option] = values
    return sections


def render(sections):
    """Return the text of a configuration file.

    :param sections: dict of group to dict of option to value; a list gives
                     one line for each of its values
    """
    lines = []
    for group, options in sections.items():
        lines.append(f'[{group}]')
        for option, value in options.items():
            values = value if isinstance(value, list) else [value]
            lines += [f'{option} = {each}' for each in values]
        lines.append('')
    return '\n'.join(lines)


def write(state, service, sections, *path):
    """Write a service's configuration file and return its path."""
    sections = override(sections, state.option('settings'), service)
    return state.write(render(sections), *path)


def messaging(state, virtual_host=''):
    """Return the sections of a service that uses the message bus."""
    return {
        'DEFAULT': {'transport_url': state.transport_url(virtual_host)},
        'oslo_messaging_rabbit': {
            'rabbit_retry_interval': 1, 'rabbit_retry_backoff': 1,
            'rabbit_interval_max': 3, 'kombu_reconnect_delay': 0.5,
            'heartbeat_timeout_threshold': 20},
        'oslo_messaging_notifications': {'driver': 'noop'},
    }


def user(state, name):
    """Return the keystoneauth options of a service's user."""
    return {
        'auth_type': 'password', 'auth_url': state.url('keystone', '/v3'),
        'username': name, 'password': state.password(name),
        'project_name': 'service', 'user_domain_name': 'Default',
        'project_domain_name': 'Default', 'region_name': 'RegionOne'}


def authtoken(state, name):
    """Return the options with which an API checks tokens."""
    return {**user(state, name), 'auth_version': 'v3',
            'www_authenticate_uri': state.url('keystone', '/v3'),
            'service_token_roles': 'service',
            'service_token_roles_required': 'true'}


def pool():
    """Return the options of a database connection."""
    return {'max_pool_size': 10, 'max_overflow': 20, 'max_retries': 5}
