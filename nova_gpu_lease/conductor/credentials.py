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
services take it for some time after it expired. What came of it is on the
request: one of states.CREDENTIALS.
"""

from keystoneauth1 import exceptions as ks_exc
from nova import context as nova_context
from oslo_log import log as logging

from nova_gpu_lease.conductor import keystone
from nova_gpu_lease import exception
from nova_gpu_lease import secrets
from nova_gpu_lease import states

LOG = logging.getLogger(__name__)


class Credentials:
    """Trusts, and contexts made from them. Safe for use by many threads."""

    def __init__(self):
        self.keystone = keystone.Keystone()

    def keep(self, context):
        """The token of a call, for a request that is about to be written.

        It goes with a trust; without it, a conductor that dies before the
        trust is there would leave a request that nobody can start.

        :param context: the RequestContext of the user's call, with its token.
        :returns: a column of the request, or nothing.
        """
        if (not self.keystone.configured() or not context.auth_token or
                not secrets.available()):
            return {}
        return {'token': secrets.encrypt({'token': context.auth_token})}

    def delegate(self, context, request):
        """Decide how to act for the user of a request later.

        :param context: the RequestContext of the user's call, with its token.
        :param request: the row of the request as it was written.
        :returns: the columns of the request to set; nothing where Keystone is
            not configured.
        """
        if not self.keystone.configured():
            return {}
        trust_id = context.auth_token and self._create_trust(context, request)
        if trust_id:
            return {'credentials': states.CREDENTIALS_TRUST,
                    'trust_id': trust_id, 'token': None}
        return without_trust(request)

    def _create_trust(self, context, request):
        try:
            return self.keystone.create_trust(context, request.uuid)
        except ks_exc.ClientException as exc:
            LOG.info('No trust could be made for user %(user)s in project '
                     '%(project)s: %(reason)s',
                     {'user': context.user_id,
                      'project': context.project_id, 'reason': exc})
            return None

    def revoke_trust(self, trust_id):
        """Take a trust back. A trust that is gone already is no error.

        :returns: whether it is gone, or nothing we can do makes it go.
        """
        if not trust_id or not self.keystone.configured():
            return True
        try:
            self.keystone.delete_trust(trust_id)
        except ks_exc.NotFound:
            # Gone with its user or its project.
            LOG.debug('Trust %s is gone.', trust_id)
        except (ks_exc.Unauthorized, ks_exc.Forbidden):
            LOG.info('Trust %s can be deleted by its user only, who may not '
                     'act now; it is tried again later.', trust_id)
        except ks_exc.ClientException as exc:
            LOG.warning('Trust %(trust)s could not be deleted and is tried '
                        'again: %(reason)s',
                        {'trust': trust_id, 'reason': exc})
            return False
        return True

    def context_for(self, request):
        """The context of the user who made a request.

        :param request: a row of requests with all columns.
        :returns: a nova RequestContext with a token; without one where
            Keystone is not configured.
        :raises: exception.UserGone when nothing lets us act for the user any
            more, CredentialsUndecided while that is not clear yet;
            keystoneauth1.exceptions.ClientException when Keystone does not
            answer.
        """
        context = nova_context.RequestContext.from_dict(request.context)
        if not self.keystone.configured():
            return context
        if request.trust_id:
            context.auth_token = self._trust_token(request.trust_id)
        elif request.token:
            context.auth_token = self._kept_token(request.token)
        elif request.credentials is None:
            raise exception.CredentialsUndecided()
        else:
            raise exception.NoCredentials()
        return context

    def _trust_token(self, trust_id):
        try:
            return self.keystone.trust_token(trust_id)
        except (ks_exc.Unauthorized, ks_exc.Forbidden,
                ks_exc.NotFound) as exc:
            raise exception.UserGone(reason=exc)

    def _kept_token(self, encrypted):
        token = secrets.decrypt(encrypted)['token']
        if not self.keystone.is_accepted(token):
            raise exception.TokenGone()
        return token

    def service_context(self):
        """A context of our own, for a user for whom we may not act any more.

        :returns: a nova RequestContext with admin rights in Nova.
        :raises: keystoneauth1.exceptions.ClientException
        """
        if not self.keystone.configured():
            return nova_context.get_admin_context()
        return self.keystone.service_context()

    @staticmethod
    def to_dict(context):
        """A context as it is kept on a request: without its token."""
        values = context.to_dict()
        values['auth_token'] = None
        return values


def without_trust(request):
    """How to act for a user who gave no trust.

    :param request: a row of requests.
    :returns: the columns of the request to set.
    """
    if request.token:
        LOG.info('For request %(request)s of user %(user)s the token of the '
                 'call is used, for as long as Keystone takes expired tokens '
                 '([token] allow_expired_window).',
                 {'request': request.uuid, 'user': request.user_id})
        return {'credentials': states.CREDENTIALS_TOKEN}
    LOG.error('Request %(request)s of user %(user)s cannot be started: '
              'Keystone made no trust, and without [gpu_lease] '
              'encryption_keys the token of the call is not kept.',
              {'request': request.uuid, 'user': request.user_id})
    return {'credentials': states.CREDENTIALS_NONE}
