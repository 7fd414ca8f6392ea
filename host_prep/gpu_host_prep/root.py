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

"""The only place that touches files, sysfs, procfs and other programs.

Every name is absolute, as on the host, and is looked up below a root: tests
give a directory with a made-up machine, an installer a mounted system. What
the names mean is known elsewhere.
"""

import contextlib
import errno
import fcntl
import os
import stat
import subprocess

from gpu_host_prep import exceptions

# What the running kernel provides; the rest belongs to the installed system.
_KERNEL = ('/sys', '/proc', '/dev', '/run')
# Ends the name of a file that is being written. No program that reads
# configuration directories looks at hidden files with this ending.
TEMPORARY = '.gpu-host-prep-new'


class Root:
    """A host, by its files.

    :param path: where the host's ``/`` is
    :param kernel: where ``/sys``, ``/proc``, ``/dev`` and ``/run`` are looked
        up; default: in the same place
    """

    def __init__(self, path='/', kernel=None):
        self.base = os.path.abspath(path)
        self.kernel_base = os.path.abspath(kernel) if kernel else self.base

    def path(self, name):
        """The real path of a name of the host."""
        top = '/' + name.lstrip('/').partition('/')[0]
        base = self.kernel_base if top in _KERNEL else self.base
        return os.path.join(base, name.lstrip('/'))

    # Reading: what is not there, or may not be read, is None or empty.

    def attribute(self, name):
        """The text of a sysfs or procfs file without its line end, or None."""
        data = self.data(name)
        return None if data is None else data.decode('utf-8',
                                                     'replace').strip()

    def data(self, name):
        """The bytes of a sysfs or procfs file, or None."""
        try:
            with open(self.path(name), 'rb') as stream:
                return stream.read()
        except OSError:
            return None

    def names(self, name):
        """The sorted names in a directory; empty if it is not there."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def link(self, name):
        """What a symbolic link says, or None."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return None

    def link_name(self, name):
        """The last part of what a symbolic link says, or None."""
        target = self.link(name)
        return None if target is None else os.path.basename(target)

    def resolve(self, name):
        """The path of a name after all links, relative to the root."""
        real = os.path.realpath(self.path(name))
        base = os.path.realpath(self.path('/sys'))
        return '/sys/' + os.path.relpath(real, base)

    def exists(self, name):
        return os.path.exists(self.path(name))

    def modified(self, name):
        """When a file was last changed (seconds since the epoch), or None."""
        try:
            return os.stat(self.path(name)).st_mtime
        except OSError:
            return None

    # Files of the installed system.

    def file(self, name):
        """The content of a file and its permission bits.

        :returns: (bytes, mode), or (None, None) if there is no such file
        :raises: HostPrepError if it cannot be read
        """
        try:
            with open(self.path(name), 'rb') as stream:
                return stream.read(), stat.S_IMODE(
                    os.fstat(stream.fileno()).st_mode)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise exceptions.HostPrepError(
                f'{name} cannot be read: {error.strerror}.') from error

    def text(self, name):
        """The text of a file, or None if there is none."""
        content, _mode = self.file(name)
        return None if content is None else content.decode('utf-8', 'replace')

    def replace(self, name, content, mode=0o644):
        """Write a file so that a crash leaves the old or the new one whole.

        The new content is on the disk before it gets the name, and the name
        is on the disk before this returns. Links are followed, so that a
        file that is managed elsewhere stays where it is.
        """
        path = os.path.realpath(self.path(name))
        folder, last = os.path.split(path)
        temporary = os.path.join(folder, '.' + last + TEMPORARY)
        descriptor = self._open(temporary, mode)
        try:
            with contextlib.suppress(PermissionError, FileNotFoundError):
                old = os.stat(path)
                os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, mode)
            self._write(descriptor, content)
            self._fsync(descriptor)
        finally:
            os.close(descriptor)
        self._rename(temporary, path)
        self._fsync_folder(folder)

    def remove(self, name):
        """Remove a file for good; one that is not there is fine."""
        path = self.path(name)
        with contextlib.suppress(FileNotFoundError):
            self._unlink(path)
            self._fsync_folder(os.path.dirname(path))

    def make_folders(self, name):
        """Make a directory and those above it.

        :returns: names of those that were not there, outermost first
        """
        made = []
        while not self.exists(name):
            made.insert(0, name)
            name = os.path.dirname(name)
        for each in made:
            self._mkdir(self.path(each))
            self._fsync_folder(os.path.dirname(self.path(each)))
        return made

    def remove_folder(self, name):
        """Remove a directory if it is there and empty."""
        try:
            os.rmdir(self.path(name))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise

    def _open(self, path, mode):
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC |
                       os.O_CLOEXEC, mode)

    def _write(self, descriptor, content):
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view):]

    def _fsync(self, descriptor):
        os.fsync(descriptor)

    def _rename(self, source, target):
        os.rename(source, target)

    def _unlink(self, path):
        os.unlink(path)

    def _mkdir(self, path):
        os.mkdir(path, 0o755)

    def _fsync_folder(self, folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._fsync(descriptor)
        finally:
            os.close(descriptor)

    # Doing.

    def tell(self, name, text):
        """Write to an attribute of sysfs.

        :raises: HostPrepError with the name and what was written
        """
        try:
            descriptor = os.open(self.path(name), os.O_WRONLY)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise exceptions.HostPrepError(
                f'writing {text.strip()!r} to {name} failed: '
                f'{error.strerror}.') from error

    def has_program(self, program):
        """Whether the host has a program of this name."""
        return any(self.exists(f'{folder}/{program}') for folder in
                   ('/usr/sbin', '/usr/bin', '/sbin', '/bin'))

    def run(self, *command):
        """Run a program on the host, in a chroot if the root is another one.

        :raises: HostPrepError if it fails, with the end of its output
        """
        whole = command if self.base == '/' else ('chroot', self.base,
                                                  *command)
        try:
            done = subprocess.run(whole, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, errors='replace',
                                  stderr=subprocess.STDOUT)
        except OSError as error:
            raise exceptions.HostPrepError(
                f'{" ".join(command)} cannot be run: {error}.') from error
        if done.returncode:
            tail = '\n'.join(done.stdout.splitlines()[-15:])
            raise exceptions.HostPrepError(
                f'{" ".join(command)} ended with status {done.returncode}:\n'
                f'{tail}')

    @contextlib.contextmanager
    def lock(self, name):
        """Keep other runs of this tool out.

        :raises: HostPrepError if one is at work
        """
        with open(self.path(name), 'w') as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise exceptions.HostPrepError(
                    'another gpu-host-prep is at work on this host; try '
                    'again when it is done.') from error
            yield
