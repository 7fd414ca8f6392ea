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


"""Whether the installed Nova is what the hooks into it were tested with."""

import inspect

from nova_gpu_lease import exception


def check(manager, major, tested):
    """Refuse a Nova that is another one.

    :param manager: Nova's manager class of the service.
    :param major: the tested major version of its RPC interface, a str.
    :param tested: an iterable of (owner, name, arguments): a class or a
        module, the name of one of its callables, and the names of its
        parameters without ``self``.
    :raises: exception.UnsupportedNova
    """
    version = manager.target.version
    if version.partition('.')[0] != major:
        raise exception.UnsupportedNova(
            reason='the RPC version of its %s is %s, not %s.x' % (
                manager.__name__, version, major))
    for owner, name, arguments in tested:
        found = tuple(
            parameter for parameter in inspect.signature(
                _undecorated(owner, name)).parameters if parameter != 'self')
        if found != tuple(arguments):
            raise exception.UnsupportedNova(
                reason='%s.%s takes (%s), not (%s)' % (
                    owner.__name__, name, ', '.join(found),
                    ', '.join(arguments)))


def _undecorated(owner, name):
    """A callable as it was written; one without arguments if there is none."""
    method = inspect.unwrap(getattr(owner, name, lambda: None))
    for cell in method.__closure__ or ():
        # oslo.messaging's expected_exceptions does not say what it wraps.
        if getattr(cell.cell_contents, '__name__', None) == name:
            return inspect.unwrap(cell.cell_contents)
    return method
