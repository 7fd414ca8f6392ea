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


"""A small Debian in a directory: what the guests are made of.

Kernel, systemd, initramfs-tools and QEMU itself are Debian's, unpacked into a
directory of the user's cache, where QEMU is also run from.

The first use takes one to two minutes and 150 MB from the mirror.
"""

import fcntl
import functools
import hashlib
import lzma
import os
import pathlib
import shutil
import tempfile

from nova_gpu_lease.devcloud import state
from tests.host import debian

HERE = pathlib.Path(__file__).parent
_LIBRARIES = 'usr/lib/x86_64-linux-gnu'
_DISK_SIZE = '1G'


class Sysroot:
    """The unpacked Debian with its kernel, and what is built from it."""

    def __init__(self, directory):
        self.dir = directory
        self.tree = directory / 'tree'
        self.disk = directory / 'root.img'
        self.initrd = directory / 'initrd'

    @functools.cached_property
    def release(self):
        """The kernel's release, e.g. ``6.1.0-44-amd64``."""
        (path,) = (self.tree / 'lib' / 'modules').iterdir()
        return path.name

    @property
    def kernel(self):
        """Path of the kernel's image."""
        return self.tree / 'boot' / ('vmlinuz-' + self.release)

    def _program(self, path):
        """Return the words that run a program of the tree, from here."""
        return [str(self.tree / 'lib64' / 'ld-linux-x86-64.so.2'),
                '--library-path', str(self.tree / _LIBRARIES),
                str(self.tree / path)]

    def qemu(self):
        """Return the words that begin QEMU's command, and its environment."""
        words = self._program('usr/bin/qemu-system-x86_64')
        for path in ('share/qemu', 'share/seabios', 'lib/ipxe/qemu'):
            words += ['-L', str(self.tree / 'usr' / path)]
        return words, {**os.environ, 'QEMU_MODULE_DIR': str(
            self.tree / _LIBRARIES / 'qemu')}

    def copy_disk(self, target):
        """Make a disk that a guest may write to."""
        debian.run(['cp', '--sparse=always', self.disk, target])

    def put(self, disk, source, target):
        """Replace a file on the disk of a guest that is off.

        :raises: RuntimeError if it is not there afterwards
        """
        folder, _, name = target.rpartition('/')
        with tempfile.NamedTemporaryFile('w', encoding='utf-8') as requests:
            requests.write('cd %s\nrm %s\nwrite %s %s\nstat %s\n' % (
                folder, name, source, name, target))
            requests.flush()
            said = debian.run([*self._program('usr/sbin/debugfs'), '-w',
                               '-f', requests.name, disk])
        if 'Size: %d' % source.stat().st_size not in said:
            raise RuntimeError('%s was not written:\n%s' % (target, said))

    def chroot(self, command, *binds):
        """Run a command as root in the tree, with mounts of its own.

        :param command: shell text
        :param binds: pairs of a directory and where it is seen in the tree
        :returns: what it printed
        """
        binds = [('/dev', 'dev'), *binds]
        mounts = ['mount --rbind "$%d" "$1/%s"' % (number, place)
                  for number, (_, place) in enumerate(binds, 2)]
        script = ' && '.join([
            *mounts, 'mount -t tmpfs tmpfs "$1/var/tmp"',
            'mount -t tmpfs tmpfs "$1/run"',
            'exec chroot "$1" /bin/sh -c "$0"'])
        return debian.run(
            [*debian.namespace(), 'sh', '-c', script, command, self.tree,
             *(directory for directory, _ in binds)],
            env={'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL': 'C'})

    def build_initrd(self, target, etc=None):
        """Let Debian's initramfs-tools build an initramfs.

        :param target: path of the file to write
        :param etc: directory used for /etc in place of the tree's
        """
        with tempfile.TemporaryDirectory() as boot:
            # The configuration of the kernel says what can be compressed.
            for path in (self.tree / 'boot').glob('config-*'):
                shutil.copy(path, boot)
            binds = [(boot, 'boot')] + ([(etc, 'etc')] if etc else [])
            output = self.chroot(
                'update-initramfs -c -k ' + self.release, *binds)
            shutil.copy(
                pathlib.Path(boot, 'initrd.img-' + self.release), target)
        return output

    # What follows makes all of it, once.

    def build(self):
        """Fetch, unpack, configure; make an initramfs and a disk."""
        debian.unpack(debian.download(self.dir), self.tree)
        shutil.rmtree(self.dir / 'apt')
        debian.configure(self.tree)
        self.chroot('depmod ' + self.release)
        # Compiled once here, not by each guest.
        self.chroot('python3 -c "import argparse, ast, csv, dataclasses, '
                    'difflib, fcntl, functools, glob, gzip, hashlib, json, '
                    'lzma, subprocess, tempfile, yaml"')
        self._unpack_kernel()
        self.build_initrd(self.initrd)
        shutil.copy(self.initrd, self.tree / 'boot' / (
            'initrd.img-' + self.release))
        # As root in a namespace, so that the files are root's.
        debian.run([
            *debian.namespace(), *self._program('usr/sbin/mke2fs'), '-q',
            '-F', '-t', 'ext4', '-O', '^has_journal', '-d', self.tree,
            self.disk, _DISK_SIZE])

    def _unpack_kernel(self):
        """Keep an uncompressed kernel, too, for guests in guests."""
        kernel = self.kernel.read_bytes()
        start = kernel.find(b'\xfd7zXZ\0')
        if start >= 0:
            kernel = lzma.LZMADecompressor().decompress(kernel[start:])
        (self.tree / 'boot' / 'vmlinux').write_bytes(kernel)


def grub_arguments(etc):
    """Return the kernel's arguments that GRUB's files in an /etc ask for.

    They are read as grub-mkconfig does on Debian: by a shell, the files of
    the directory after the main one.
    """
    return debian.run(['sh', '-c', (
        'cd "$0/default" && . ./grub && for file in grub.d/*.cfg; do '
        '[ ! -e "$file" ] || . "./$file"; done; '
        'echo $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT'),
        etc]).strip()


def _key():
    """Return what a sysroot depends on, as a short text."""
    digest = hashlib.sha256()
    for path in [HERE / 'debian.py', HERE / 'sysroot.py',
                 *sorted((HERE / 'in_guest').iterdir()),
                 pathlib.Path('/etc/os-release')]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _locked(path, how):
    """Open a file and lock it; None if somebody else has it.

    The lock lasts until the file is closed.
    """
    stream = open(path, 'w', encoding='utf-8')
    try:
        fcntl.flock(stream, how)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def _clean(base):
    """Remove what nobody uses: of older versions, or interrupted."""
    for old in base.iterdir():
        if not old.is_dir():
            continue
        lock = _locked('%s.lock' % old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            with lock:
                shutil.rmtree(old)
                os.unlink(lock.name)


@functools.cache
def get():
    """Return the sysroot of this user, built if there is none yet.

    :raises: unittest.SkipTest where that is impossible
    """
    debian.require()
    base = state.cache_dir() / 'host-tests'
    base.mkdir(parents=True, exist_ok=True)
    found = base / _key()
    with _locked(base / 'lock', fcntl.LOCK_EX):
        if not found.exists():
            _clean(base)
            building = base / 'building'
            building.mkdir()
            Sysroot(building).build()
            building.rename(found)
        sysroot = Sysroot(found)
        # For as long as this process lives nobody removes it.
        sysroot.lock = _locked('%s.lock' % found, fcntl.LOCK_SH)
    return sysroot
