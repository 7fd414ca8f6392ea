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


"""Encryption of secrets."""

from nova_gpu_lease import exception
from nova_gpu_lease import secrets
from tests import base

SECRETS = {'admin_password': 'pässword', 'injected_files': [['/a', 'eA==']]}


class SecretsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.old, self.new = (secrets.generate_key() for _ in range(2))

    def test_round_trip(self):
        self.flags(encryption_keys=[self.new])
        self.assertTrue(secrets.available())
        text = secrets.encrypt(SECRETS)
        self.assertTrue(text.isascii())
        self.assertNotIn('ssword', text)
        self.assertNotEqual(text, secrets.encrypt(SECRETS))
        self.assertEqual(SECRETS, secrets.decrypt(text))

    def test_rotation(self):
        self.flags(encryption_keys=[self.old])
        text = secrets.encrypt(SECRETS)
        self.flags(encryption_keys=[self.new, self.old])
        self.assertEqual(SECRETS, secrets.decrypt(text))
        newer = secrets.encrypt(SECRETS)
        self.flags(encryption_keys=[self.new])
        self.assertEqual(SECRETS, secrets.decrypt(newer))
        self.assertRaises(exception.UnreadableSecrets, secrets.decrypt, text)

    def test_rotate(self):
        self.flags(encryption_keys=[self.old])
        text = secrets.encrypt(SECRETS)
        self.assertIsNone(secrets.rotate(text))
        self.flags(encryption_keys=[self.new, self.old])
        newer = secrets.rotate(text)
        self.assertIsNone(secrets.rotate(newer))
        self.flags(encryption_keys=[self.new])
        self.assertEqual(SECRETS, secrets.decrypt(newer))
        self.assertRaises(exception.UnreadableSecrets, secrets.rotate, text)

    def test_changed_text(self):
        self.flags(encryption_keys=[self.new])
        text = secrets.encrypt(SECRETS)
        for bad in (text[:-1], 'A' + text, '', 'x'):
            self.assertRaises(exception.UnreadableSecrets, secrets.decrypt,
                              bad)

    def test_no_key(self):
        self.assertFalse(secrets.available())
        for function, value in ((secrets.encrypt, {}),
                                (secrets.decrypt, 'x')):
            error = self.assertRaises(exception.NoEncryptionKey, function,
                                      value)
            self.assertIn('encryption_keys', str(error))

    def test_malformed_key(self):
        for bad in ('', 'hidden', 'hidden' * 8, self.old[:-4], 'ключ' * 11):
            self.flags(encryption_keys=[self.new, bad])
            error = self.assertRaises(exception.InvalidEncryptionKey,
                                      secrets.encrypt, {})
            self.assertIn('number 2 of [gpu_lease] encryption_keys',
                          str(error))
            self.assertIn('keys generate', str(error))
            self.assertTrue(not bad or bad not in str(error))

    def test_key_with_spaces_around(self):
        self.flags(encryption_keys=[' %s\n' % self.new])
        self.assertEqual({}, secrets.decrypt(secrets.encrypt({})))
