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


"""The report: its structure, its pictures, and that it is safe to look at."""

from html import parser
import pathlib
import re

import fixtures
from matplotlib import image
import numpy

from perf.gpu import case
from perf.gpu import comparison
from perf.gpu import groups
from perf.gpu import report
from tests.unit.perf_gpu import helpers

FACTORS = {'copy': 1.3, 'training': 1.03}


def results():
    """A host and a guest with every test of the full sizes."""
    sides = []
    for label in ('host', 'guest'):
        tests = {}
        for number, (name, found) in enumerate(
                groups.cases(case.FULL).items()):
            factor = FACTORS.get(found.group, 1) if label == 'guest' else 1
            if found.better == 'higher':
                factor = 1 / factor
            tests[name] = (found.unit, found.better, [
                (number + 1) * factor * noise
                for noise in (1, 1.002, 0.998, 1.001)])
        sides.append(helpers.result(tests, label))
    return sides


class Page(parser.HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.titles = []
        self.pictures = []
        self.rows = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.rows += tag == 'tr'
        if tag == 'img':
            self.pictures.append(dict(attrs)['src'])

    def handle_data(self, data):
        if self.tags and self.tags[-1] == 'h2' and data.strip():
            self.titles.append(data)


class ReportTest(helpers.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path) / 'report'

    def _write(self, host, guest):
        found = comparison.compare(host, guest)
        report.write(found, self.folder)
        return found, (self.folder / 'report.md').read_text()

    def test_report_is_whole(self):
        host, guest = results()
        host['tests'].pop('peer/copy/64MiB')
        host['skipped']['peer/copy/64MiB'] = 'needs 2 GPUs'
        guest['tests'].pop('cpu/pipe')
        guest['failed']['cpu/pipe'] = 'OSError: pipes are short'
        for one in guest['tests']['training/resnet20/fp32/128']['rounds']:
            one['gpu_busy_percent'] = 48.4
        found, text = self._write(host, guest)

        page = Page((self.folder / 'report.html').read_text())
        titles = ['Summary', 'Before you believe it', 'How to read it',
                  'Copies: bandwidth', 'Copies: latency', 'Kinds of memory',
                  'Matrix products', 'Kernel launches', 'Training',
                  'Several GPUs', 'Processor and kernel', 'Reference',
                  'Machines', 'Methods', 'Not compared']
        self.assertEqual(titles, page.titles)
        self.assertEqual(titles, re.findall('^## (.+)$', text, re.M))
        self.assertGreater(page.rows, len(found.rows))
        self._check_pictures(page)
        self._check_rows(found, text)
        self.assertIn('skipped: needs 2 GPUs', text)
        self.assertIn('failed: OSError: pipes are short', text)
        self.assertIn('48 %', text)

    def _check_pictures(self, page):
        files = {path.name for path in (self.folder / 'plots').iterdir()}
        self.assertEqual(
            {'plots/' + name for name in files}, set(page.pictures))
        self.assertLessEqual(
            {'overhead-%s.png' % group for group in (
                'copy', 'latency', 'memory', 'matmul', 'launch', 'training',
                'cpu')} | {'sizes-copy.png', 'sizes-matmul.png',
                           'sizes-memory.png'}, files)
        for name in files:
            pixels = image.imread(self.folder / 'plots' / name)
            # Lines and letters in more than one colour on white.
            dark = (pixels[:, :, :3].min(axis=2) < 0.6).mean()
            self.assertGreater(dark, 0.005, name)
            colours = numpy.unique((pixels[:, :, :3] * 8).astype(int).reshape(
                -1, 3) @ (1, 10, 100))
            self.assertGreater(len(colours), 10, name)

    def _check_rows(self, found, text):
        rows = {}
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.split('|')]
            if len(cells) > 8:
                rows[cells[1].replace('\\', '')] = cells[2:-1]
        for row in found.rows:
            cells = rows[row.name]
            self.assertEqual(row.unit, cells[0].replace('\\', ''))
            self.assertEqual(report.percent(row.ratio.value), cells[3])
            self.assertEqual(
                '%s to %s' % (report.percent(row.ratio.joint_low),
                              report.percent(row.ratio.joint_high)),
                cells[4])
            self.assertEqual(row.verdict, cells[5].strip('*'))
        cells = rows['copy/d2h/pinned/async/128MiB']
        self.assertEqual('+30.0 %', cells[3])
        self.assertEqual('**over**', cells[5])
        self.assertEqual(['host 9720, guest 6391 MB/s', '+52.1 %'], cells[7:])
        self.assertEqual('+3.0 %', rows['training/resnet20/fp32/128'][3])
        self.assertEqual('within', rows['training/resnet20/fp32/128'][5])

    def test_texts_from_files_are_only_texts(self):
        host, guest = (helpers.result({
            'copy/a': ('MB/s', 'higher', [1, 1, 1])}) for _ in range(2))
        evil = '<script>alert(1)</script>|[x](http://evil)`\n# z'
        for result in (host, guest):
            result['label'] = evil
            result['machine'][evil] = evil
            result['tests'][evil] = result['tests'].pop('copy/a')
            result['skipped'][evil + '2'] = evil
        self._write(host, guest)
        html = (self.folder / 'report.html').read_text()
        self.assertNotIn('<script', html)
        self.assertNotIn('href', html)
        self.assertIn('&lt;script&gt;', html)
        page = Page(html)
        self.assertEqual(1, page.tags.count('h1'))
        self.assertNotIn('z', page.titles)

    def test_html_in_markdown_is_shown(self):
        page = report.page('# <b>a</b>\n\n<i>x</i>\n\n<script>\n')
        for tag in ('<b>', '<i>', '<script'):
            self.assertNotIn(tag, page)
        self.assertIn('&lt;i&gt;x', page)

    def test_few_rounds_make_a_report_without_intervals(self):
        host, guest = (helpers.result(
            {'copy/a': ('MB/s', 'higher', values)}) for values in (
                [100, 101], [50, 51]))
        _, text = self._write(host, guest)
        self.assertIn('+99.0 %', text)
        self.assertIn('too few rounds', text)
        self.assertEqual([], list((self.folder / 'plots').iterdir()))

    def test_summary_names_what_is_over(self):
        found = comparison.compare(*(helpers.result(
            {'copy/a': ('ms', 'lower', [1 * factor] * 4),
             'copy/b': ('ms', 'lower', [1] * 4)}) for factor in (1, 1.5)))
        lines = report.summary(found).splitlines()
        self.assertEqual(
            '2 tests compared, limit 10 %: 1 over, 1 within.', lines[0])
        self.assertTrue(lines[1].startswith('over: copy/a +50.0 % (+4'))
        self.assertEqual(2, len(lines))
