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


"""Guests: emulated machines with Debian's kernel, and a line into them.

A guest has a virtio disk with the sysroot's tree, a serial console whose
output is kept as its log, and an agent that runs commands. There is no KVM:
QEMU interprets every instruction, and a guest is up after 20 to 60 s.
"""

import base64
import ctypes
import io
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import typing

BOOT_TIMEOUT = 600  # seconds; a busy machine takes that long
COMMAND_TIMEOUT = 600  # seconds
_PR_SET_PDEATHSIG = 1
# CPUs without AVX: what QEMU 7.2 emulates of it is slow and not always right.
_CPUS = {'intel': 'Nehalem', 'amd': 'Opteron_G3', 'none': 'Nehalem'}
# What a boot loader adds to the command line by itself; for guests that get
# little of the processor, whose timer seems broken then; and QEMU ends when
# the kernel panics.
_ARGUMENTS = 'root=/dev/vda ro no_timer_check panic=-1 '
# They come before all other devices.
_IOMMUS = {'intel': ['-device', 'intel-iommu,intremap=on'],
           'amd': ['-device', 'amd-iommu,intremap=on'], 'none': []}


class GuestError(Exception):
    """A guest did not do what was asked for; its log says more."""


class Result(typing.NamedTuple):
    """What a command in a guest left."""

    status: int
    output: str
    errors: str


def _end_with_parent():
    # Even if the tests are killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Guest:
    """One emulated machine, running from ``start`` to ``stop``.

    :param sysroot: Sysroot that gives kernel, disk and QEMU
    :param devices: lists of further arguments of QEMU
    :param iommu: ``intel``, ``amd`` or ``none``
    :param cmdline: the kernel's command line, but for the root
    :param initrd: path of an initramfs; the sysroot's by default
    :param disk: path of a disk that is written to; without one, a copy of
        the sysroot's that is forgotten
    :param memory: MiB
    """

    def __init__(self, sysroot, devices=(), iommu='intel',
                 cmdline='quiet console=ttyS0',
                 initrd=None, disk=None, memory=768):
        self.sysroot = sysroot
        self.devices = devices
        self.iommu = iommu
        self.cmdline = cmdline
        self.initrd = initrd or sysroot.initrd
        self.disk = disk
        self.memory = memory
        self.transcript = []
        self._process = self._line = self._stream = None
        self._folder = self._kept_log = None

    def _arguments(self, line):
        arguments = [
            '-nodefaults', '-no-user-config', '-display', 'none',
            '-no-reboot', '-accel', 'tcg',
            '-machine', 'q35,kernel-irqchip=off',
            '-cpu', _CPUS[self.iommu], '-m', str(self.memory),
            *_IOMMUS[self.iommu],
            '-kernel', self.sysroot.kernel, '-initrd', self.initrd,
            '-append', _ARGUMENTS + self.cmdline,
            '-drive', 'id=root,if=none,format=raw,file=%s,snapshot=%s' % (
                (self.disk, 'off') if self.disk
                else (self.sysroot.disk, 'on')),
            '-device', 'virtio-blk-pci,drive=root,addr=2',
            '-serial', 'file:%s' % self._console,
            '-chardev', 'socket,id=agent,fd=%d' % line,
            '-device', 'virtio-serial-pci,addr=3',
            '-device', 'virtserialport,chardev=agent,name=agent']
        return [str(argument) for argument in arguments] + list(self.devices)

    def start(self):
        """Start the machine and wait until it can be talked to.

        :raises: GuestError
        """
        self._folder = tempfile.mkdtemp(prefix='gpu-host-')
        self._console = pathlib.Path(self._folder, 'console')
        self._said = pathlib.Path(self._folder, 'qemu')
        try:
            self._execute()
            self._answer(BOOT_TIMEOUT)
        except BaseException:
            self.stop()
            raise

    def _execute(self):
        self._line, theirs = socket.socketpair()
        words, environment = self.sysroot.qemu()
        with theirs, open(self._said, 'wb') as said:
            words += self._arguments(theirs.fileno())
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()],
                env={**environment, 'TMPDIR': self._folder},
                preexec_fn=_end_with_parent)
        self._stream = self._line.makefile('rb')

    def _answer(self, timeout):
        """Read one answer of the agent.

        :raises: GuestError if none comes within that many seconds
        """
        self._line.settimeout(timeout)
        try:
            answer = self._stream.readline()
        except TimeoutError:
            raise GuestError(
                'the guest does not answer for %d s' % timeout) from None
        if not answer:
            raise GuestError('the guest has ended')
        return json.loads(answer)

    def run(self, command, check=True, given='', timeout=COMMAND_TIMEOUT):
        """Run a command as root in the guest.

        :param command: shell text
        :param check: whether another exit status than 0 is an error
        :param given: text for its standard input
        :returns: Result
        :raises: GuestError
        """
        result = self._ask({'command': command, 'input': given}, command,
                           timeout)
        if check and result.status:
            raise GuestError('%s: exit status %d\n%s%s' % (
                command, result.status, result.output, result.errors))
        return result

    def tool(self, words):
        """Run gpu-host-prep, without the time that Python needs to start.

        :param words: its arguments, as text
        :returns: Result
        """
        return self._ask({'tool': words}, 'gpu-host-prep ' + words,
                         COMMAND_TIMEOUT)

    def _ask(self, request, text, timeout):
        began = time.monotonic()
        self._line.settimeout(timeout)
        self._line.sendall(json.dumps(request).encode() + b'\n')
        result = Result(**self._answer(timeout))
        self.transcript.append('# %s   (status %d, %.1f s)\n%s%s' % (
            text, result.status, time.monotonic() - began, result.output,
            result.errors))
        return result

    def put(self, directory, target):
        """Copy a directory into the guest."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode='w:gz') as archive:
            archive.add(directory, arcname='.', filter=lambda entry: (
                None if '__pycache__' in entry.name else entry))
        self.run('mkdir -p {0} && base64 -d | tar -xz -C {0}'.format(target),
                 given=base64.b64encode(packed.getvalue()).decode())

    def get(self, directory, target):
        """Copy a directory of the guest to here."""
        packed = base64.b64decode(self.run(
            'tar -cz -C %s . | base64 -w 0' % directory).output)
        self.transcript[-1] = '# (%s was copied out)\n' % directory
        target.mkdir()
        subprocess.run(['tar', '-xz', '-C', target], input=packed, check=True)

    def power_off(self):
        """Write all to the disk and wait for the machine to be off."""
        self.run('sync; mount -o remount,ro / 2>/dev/null; sync')
        self._line.sendall(json.dumps(
            {'command': 'poweroff -f', 'input': ''}).encode() + b'\n')
        self.wait_until_off()

    def wait_until_off(self):
        """Wait for the machine to power itself off.

        :raises: GuestError if it does not
        """
        try:
            self._process.wait(COMMAND_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise GuestError('the guest does not power off') from None

    @property
    def log(self):
        """The console's output and what was run, as text."""
        if self._kept_log is not None:
            return self._kept_log
        said = {path.name: path.read_text(errors='replace')
                for path in (self._said, self._console) if path.exists()}
        return '\n'.join([
            *('%s:\n%s' % pair for pair in said.items()), 'commands:',
            *self.transcript])

    def stop(self):
        """End the machine, however it is; its log is kept."""
        if self._folder is None:
            return
        self._kept_log = self.log
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._line is not None:
            self._stream.close()
            self._line.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
