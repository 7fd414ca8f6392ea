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


"""Errors as HTTP answers, in the shape of Nova's own.

The type of an exception is turned into a status here and nowhere else.
"""

import webob

from nova_gpu_lease import exception

#: The first class that matches wins.
_STATUS = (
    (exception.InvalidInput, 400),
    (exception.NoEncryptionKey, 400),
    (exception.Forbidden, 403),
    (exception.NotFound, 404),
    (exception.Conflict, 409),
)

# The names are Nova's; see nova.api.openstack.wsgi.Fault.
_NAMES = {400: 'badRequest', 403: 'forbidden', 404: 'itemNotFound',
          405: 'badMethod', 409: 'conflictingRequest'}


def status_of(exc):
    """The HTTP status of an error.

    :param exc: an exception.GPULeaseException.
    :returns: an int, or None for an error that is not the user's.
    """
    for cls, status in _STATUS:
        if isinstance(exc, cls):
            return status
    return None


def response(status, message, code=None, headers=None):
    """Make an error answer.

    :param status: the HTTP status, an int.
    :param message: text for the user.
    :param code: one of nova_gpu_lease.errors, for programs.
    :param headers: a dict of further headers.
    :returns: a webob.Response.
    """
    error = {'code': status, 'message': message}
    if code:
        error['gpu_lease_code'] = code
    answer = webob.Response(
        status=status, content_type='application/json',
        json_body={_NAMES[status]: error})
    answer.charset = 'UTF-8'
    answer.headers.update(headers or {})
    return answer


def of(exc):
    """Make the answer for an error.

    :param exc: an exception.GPULeaseException.
    :returns: a webob.Response.
    :raises: exc itself when it is not the user's: Nova logs it and says 500.
    """
    status = status_of(exc)
    if status is None:
        raise exc
    return response(status, exc.format_message(), exc.code)
