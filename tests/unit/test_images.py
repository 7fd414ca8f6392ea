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


"""What etc/images holds is what diskimage-builder and Packer take.

Nothing is built here: that needs mirrors. The job's unit runs on a real
kernel in ``tests/host``.
"""

import configparser
import json
import os
import pathlib
import re
import subprocess
import sys

import diskimage_builder
from diskimage_builder import element_dependencies
import fixtures
import yaml

from tests import base

IMAGES = pathlib.Path(__file__).parents[2] / 'etc' / 'images'
ELEMENTS = IMAGES / 'elements'
PACKER = IMAGES / 'packer'
BUILDER = pathlib.Path(diskimage_builder.__file__).parent / 'elements'
JOB = ELEMENTS / 'gpu-lease-job'


def _run(*command, **variables):
    """Run a command with our Python's scripts; return what it leaves."""
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, 'PATH': scripts + ':' + os.environ['PATH'],
                   **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(
        [str(word) for word in command], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        cwd=IMAGES)


def _scripts():
    """All shell scripts of the images."""
    return sorted(path for path in IMAGES.rglob('*') if path.is_file() and
                  path.read_text().startswith(('#!/bin/', '#!/usr/bin/env b')))


class BuilderTest(base.TestCase):

    def setUp(self):
        super().setUp()
        (self.image,) = yaml.safe_load(
            (IMAGES / 'images.yaml').read_text())

    def test_dry_run(self):
        done = _run('diskimage-builder', '--dry-run', 'images.yaml',
                    ELEMENTS_PATH=ELEMENTS)
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertIn(' '.join(self.image['elements']), done.stdout)
        self.assertIn('-o ubuntu-noble-cuda -a amd64 -t qcow2', done.stdout)

    def test_elements_and_what_they_need_exist(self):
        names = {name for name, _ in element_dependencies.get_elements(
            self.image['elements'], '%s:%s' % (ELEMENTS, BUILDER))}
        ours = {path.name for path in ELEMENTS.iterdir()}
        self.assertLessEqual(ours, names)
        self.assertLessEqual({'disable-nouveau', 'source-repositories',
                              'growroot', 'dib-init-system'}, names)

    def test_an_element_that_is_missing_is_noticed(self):
        self.assertRaises(
            element_dependencies.MissingElementException,
            element_dependencies.get_elements,
            [*self.image['elements'], 'nvidia-cuba'],
            '%s:%s' % (ELEMENTS, BUILDER))

    def test_variables_are_documented_and_used(self):
        element = ELEMENTS / 'nvidia-cuda'
        documented = set(re.findall(
            '^(DIB_NVIDIA_[A-Z0-9_]+)$', (element / 'README.rst').read_text(),
            re.MULTILINE))
        exported = set(re.findall('^export (DIB_NVIDIA_[A-Z0-9_]+)', (
            element / 'environment.d' / '09-nvidia-cuda.bash').read_text(),
            re.MULTILINE))
        used = set()
        for path in element.glob('*install.d/*'):
            used |= set(re.findall('DIB_NVIDIA_[A-Z0-9_]+', path.read_text()))
        self.assertEqual(documented, exported)
        self.assertLessEqual(used, exported)
        self.assertLessEqual(exported - used, {'DIB_NVIDIA_CUDA_PACKAGES'})
        asked = {name for name in self.image['environment']
                 if name.startswith('DIB_NVIDIA')}
        self.assertLessEqual(asked, exported)

    def test_dib_lint(self):
        done = _run('dib-lint', ELEMENTS_DIR=ELEMENTS, LIB_DIR=PACKER)
        self.assertEqual(0, done.returncode, done.stdout)

    def test_shellcheck(self):
        scripts = _scripts()
        self.assertGreaterEqual(len(scripts), 5)
        done = _run('shellcheck', *scripts)
        self.assertEqual(0, done.returncode, done.stdout)


class CUDAScriptsTest(base.TestCase):
    """The element's scripts in a directory that stands for the image."""

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name in ('bin', 'etc/apt/preferences.d', 'etc/ld.so.conf.d',
                     'lib/modules/6.8.0-1-generic/kernel/nvidia-570srv',
                     'tmp'):
            (self.root / name).mkdir(parents=True)
        self.module = next((self.root / 'lib/modules').rglob(
            'nvidia-570srv')) / 'nvidia.ko.zst'
        self.module.touch()
        (self.root / 'tmp' / 'cuda-keyring.deb').touch()
        for name in ('dpkg', 'apt-get', 'install-packages'):
            self.stub(name)
        self.stub('ldconfig', 'echo libcudart.so.12')

    def stub(self, name, more=''):
        """A program that notes how it was called."""
        path = self.root / 'bin' / name
        path.write_text('#!/bin/sh\necho "%s $*" >>%s/calls\n%s\n' % (
            name, self.root, more))
        path.chmod(0o755)

    def run_script(self, name, **variables):
        element = ELEMENTS / 'nvidia-cuda'
        text = '. %s\n%s' % (
            element / 'environment.d' / '09-nvidia-cuda.bash',
            re.sub(r'(?<=[\s=>"])/(?=(etc|lib|tmp)/)', '%s/' % self.root,
                   (element / name).read_text()))
        return _run('bash', '-c', text, DISTRO_NAME='ubuntu', PATH='%s:%s' % (
            self.root / 'bin', os.environ['PATH']), **variables)

    def calls(self):
        path = self.root / 'calls'
        return path.read_text().splitlines() if path.exists() else []

    def test_driver_and_libraries(self):
        done = self.run_script('install.d/60-nvidia-cuda')
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertIn(
            'install-packages linux-modules-nvidia-570-server-generic '
            'nvidia-headless-no-dkms-570-server nvidia-utils-570-server '
            'cuda-cudart-12-8 cuda-libraries-12-8', self.calls())
        self.assertEqual(
            '/usr/local/cuda-12.8/lib64\n',
            (self.root / 'etc/ld.so.conf.d/gpu-lease-cuda.conf').read_text())

    def test_other_branch_and_kernel(self):
        self.run_script(
            'install.d/60-nvidia-cuda', DIB_NVIDIA_DRIVER='580-server',
            DIB_UBUNTU_KERNEL='linux-image-generic-hwe-24.04',
            DIB_NVIDIA_FABRICMANAGER='1', DIB_NVIDIA_CUDA='13-0')
        self.assertIn(
            'install-packages '
            'linux-modules-nvidia-580-server-generic-hwe-24.04 '
            'nvidia-headless-no-dkms-580-server nvidia-utils-580-server '
            'nvidia-fabricmanager-580 cuda-cudart-13-0 cuda-libraries-13-0',
            self.calls())

    def test_kernel_without_driver_fails_the_build(self):
        self.module.unlink()
        done = self.run_script('install.d/60-nvidia-cuda')
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertIn('6.8.0-1-generic has no module nvidia', done.stdout)

    def test_missing_libraries_fail_the_build(self):
        self.stub('ldconfig')
        done = self.run_script('install.d/60-nvidia-cuda')
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertIn('no libcudart', done.stdout)

    def test_repository(self):
        done = self.run_script('pre-install.d/50-nvidia-repository')
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertEqual(
            ['dpkg --install %s/tmp/cuda-keyring.deb' % self.root,
             'apt-get update'], self.calls())
        self.assertIn('Pin-Priority: -1', (
            self.root / 'etc/apt/preferences.d/gpu-lease-driver').read_text())

    def test_wrong_checksum_of_the_keyring(self):
        done = self.run_script('pre-install.d/50-nvidia-repository',
                               DIB_NVIDIA_KEYRING_SHA256='0' * 64)
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertEqual([], self.calls())


class JobTest(base.TestCase):
    """What the unit runs when the job has ended."""

    def setUp(self):
        super().setUp()
        self.dir = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def end(self, state='running', **variables):
        """Run the script; return what it prints and what it asks for."""
        stub = self.dir / 'systemctl'
        stub.write_text('#!/bin/sh\n[ "$1" = is-system-running ] && '
                        '{ echo %s; exit 0; }\necho "$*" >>%s/asked\n' % (
                            state, self.dir))
        stub.chmod(0o755)
        done = _run(
            JOB / 'static/usr/local/sbin/gpu-lease-job-ended',
            PATH='%s:%s' % (self.dir, os.environ['PATH']),
            GPU_LEASE_RESULTS=self.dir / 'results',
            GPU_LEASE_KEEP=self.dir / 'keep', **variables)
        self.assertEqual(0, done.returncode, done.stdout)
        asked = self.dir / 'asked'
        return done.stdout, asked.read_text() if asked.exists() else ''

    def result(self):
        path = self.dir / 'results' / 'job.result'
        return path.read_text() if path.exists() else None

    def test_ended(self):
        said, asked = self.end(EXIT_CODE='exited', EXIT_STATUS='3')
        self.assertIn('(exited 3); powering off', said)
        self.assertEqual('--no-block poweroff\n', asked)
        self.assertEqual('exited 3\n', self.result())

    def test_shutdown_from_outside(self):
        # A lease that is over: the job runs again after the unshelving.
        said, asked = self.end(state='stopping', EXIT_CODE='killed',
                               EXIT_STATUS='TERM')
        self.assertIn('it will start again', said)
        self.assertEqual('', asked)
        self.assertIsNone(self.result())

    def test_keep_running(self):
        (self.dir / 'keep').touch()
        said, asked = self.end(EXIT_CODE='exited', EXIT_STATUS='0')
        self.assertIn('the server stays up', said)
        self.assertEqual('', asked)
        self.assertEqual('exited 0\n', self.result())

    def test_unit_names_what_the_element_installs(self):
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str
        unit.read(JOB / 'init-scripts/systemd/gpu-lease-job.service')
        program = JOB / 'static' / unit['Service']['ExecStopPost'].lstrip('/')
        self.assertTrue(os.access(program, os.X_OK))
        self.assertEqual('/etc/gpu-lease/job', unit['Service']['ExecStart'])
        self.assertIn('/var/lib/gpu-lease/job.result',
                      unit['Unit']['ConditionPathExists'])
        self.assertIn('systemctl enable gpu-lease-job.service', (
            JOB / 'post-install.d/80-gpu-lease-job').read_text())


class PackerTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.text = (PACKER / 'gpu-lease-cuda.pkr.json').read_text()
        self.template = json.loads(self.text)

    def test_variables(self):
        used = set(re.findall(r'\$\{var\.(\w+)\}', self.text))
        self.assertEqual(set(self.template['variable']), used)
        for variable in self.template['variable'].values():
            self.assertLessEqual({'type', 'description'}, set(variable))

    def test_sources_and_plugins(self):
        for name in self.template['build']['sources']:
            kind, plugin, source = name.split('.')
            self.assertIn(source, self.template[kind][plugin])
            self.assertIn(plugin,
                          self.template['packer']['required_plugins'])

    def test_files(self):
        for provisioner in self.template['build']['provisioner']:
            ((kind, fields),) = provisioner.items()
            path = fields['source' if kind == 'file' else 'script']
            self.assertTrue(
                os.path.exists(path.replace('${path.root}', str(PACKER))),
                path)

    def test_same_versions_as_diskimage_builder(self):
        (image,) = yaml.safe_load((IMAGES / 'images.yaml').read_text())
        variables = self.template['variable']
        self.assertEqual(image['environment']['DIB_NVIDIA_DRIVER'],
                         variables['driver']['default'])
        self.assertEqual(image['environment']['DIB_NVIDIA_CUDA'],
                         variables['cuda']['default'])

    def test_provisioning_uses_what_exists(self):
        script = (PACKER / 'provision.sh').read_text()
        paths = re.findall(r'\$elements/([\w./-]+\w)', script)
        self.assertGreaterEqual(len(paths), 6)
        for path in paths:
            self.assertTrue((ELEMENTS / path).exists(), path)
