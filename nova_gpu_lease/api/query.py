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


"""Query strings: checked against a schema, and the link to the next page."""

import datetime
from urllib import parse as urlparse

import jsonschema
from nova.api.openstack import common
from nova import conf
from oslo_utils import strutils

from nova_gpu_lease import exception

CONF = conf.CONF

#: May be given several times, which is the same as once with commas.
_REPEATABLE = {'sort'}

_FORMATS = jsonschema.FormatChecker(formats=())


def time(text):
    """Turn ISO 8601 with a zone into an aware datetime in UTC.

    :raises: ValueError
    """
    value = datetime.datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError('no time zone')
    try:
        return value.astimezone(datetime.timezone.utc)
    except OverflowError as exc:
        raise ValueError(str(exc))


@_FORMATS.checks('date-time', raises=ValueError)
def _is_time(text):
    return bool(time(text))


def parse(req, schema):
    """The parameters of a request.

    :param req: the webob request.
    :param schema: a JSON schema of schemas/.
    :returns: a dict of str to str.
    :raises: exception.InvalidInput naming the parameter, its value and what
        is accepted.
    """
    params = {}
    try:
        given = req.GET.mixed()
    except UnicodeDecodeError:
        raise exception.InvalidInput('The query string is not UTF-8.')
    for name, value in given.items():
        if isinstance(value, list):
            if name not in _REPEATABLE:
                raise exception.InvalidInput(
                    "Query parameter %s is given %d times; give it once." %
                    (name, len(value)))
            value = ','.join(value)
        params[name] = value
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=_FORMATS)
    for name in params.keys() - schema['properties'].keys():
        raise exception.InvalidInput(
            "Unknown query parameter '%s'; accepted are %s." %
            (name, ', '.join(sorted(schema['properties']))))
    for error in validator.iter_errors(params):
        name = error.path[0]
        raise exception.InvalidInput(
            "Invalid query parameter %s='%s': use %s." %
            (name, params[name], schema['properties'][name]['description']))
    return params


def limit(params):
    """How many items a page has: never more than ``[api] max_limit``."""
    return min(int(params.get('limit', CONF.api.max_limit)),
               CONF.api.max_limit)


def all_projects(params):
    return strutils.bool_from_string(params.get('all_projects'))


class _Links(common.ViewBuilder):
    """Nova's way from the request to the URL that clients use."""

    def base(self, req):
        return self._update_compute_link_prefix(req.application_url)


def next_links(req, last_id):
    """The links of a page that is not the last.

    :param req: the webob request of this page.
    :param last_id: the id of its last item.
    :returns: a list with one {'rel': 'next', 'href': URL}.
    """
    params = [(name, value) for name, value in req.GET.items()
              if name != 'marker']
    params.append(('marker', last_id))
    return [{'rel': 'next', 'href': '%s%s?%s' % (
        _Links().base(req), urlparse.quote(req.path_info),
        urlparse.urlencode(params))}]
