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
the trust later stand in for it. Where Keystone forbids the trust, the token of
the call is kept, encrypted: with Nova's service token beside it, OpenStack's
services take it for some time after it expired.
"""

import threading
import time

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading as ks_loading
from nova.conf import service_token
from nova import context as nova_context
from oslo_log import log as logging

from nova_gpu_lease.conf import CONF
from nova_gpu_lease import exception
from nova_gpu_lease import secrets

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

    def delegate(self, context):
        """Keep what lets us act as the user of a request later.

        :param context: the RequestContext of the user's call, with its token.
        :returns: the columns of the request to set: ``trust_id``, or
            ``token`` where Keystone forbids a trust (for the tokens of
            application credentials and of other trusts, for example), or
            nothing where Keystone is not configured.
        """
        if not self._configured() or not context.auth_token:
            return {}
        trust_id = self._create_trust(context)
        if trust_id:
            return {'trust_id': trust_id}
        try:
            return {'token': secrets.encrypt({'token': context.auth_token})}
        except exception.NoEncryptionKey:
            LOG.error('Without a trust, and without [gpu_lease] '
                      'encryption_keys, nothing can be done in the name of '
                      'user %(user)s in project %(project)s.',
                      {'user': context.user_id,
                       'project': context.project_id})
            return {}

    def _create_trust(self, context):
        try:
            return self._again(self._post_trust, context)
        except ks_exc.ClientException as exc:
            LOG.warning('No trust could be made for user %(user)s in project '
                        '%(project)s; the token of the call is kept instead, '
                        'and works as long as Keystone takes expired tokens '
                        '([token] allow_expired_window): %(reason)s',
                        {'user': context.user_id,
                         'project': context.project_id, 'reason': exc})
            return None

    def _post_trust(self, context):
        trustee = self._service().get_user_id(self._get_session())
        response = self._identity(context.get_auth_plugin()).post(
            '/OS-TRUST/trusts', json={'trust': {
                'trustor_user_id': context.user_id,
                'trustee_user_id': trustee,
                'project_id': context.project_id,
                'impersonation': True,
                'roles': [{'name': role} for role in context.roles]}})
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

    def revoke_trust(self, trust_id):
        """Take a trust back. A trust that is gone already is no error.

        :returns: whether it is gone.
        """
        if not trust_id or not self._configured():
            return True
        try:
            self._identity(self._trust_auth(trust_id)).delete(
                '/OS-TRUST/trusts/%s' % trust_id)
        except (ks_exc.NotFound, ks_exc.Unauthorized, ks_exc.Forbidden):
            # Gone with its user, its project or a role.
            LOG.debug('Trust %s is of no use any more.', trust_id)
        except ks_exc.ClientException as exc:
            LOG.warning('Trust %(trust)s could not be deleted and is tried '
                        'again: %(reason)s',
                        {'trust': trust_id, 'reason': exc})
            return False
        with self._lock:
            self._trust_auths.pop(trust_id, None)
        return True

    def context_for(self, request):
        """The context of the user who made a request.

        :param request: a row of requests with all columns.
        :returns: a nova RequestContext with a token; without one where
            Keystone is not configured.
        :raises: exception.UserGone when the user may no longer act there;
            keystoneauth1.exceptions.ClientException when Keystone does not
            answer.
        """
        context = nova_context.RequestContext.from_dict(request.context)
        if not self._configured():
            return context
        if request.trust_id:
            context.auth_token = self._trust_token(request.trust_id)
        elif request.token:
            context.auth_token = secrets.decrypt(request.token)['token']
        return context

    def _trust_token(self, trust_id):
        session = self._get_session()
        try:
            return self._trust_auth(trust_id).get_token(session)
        except (ks_exc.Unauthorized, ks_exc.Forbidden,
                ks_exc.NotFound) as exc:
            # Ours to mend when the service user itself is refused.
            self._service().get_token(session)
            raise exception.UserGone(reason=exc)

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
