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

"""How the conductor acts as the tenant, hours after the tenant's call.

A Keystone trust is made from the user's token while that is fresh; tokens of
the trust later stand in for it. Where Keystone is not configured, or forbids
the trust, the context is used without a token and what needs one fails.
"""

import threading

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading as ks_loading
from nova.conf import service_token
from nova import context as nova_context
from oslo_log import log as logging

from nova_gpu_lease.conf import CONF

LOG = logging.getLogger(__name__)

_GROUP = service_token.SERVICE_USER_GROUP
#: Options of [service_user] that scope the token; a trust has its own scope.
_SCOPE = ('project_id', 'project_name', 'project_domain_id',
          'project_domain_name', 'domain_id', 'domain_name', 'system_scope')


class Credentials:
    """Trusts, and contexts made from them. Safe for use by many threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._session = None
        self._service_auth = None
        self._trust_auths = {}

    def create_trust(self, context):
        """Have the user of a request trust Nova's service user.

        :param context: the RequestContext of the user's call, with its token.
        :returns: the id of the trust; None where Keystone is not configured
            or forbids it (the reason is logged).
        """
        if not self._configured() or not context.auth_token:
            return None
        try:
            trustee = self._service().get_user_id(self._get_session())
            response = self._identity(context.get_auth_plugin()).post(
                '/OS-TRUST/trusts', json={'trust': {
                    'trustor_user_id': context.user_id,
                    'trustee_user_id': trustee,
                    'project_id': context.project_id,
                    'impersonation': True,
                    'roles': [{'name': role} for role in context.roles]}})
            return response.json()['trust']['id']
        except ks_exc.ClientException as exc:
            LOG.warning('No trust could be made for user %(user)s in project '
                        '%(project)s; what needs the token of the user will '
                        'fail once that has expired: %(reason)s',
                        {'user': context.user_id,
                         'project': context.project_id, 'reason': exc})
            return None

    def revoke_trust(self, trust_id):
        """Take a trust back. A trust that is gone already is no error."""
        if not trust_id or not self._configured():
            return
        auth = self._trust_auth(trust_id)
        try:
            self._identity(auth).delete('/OS-TRUST/trusts/%s' % trust_id)
        except ks_exc.NotFound:
            pass
        except ks_exc.ClientException as exc:
            LOG.warning('Trust %(trust)s could not be deleted: %(reason)s',
                        {'trust': trust_id, 'reason': exc})
        with self._lock:
            self._trust_auths.pop(trust_id, None)

    def context_for(self, request):
        """The context of the user who made a request.

        :param request: a row of requests, with its column ``context``.
        :returns: a nova RequestContext with a fresh token; without a token
            when there is no trust.
        :raises: keystoneauth1.exceptions.ClientException when Keystone gives
            none for the trust: it is down, or the user may no longer act.
        """
        context = nova_context.RequestContext.from_dict(request.context)
        if request.trust_id and self._configured():
            context.auth_token = self._trust_auth(request.trust_id).get_token(
                self._get_session())
        return context

    @staticmethod
    def to_dict(context):
        """A context as it is kept on a request: without its token."""
        values = context.to_dict()
        values['auth_token'] = None
        return values

    def _configured(self):
        return bool(CONF[_GROUP].auth_type or CONF[_GROUP].auth_section)

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

    def _trust_auth(self, trust_id):
        with self._lock:
            if trust_id not in self._trust_auths:
                self._trust_auths[trust_id] = (
                    ks_loading.load_auth_from_conf_options(
                        CONF, _GROUP, trust_id=trust_id,
                        **dict.fromkeys(_SCOPE)))
            return self._trust_auths[trust_id]

    def _identity(self, auth):
        # The catalog of a request's context does not hold Keystone itself.
        url = self._service().auth_url.rstrip('/')
        if not url.endswith('/v3'):
            url += '/v3'
        return adapter.Adapter(self._get_session(), auth=auth,
                               endpoint_override=url)
