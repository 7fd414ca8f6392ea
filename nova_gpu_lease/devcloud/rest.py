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

"""A thin client of the cloud's own APIs, for bootstrap and readiness."""

from keystoneauth1.identity import v3
from keystoneauth1 import session as ks_session
import requests

MICROVERSIONS = {'nova': 'compute 2.90', 'placement': 'placement 1.36'}


class Client:
    """Requests with a token of one project's member.

    The endpoints are the ones in the state directory, so that it works
    before the catalog is complete.
    """

    def __init__(self, state, project='admin'):
        http = requests.Session()
        # Neither a proxy nor ~/.netrc has a say on loopback.
        http.trust_env = False
        self.state = state
        self.session = ks_session.Session(
            auth=v3.Password(**state.credentials(project)), session=http)

    def request(self, service, method, path, **kwargs):
        """Send a request and return the decoded body, or None.

        :param service: name of the API, one with a port of its own
        :raises: keystoneauth1.exceptions.ClientException
        """
        headers = dict(kwargs.pop('headers', {}))
        if service in MICROVERSIONS:
            headers.setdefault('OpenStack-API-Version', MICROVERSIONS[service])
        response = self.session.request(
            self.state.url(service, path), method, headers=headers, **kwargs)
        return response.json() if response.content else None

    def get(self, service, path, **kwargs):
        """Send GET, see ``request``."""
        return self.request(service, 'GET', path, **kwargs)

    def post(self, service, path, body, **kwargs):
        """Send POST with a JSON body, see ``request``."""
        return self.request(service, 'POST', path, json=body, **kwargs)

    def put(self, service, path, body=None, **kwargs):
        """Send PUT with a JSON body, see ``request``."""
        if body is not None:
            kwargs['json'] = body
        return self.request(service, 'PUT', path, **kwargs)


def client(state, project='admin'):
    """Return a Client for a project."""
    return Client(state, project)
