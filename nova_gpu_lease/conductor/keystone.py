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


"""What we ask of Keystone: as Nova's service user, or by a user's trust.

Nothing here decides; :mod:`nova_gpu_lease.conductor.credentials` does.
"""

import threading
import time

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading as ks_loading
from nova.conf import service_token
from nova import context as nova_context

from nova_gpu_lease.conf import CONF

_GROUP = service_token.SERVICE_USER_GROUP
#: Options of [service_user] that scope the token; a trust has its own scope.
_SCOPE = ('project_id', 'project_name', 'project_domain_id',
          'project_domain_name', 'domain_id', 'domain_name', 'system_scope')
#: A trust has neither a name nor a time at which it was made. Keystone keeps
#: and shows what else it is given: the uuid of the request that it is for.
MARK = 'nova_gpu_lease_request'


class Keystone:
    """One session for all threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._session = None
        self._service_auth = None

    @staticmethod
    def configured():
        """Whether there is a Keystone; tests of Nova do without."""
        return bool(CONF[_GROUP].auth_type or CONF[_GROUP].auth_section)

    def create_trust(self, context, mark):
        """Have the user of a call trust Nova's service user.

        :param context: the RequestContext of the call, with its token.
        :param mark: the uuid of the request that the trust is for.
        :returns: the id of the trust.
        :raises: keystoneauth1.exceptions.ClientException
        """
        return self._again(self._post_trust, context, mark)

    def _post_trust(self, context, mark):
        trustee = self._service().get_user_id(self._get_session())
        response = self._identity(context.get_auth_plugin()).post(
            '/OS-TRUST/trusts', json={'trust': {
                'trustor_user_id': context.user_id,
                'trustee_user_id': trustee,
                'project_id': context.project_id,
                'impersonation': True,
                'roles': [{'name': role} for role in context.roles],
                MARK: mark}})
        return response.json()['trust']['id']

    @staticmethod
    def _again(call, *args):
        """Call Keystone; try twice more while it is away."""
        for _ in range(2):
            try:
                return call(*args)
            except (ks_exc.ConnectFailure, ks_exc.HttpServerError):
                time.sleep(1)
        return call(*args)

    def marked_trusts(self):
        """The trusts that were made by this product, in any region.

        :returns: a dict of trust id to the uuid of a request.
        :raises: keystoneauth1.exceptions.ClientException
        """
        service = self._service()
        trustee = service.get_user_id(self._get_session())
        response = self._identity(service).get(
            '/OS-TRUST/trusts', params={'trustee_user_id': trustee})
        return {trust['id']: trust[MARK]
                for trust in response.json()['trusts'] if trust.get(MARK)}

    def delete_trust(self, trust_id):
        """Delete a trust: in its user's name, or as an administrator.

        Keystone gives no token for the trust of a user who is disabled or
        has lost a role; but such a trust comes back with its user.

        :raises: keystoneauth1.exceptions.ClientException
        """
        path = '/OS-TRUST/trusts/%s' % trust_id
        try:
            self._identity(_trust_auth(trust_id)).delete(path)
        except (ks_exc.Unauthorized, ks_exc.Forbidden):
            self._identity(self._service()).delete(path)

    def trust_token(self, trust_id):
        """A new token of a trust.

        Each time a new one: an old one may have been revoked, with its user,
        long before it expires.

        :raises: keystoneauth1.exceptions.Unauthorized, Forbidden or NotFound
            when its user may no longer act, other ClientExceptions when
            Keystone does not answer, or refuses Nova's own user.
        """
        try:
            return _trust_auth(trust_id).get_token(self._get_session())
        except (ks_exc.Unauthorized, ks_exc.Forbidden, ks_exc.NotFound):
            # Nobody's user is to blame when Nova's own is refused.
            self._check_service_user()
            raise

    def _check_service_user(self):
        """Make sure that Keystone takes the password of Nova's user now.

        :raises: keystoneauth1.exceptions.AuthorizationFailure if it does not,
            other ClientExceptions when Keystone does not answer.
        """
        # A token from before the password was changed would say nothing.
        auth = ks_loading.load_auth_from_conf_options(CONF, _GROUP)
        try:
            auth.get_access(self._get_session())
        except (ks_exc.Unauthorized, ks_exc.Forbidden,
                ks_exc.NotFound) as exc:
            raise ks_exc.AuthorizationFailure(
                'Keystone refuses the service user of Nova: %s' % exc)

    def is_accepted(self, token):
        """Whether services take a token with Nova's service token beside it.

        :raises: keystoneauth1.exceptions.ClientException
        """
        try:
            # Keystone's answer may hold the token: neither log it nor keep
            # the exception.
            self._identity(self._service()).get(
                '/auth/tokens', params={'allow_expired': '1'},
                headers={'X-Subject-Token': token}, log=False)
        except (ks_exc.NotFound, ks_exc.Forbidden):
            # Forbidden: a token of another trust, whose user is disabled.
            return False
        return True

    def service_access(self):
        """What Keystone says of a token of Nova's service user.

        :returns: a keystoneauth1.access.AccessInfo.
        :raises: keystoneauth1.exceptions.ClientException
        """
        return self._service().get_access(self._get_session())

    def service_context(self):
        """A context of Nova's service user, with its token.

        :returns: a nova RequestContext with admin rights in Nova.
        :raises: keystoneauth1.exceptions.ClientException
        """
        access = self.service_access()
        return nova_context.RequestContext(
            user_id=access.user_id, project_id=access.project_id,
            user_name=access.username, project_name=access.project_name,
            roles=access.role_names, is_admin=True,
            auth_token=access.auth_token,
            service_catalog=_catalog(access.service_catalog.catalog))

    def _get_session(self):
        with self._lock:
            if self._session is None:
                self._session = ks_loading.load_session_from_conf_options(
                    CONF, _GROUP)
            return self._session

    def _service(self):
        with self._lock:
            if self._service_auth is None:
                self._service_auth = ks_loading.load_auth_from_conf_options(
                    CONF, _GROUP)
            return self._service_auth

    def _identity(self, auth):
        # The catalog of a request's context does not hold Keystone itself.
        url = self._service().auth_url.rstrip('/')
        if not url.endswith('/v3'):
            url += '/v3'
        return adapter.Adapter(self._get_session(), auth=auth,
                               endpoint_override=url)


def _trust_auth(trust_id):
    return ks_loading.load_auth_from_conf_options(
        CONF, _GROUP, trust_id=trust_id, **dict.fromkeys(_SCOPE))


def _catalog(services):
    """A catalog of Keystone's API 3 in the shape that a context has."""
    result = []
    for service in services:
        regions = {}
        for endpoint in service['endpoints']:
            region = endpoint.get('region_id') or endpoint.get('region')
            regions.setdefault(region, {'region': region})[
                endpoint['interface'] + 'URL'] = endpoint['url']
        result.append({'type': service['type'], 'name': service.get('name'),
                       'endpoints': list(regions.values())})
    return result
