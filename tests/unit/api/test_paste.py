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


import configparser
from importlib import metadata
import os

from paste import deploy

from nova_gpu_lease.api import paste
from nova_gpu_lease.api import wsgi
from nova_gpu_lease import exception
from tests import base

_V21 = 'openstack_compute_api_v21'
_PIPELINES = {'composite:%s' % _V21,
              'composite:%s_legacy_v2_compatible' % _V21}


def installed_ini():
    """The text of the api-paste.ini that Nova installed."""
    path, = [path for path in metadata.files('nova')
             if path.name == 'api-paste.ini']
    return path.locate().read_text()


class InsertFilterTestCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.stock = installed_ini()
        self.edited = paste.insert_filter(self.stock)

    def _pipelines(self, text):
        return paste._pipelines(paste._parse(text))

    def test_insert_in_both_pipelines(self):
        pipelines = self._pipelines(self.edited)
        self.assertEqual(_PIPELINES, set(pipelines))
        for words in pipelines.values():
            self.assertEqual(['gpu_lease', 'osapi_compute_app_v21'],
                             words[-2:])

    def test_insert_changes_nothing_else(self):
        lines = self.edited.splitlines()
        for line in paste.SECTION.splitlines():
            lines.remove(line)
        self.assertEqual(
            self.stock.replace('\n\n', '\n'),
            '\n'.join(lines).replace(' gpu_lease ', ' ').replace(
                '\n\n\n', '\n').replace('\n\n', '\n') + '\n')

    def test_insert_twice(self):
        self.assertEqual(self.edited, paste.insert_filter(self.edited))

    def test_insert_what_is_missing(self):
        for old, new in (
                (paste.SECTION, ''),
                ('keystonecontext gpu_lease', 'keystonecontext'),
                ('legacy_v2_compatible gpu_lease', 'legacy_v2_compatible')):
            broken = self.edited.replace(old, new)
            self.assertNotEqual(self.edited, broken)
            self.assertEqual([], paste.problems(paste.insert_filter(broken)))

    def test_insert_behind_operators_filters(self):
        text = self.stock.replace(
            'keystonecontext osapi', 'keystonecontext audit\n  limits osapi')
        words = self._pipelines(paste.insert_filter(text))[
            'composite:' + _V21]
        self.assertEqual(['keystonecontext', 'audit', 'limits', 'gpu_lease',
                          'osapi_compute_app_v21'], words[-5:])

    def test_insert_other_name(self):
        text = self.stock + '\n[filter:lease]\npaste.filter_factory = %s\n' \
            % paste.FACTORY
        edited = paste.insert_filter(text)
        self.assertNotIn('gpu_lease ', edited)
        self.assertIn(' lease osapi_compute_app_v21', edited)

    def test_insert_not_novas_file(self):
        for text in ('', '[app:x]\na = b\n',
                     self.stock.replace('keystonecontext', 'noauth')):
            self.assertRaises(exception.InvalidPasteFile,
                              paste.insert_filter, text)

    def test_insert_misplaced(self):
        text = self.edited.replace('keystonecontext gpu_lease',
                                   'gpu_lease keystonecontext')
        self.assertRaises(exception.InvalidPasteFile, paste.insert_filter,
                          text)

    def test_fragment(self):
        root = os.path.dirname(os.path.dirname(wsgi.__file__))
        with open(os.path.join(
                os.path.dirname(root), 'etc', 'api-paste-fragment.ini')) as f:
            fragment = configparser.RawConfigParser()
            fragment.read_string(f.read())
        edited = paste._parse(self.edited)
        self.assertEqual(3, len(fragment.sections()))
        for section in fragment.sections():
            self.assertEqual(dict(edited.items(section)),
                             dict(fragment.items(section)))

    def test_paste_loads_filter(self):
        path = os.path.join(self.create_tempfiles(
            [('api-paste', self.edited)], '.ini')[0])
        self.assertIs(wsgi.GPULeaseMiddleware,
                      deploy.loadfilter('config:' + path, name='gpu_lease'))


class ProblemsTestCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.good = paste.insert_filter(installed_ini())

    def _problems(self, old, new, count):
        found = paste.problems(self.good.replace(old, new))
        self.assertEqual(count, len(found), found)
        return found[0]

    def test_good(self):
        self.assertEqual([], paste.problems(self.good))

    def test_stock(self):
        self.assertEqual(3, len(paste.problems(installed_ini())))

    def test_no_section(self):
        self.assertIn('[filter:gpu_lease]',
                      self._problems(paste.SECTION, '', 1))

    def test_not_in_pipeline(self):
        self.assertIn('[composite:%s]' % _V21, self._problems(
            'keystonecontext gpu_lease', 'keystonecontext', 1))
        self.assertIn('legacy_v2_compatible]', self._problems(
            'legacy_v2_compatible gpu_lease', 'legacy_v2_compatible', 1))

    def test_before_context(self):
        self.assertIn("before 'keystonecontext'", self._problems(
            'keystonecontext gpu_lease', 'gpu_lease keystonecontext', 1))

    def test_no_pipeline(self):
        self._problems('APIRouterV21', 'Other', 1)

    def test_unreadable(self):
        self.assertIn('cannot be read', paste.problems('x')[0])
