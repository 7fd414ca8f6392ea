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


"""Secrets of servers that wait, encrypted at rest.

The keys are Fernet keys from ``[gpu_lease] encryption_keys``: the first one
encrypts, all of them decrypt, so that keys can be rotated.
"""

import json

from cryptography import fernet

from nova_gpu_lease import conf
from nova_gpu_lease import exception


def generate_key():
    """A new key for ``encryption_keys``.

    :returns: 44 characters.
    """
    return fernet.Fernet.generate_key().decode('ascii')


def available():
    """Whether there is a key to encrypt with."""
    return bool(conf.CONF.gpu_lease.encryption_keys)


def _keys():
    """The keys, the first one first.

    :returns: a list of cryptography.fernet.Fernet.
    """
    if not available():
        raise exception.NoEncryptionKey()
    keys = []
    for number, key in enumerate(conf.CONF.gpu_lease.encryption_keys, 1):
        try:
            keys.append(fernet.Fernet(key.strip()))
        except ValueError:
            # What is wrong with it would show a part of the key.
            raise exception.InvalidEncryptionKey(number=number) from None
    return keys


def _fernet():
    return fernet.MultiFernet(_keys())


def encrypt(secrets):
    """Encrypt what nobody should read in the database.

    :param secrets: a dict that JSON can hold.
    :returns: a str of ASCII characters.
    :raises: exception.NoEncryptionKey, InvalidEncryptionKey
    """
    return _fernet().encrypt(json.dumps(secrets).encode()).decode('ascii')


def decrypt(text):
    """The reverse of :func:`encrypt`.

    :param text: what encrypt() returned.
    :returns: the dict.
    :raises: exception.NoEncryptionKey, InvalidEncryptionKey,
        UnreadableSecrets if none of the keys is the right one.
    """
    try:
        return json.loads(_fernet().decrypt(text.encode('ascii')))
    except fernet.InvalidToken:
        raise exception.UnreadableSecrets() from None


def rotate(text):
    """Encrypt with the first key what another one was used for.

    :param text: what encrypt() returned.
    :returns: the new text; None when it has the first key already.
    :raises: exception.NoEncryptionKey, InvalidEncryptionKey,
        UnreadableSecrets if none of the keys is the right one.
    """
    keys = _keys()
    data = text.encode('ascii')
    try:
        keys[0].decrypt(data)
    except fernet.InvalidToken:
        try:
            return fernet.MultiFernet(keys).rotate(data).decode('ascii')
        except fernet.InvalidToken:
            raise exception.UnreadableSecrets() from None
    return None
