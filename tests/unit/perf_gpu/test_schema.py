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


"""What is no result is refused with a sentence."""

import json
import os
import pathlib

import fixtures
from oslotest import base

from perf.gpu import errors
from perf.gpu import schema
from tests.unit.perf_gpu import helpers


class SchemaTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.good = helpers.result({'cpu/pipe': ('us', 'lower', [1, 2, 3])})
        self.folder = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path)

    def _refused(self, text):
        return str(self.assertRaises(errors.PerfError, schema.parse, text,
                                     'x.json'))

    def test_result_is_read_as_it_was_written(self):
        path = self.folder / 'x.json'
        schema.write_text(path, schema.dump(self.good))
        self.assertEqual(self.good, schema.load(path))
        self.assertEqual([path], list(self.folder.iterdir()))
        umask = os.umask(0)
        os.umask(umask)
        self.assertEqual(0o666 & ~umask, path.stat().st_mode & 0o777)

    def test_file_that_is_not_there(self):
        error = self.assertRaises(errors.PerfError, schema.load,
                                  self.folder / 'none.json')
        self.assertIn('cannot be read', str(error))

    def test_file_that_is_no_text(self):
        path = self.folder / 'x.json'
        path.write_bytes(b'\xff\xfe\x00')
        self.assertRaises(errors.PerfError, schema.load, path)

    def test_no_json(self):
        self.assertIn('x.json holds no JSON', self._refused('{"half": '))
        self.assertIn('no JSON', self._refused(''))

    def test_json_of_something_else(self):
        for text in ('[]', '{}', '3', '{"schema": "other"}'):
            self.assertIn('no result of this benchmark', self._refused(text))

    def test_other_version(self):
        self.good['version'] = 2
        self.assertIn('has version 2', self._refused(json.dumps(self.good)))

    def test_damage_is_named(self):
        test = self.good['tests']['cpu/pipe']
        for value, where in (
                (-1, 'value'), (0, 'value'), ('fast', 'value')):
            test['rounds'][1]['value'] = value
            self.assertIn('damaged at tests/cpu/pipe/rounds/1/' + where,
                          self._refused(json.dumps(self.good)))

    def test_numbers_that_json_does_not_have(self):
        test = self.good['tests']['cpu/pipe']
        test['rounds'][0]['value'] = float('nan')
        self.assertIn('NaN', self._refused(json.dumps(self.good)))

    def test_missing_part(self):
        del self.good['tests']
        self.assertIn("'tests' is a required property",
                      self._refused(json.dumps(self.good)))

    def test_place_that_cannot_be_written(self):
        error = self.assertRaises(
            errors.PerfError, schema.write_text,
            self.folder / 'no' / 'x.json', '')
        self.assertIn('cannot be written', str(error))
