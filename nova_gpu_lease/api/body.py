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


"""The body of a request, checked against a schema."""

import jsonschema
from oslo_serialization import jsonutils

from nova_gpu_lease import exception


def parse(req, schema, key):
    """What a request is to change.

    :param req: the webob request.
    :param schema: a JSON schema of schemas/ of an object.
    :param key: the name that the object has in the body.
    :returns: a dict.
    :raises: exception.InvalidInput naming what is wrong and what is accepted.
    """
    try:
        body = jsonutils.loads(req.body)
    except (ValueError, RecursionError):
        raise exception.InvalidInput('The body is not JSON.')
    if (not isinstance(body, dict) or list(body) != [key] or
            not isinstance(body[key], dict)):
        raise exception.InvalidInput(
            'The body must be an object with an object "%s", and nothing '
            'else.' % key)
    properties = schema['properties']
    values = body[key]
    for name in values.keys() - properties.keys():
        raise exception.InvalidInput(
            "'%s' cannot be set; accepted are %s." %
            (name, ', '.join(sorted(properties))))
    for error in jsonschema.Draft202012Validator(schema).iter_errors(values):
        if not error.path:
            raise exception.InvalidInput(
                'Nothing is to be changed; accepted are %s.' %
                ', '.join(sorted(properties)))
        name = error.path[0]
        raise exception.InvalidInput(
            "%s '%s' is not accepted; use %s." %
            (name, values[name], properties[name]['description']))
    return values
