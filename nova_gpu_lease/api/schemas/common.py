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


"""Query parameters that several collections share.

``description`` says what is accepted; it ends the error message. It is also
what the API reference says.
"""

LIMIT = {
    'type': 'string', 'pattern': r'^[1-9][0-9]{0,8}\Z',
    'description': 'a whole number of at least 1',
}
MARKER = {
    'type': 'string', 'minLength': 1, 'maxLength': 36,
    'description': 'the id of the last item of the page before',
}
BOOLEAN = {
    'type': 'string',
    'enum': ['true', 'false', 'True', 'False', '1', '0'],
    'description': 'true or false',
}
ID = {
    'type': 'string', 'minLength': 1, 'maxLength': 255,
    'description': 'an id of at most 255 characters',
}

PAGING = {'limit': LIMIT, 'marker': MARKER, 'all_projects': BOOLEAN}


def collection(**properties):
    """The schema of the query string of one collection.

    :param properties: its own parameters by name, beside the paging.
    :returns: a JSON schema.
    """
    return {
        'type': 'object',
        'properties': dict(PAGING, **properties),
        'additionalProperties': False,
    }
