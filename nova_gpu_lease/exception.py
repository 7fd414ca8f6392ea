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

"""Every error that this project raises.

The class gives the type, ``code`` the stable string that the API returns
(see :mod:`nova_gpu_lease.errors`) and ``msg_fmt`` the text.
"""

from nova_gpu_lease import errors


class GPULeaseException(Exception):
    """Base of all errors; keyword arguments fill ``msg_fmt``."""

    msg_fmt = 'An unknown GPU lease error occurred.'
    code = errors.UNDEFINED

    def __init__(self, message=None, **kwargs):
        self.kwargs = kwargs
        super().__init__(message or self.msg_fmt % kwargs)

    def format_message(self):
        return self.args[0]


class InvalidInput(GPULeaseException):
    """What the user sent cannot be used: HTTP 400."""

    code = errors.INVALID_VALUE


class InvalidDuration(InvalidInput):
    msg_fmt = "'%(value)s' is not accepted; use %(accepted)s."


class InvalidHint(InvalidInput):
    msg_fmt = "Invalid scheduler hint %(hint)s='%(value)s': %(reason)s"
    code = errors.INVALID_HINT


class InvalidExtraSpec(InvalidInput):
    msg_fmt = ("Flavor extra spec %(key)s='%(value)s' is not accepted: "
               "%(reason)s")
    code = errors.INVALID_EXTRA_SPEC


class LeaseRequired(InvalidInput):
    msg_fmt = ("This flavor is only given for a limited time: say how long "
               "with the scheduler hint gpu_lease, for example "
               "gpu_lease=2h.")
    code = errors.LEASE_REQUIRED


class ResizeRefused(InvalidInput):
    msg_fmt = ('The server cannot be resized to flavor %(flavor)s: '
               '%(reason)s')
    code = errors.RESIZE_REFUSED


class LengthRefused(InvalidInput):
    msg_fmt = ("The length of GPU lease %(id)s cannot become '%(wanted)s': "
               "%(reason)s.")
    code = errors.LENGTH_REFUSED


class Forbidden(GPULeaseException):
    """The user may not do that: HTTP 403."""

    msg_fmt = "Policy doesn't allow %(action)s to be performed."
    code = errors.FORBIDDEN


class PriorityForbidden(Forbidden):
    msg_fmt = ("The priority class '%(priority)s' is not for everybody: "
               "policy doesn't allow %(action)s to be performed.")
    code = errors.PRIORITY_FORBIDDEN


class NotFound(GPULeaseException):
    """HTTP 404."""

    code = errors.NOT_FOUND


class LeaseNotFound(NotFound):
    msg_fmt = 'GPU lease or server %(id)s could not be found.'


class RequestNotFound(NotFound):
    msg_fmt = 'GPU request %(id)s could not be found.'


class MarkerNotFound(InvalidInput):
    msg_fmt = "Marker '%(marker)s' could not be found."
    code = errors.MARKER_NOT_FOUND


class Conflict(GPULeaseException):
    """It cannot be done in the present state: HTTP 409."""


class NotWaiting(Conflict):
    msg_fmt = ('GPU lease %(id)s does not wait, it is %(state)s: %(advice)s.')
    code = errors.NOT_WAITING


class NotChangeable(Conflict):
    msg_fmt = ('GPU lease %(id)s cannot be changed, it is %(state)s: '
               '%(advice)s.')
    code = errors.NOT_CHANGEABLE


class NewServerWaits(Conflict):
    msg_fmt = ('GPU lease %(id)s waits for server %(server_id)s to be '
               'created: to take it out of the queue, delete the server.')
    code = errors.NEW_SERVER


class TooManyWaiting(Forbidden):
    msg_fmt = ('Project %(project_id)s already has %(count)d GPU servers '
               'waiting, the most allowed is %(limit)d.')
    code = errors.TOO_MANY_WAITING


class ServerWaits(Conflict):
    msg_fmt = ("Cannot '%(action)s' server %(id)s while it waits for a GPU: "
               "it was never on a host.")
    code = errors.SERVER_WAITS


class UserGone(GPULeaseException):
    """Keystone does not let the user of a request act any more."""

    msg_fmt = ('The user who asked for it may no longer act in its project: '
               '%(reason)s')


class TokenGone(UserGone):
    """The token that was kept of a user's call is of no use any more."""

    msg_fmt = ('Nova may no longer act for the user who asked for it: '
               'Keystone does not take the token of that call any more. It '
               'has expired for too long, or the user, a role or the '
               'application credential is gone.')


class NoCredentials(UserGone):
    """Neither a trust nor a token could be kept of a user's call."""

    msg_fmt = ('Nova cannot act for the user who asked for it: Keystone made '
               'no trust (it makes none for application credentials), and '
               'this cloud has no [gpu_lease] encryption_keys to keep the '
               'token of the call with.')


class CredentialsUndecided(GPULeaseException):
    """It is not known yet how to act for a user: worth another try."""

    msg_fmt = 'Keystone has not yet let us act for the user who asked for it.'


class StaleState(GPULeaseException):
    """A row was changed by somebody else since it was read."""

    msg_fmt = ('%(table)s %(id)s is no longer %(state)s in generation '
               '%(generation)d.')


class InvalidTransition(GPULeaseException):
    """A programming error: the change is not in states.*_TRANSITIONS."""

    msg_fmt = '%(table)s cannot go from %(old)s to %(new)s.'


class LeaseExists(GPULeaseException):
    """The server has a current lease already."""

    msg_fmt = 'Server %(server_id)s already has a current GPU lease.'


class InvalidPriorities(GPULeaseException):
    """The operator's priority classes cannot be read: refuse to start."""

    msg_fmt = ("[gpu_lease] priorities: '%(item)s' is not accepted: "
               "%(reason)s. Write name:weight or name:weight:preemptible, "
               "for example normal:0, urgent:100, spare:-100:preemptible.")


class InvalidTopology(GPULeaseException):
    """The topology file cannot be used; a line for each mistake."""

    msg_fmt = '%(problems)s'


class UnsupportedNova(GPULeaseException):
    """Nova is not what the hooks were written for: refuse to start."""

    msg_fmt = ('This Nova is not supported: %(reason)s. Install a version of '
               'nova-gpu-lease that was made for it, or start the stock '
               'service instead.')


class NoEncryptionKey(GPULeaseException):
    msg_fmt = ('A password or a file for the server cannot be kept while it '
               'waits: [gpu_lease] encryption_keys is not set.')
    code = errors.NO_ENCRYPTION_KEY


class InvalidEncryptionKey(GPULeaseException):
    msg_fmt = ('Key number %(number)d of [gpu_lease] encryption_keys is not '
               'a key; make one with "nova-gpu-lease-manage keys generate".')


class UnreadableSecrets(GPULeaseException):
    msg_fmt = ('The password or the files that were kept for a server cannot '
               'be decrypted: none of the keys in [gpu_lease] '
               'encryption_keys is the one they were encrypted with. Put it '
               'back at the end of the list.')


class DatabaseNotConfigured(GPULeaseException):
    msg_fmt = ('[gpu_lease_database] connection is not set; give it the URL '
               'of the database of nova-gpu-lease, for example '
               'mysql+pymysql://USER:PASSWORD@HOST/nova_gpu_lease.')


class MigrationFailed(GPULeaseException):
    msg_fmt = ('The database cannot be migrated: %(reason)s. A database that '
               'a newer nova-gpu-lease has migrated cannot be used by an '
               'older one.')


class InvalidPasteFile(GPULeaseException):
    msg_fmt = ('The filter cannot be put into this api-paste.ini: '
               '%(reason)s.')
