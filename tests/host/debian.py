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


"""Debian's packages, fetched and unpacked into a directory.

Nothing is installed on this machine: no script of a package runs, and its apt
and dpkg know nothing of it. What the scripts would have done, as far as it is
needed, is done here.
"""

import concurrent.futures
import os
import pathlib
import platform
import shutil
import subprocess
import unittest

HERE = pathlib.Path(__file__).parent
PACKAGES = (
    'base-files', 'base-passwd', 'bash', 'busybox', 'coreutils', 'cpio',
    'dash', 'diffutils', 'e2fsprogs', 'findutils', 'grep', 'gzip',
    'initramfs-tools', 'kmod', 'libc-bin', 'linux-image-amd64', 'mawk',
    'mount', 'pciutils', 'procps', 'python3-minimal', 'python3-yaml',
    'qemu-system-x86', 'sed', 'systemd-sysv', 'sysvinit-utils', 'tar', 'udev',
    'util-linux', 'zstd')
# What no emulated machine has, and texts nobody reads in there.
_LEFT_OUT = (
    './usr/share/doc/*', './usr/share/man/*', './usr/share/locale/*',
    './usr/share/iso-codes/*', './usr/share/xml/*', './usr/share/i18n/*',
    *('./lib/modules/*/kernel/' + part for part in (
        'drivers/net/*', 'drivers/media/*', 'drivers/staging/*',
        'drivers/infiniband/*', 'drivers/iio/*', 'drivers/isdn/*',
        'drivers/mtd/*', 'drivers/gpu/drm/amd/*', 'drivers/gpu/drm/i915/*',
        'drivers/gpu/drm/radeon/*', 'fs/btrfs/*', 'fs/ceph/*', 'fs/nfs*/*',
        'fs/ocfs2/*', 'fs/smb/*', 'fs/xfs/*', 'net/*', 'sound/soc/*',
        'sound/usb/*', 'sound/isa/*')))
# Units that only cost time in a guest that lives for a minute.
_MASKED = (
    'cryptsetup.target', 'dev-mqueue.mount', 'integritysetup.target',
    'modprobe@configfs.service', 'modprobe@dm_mod.service',
    'modprobe@drm.service', 'modprobe@efi_pstore.service',
    'modprobe@fuse.service', 'modprobe@loop.service',
    'proc-sys-fs-binfmt_misc.automount', 'sys-fs-fuse-connections.mount',
    'sys-kernel-config.mount', 'sys-kernel-tracing.mount',
    'systemd-ask-password-console.path', 'systemd-ask-password-wall.path',
    'systemd-binfmt.service', 'systemd-boot-system-token.service',
    'systemd-firstboot.service', 'systemd-hwdb-update.service',
    'systemd-journal-flush.service', 'systemd-machine-id-commit.service',
    'systemd-network-generator.service', 'systemd-pstore.service',
    'systemd-random-seed.service', 'systemd-repart.service',
    'systemd-sysext.service', 'systemd-sysusers.service',
    'systemd-tmpfiles-setup.service', 'systemd-update-done.service',
    'systemd-update-utmp.service', 'veritysetup.target')


def run(command, **options):
    """Run a command; its output is in the error if it fails."""
    done = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, **options)
    if done.returncode:
        raise RuntimeError('%s: exit status %d\n%s' % (
            ' '.join(map(str, command)), done.returncode,
            done.stdout[-4000:]))
    return done.stdout


def namespace():
    """Return the words that begin a command as root with mounts of its own.

    :raises: unittest.SkipTest if this machine cannot do it
    """
    words = ['unshare', '--mount', '--propagation', 'private']
    if os.geteuid() != 0:
        words.append('--map-root-user')
    try:
        run([*words, 'true'])
    except (OSError, RuntimeError) as exc:
        raise unittest.SkipTest(
            'neither root nor user namespaces here: %s' % exc) from exc
    return words


def require():
    """Skip the tests where they cannot run, and say why."""
    if platform.machine() != 'x86_64':
        raise unittest.SkipTest('the guests are of x86-64 only')
    for name in ('apt-get', 'dpkg-deb', 'unshare', 'chroot', 'tar'):
        if shutil.which(name) is None:
            raise unittest.SkipTest(
                '%s is missing: the guests are made of Debian packages, on '
                'Debian' % name)
    namespace()


def download(directory):
    """Fetch the packages and all they need; return their paths."""
    apt = directory / 'apt'
    for name in ('state/lists/partial', 'cache/archives/partial'):
        (apt / name).mkdir(parents=True)
    # An empty list of what is installed: everything is needed.
    (apt / 'status').touch()
    words = ['apt-get', '-q', '-y', '--no-install-recommends']
    for option in (
            'Dir::State=%s/state' % apt, 'Dir::Cache=%s/cache' % apt,
            'Dir::State::status=%s/status' % apt, 'Debug::NoLocking=1',
            'APT::Sandbox::User=', 'Acquire::Retries=3'):
        words += ['-o', option]
    run([*words, 'update'])
    run([*words, '--download-only', 'install', *PACKAGES])
    return sorted((apt / 'cache' / 'archives').glob('*.deb'))


def unpack(archives, tree):
    """Unpack packages into a directory whose /bin is /usr/bin."""
    for name in ('bin', 'sbin', 'lib', 'lib64'):
        (tree / 'usr' / name).mkdir(parents=True)
        (tree / name).symlink_to('usr/' + name)
    command = ['tar', '-x', '-C', tree, '--keep-directory-symlink',
               '--no-same-owner']
    command += ['--exclude=' + pattern for pattern in _LEFT_OUT]
    shell = 'dpkg-deb --fsys-tarfile "$0" | "$@"'
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda archive: run(
                ['sh', '-c', shell, archive, *command]), archives):
            pass


def configure(tree):
    """Do what the packages' scripts would have done, and ours."""
    etc = tree / 'etc'
    for name in ('passwd', 'group'):
        shutil.copy(tree / 'usr' / 'share' / 'base-passwd' /
                    (name + '.master'), etc / name)
    (etc / 'machine-id').write_text('0123456789abcdef' * 2 + '\n')
    (etc / 'fstab').write_text('/dev/vda / ext4 defaults 0 0\n')
    (etc / 'modules').write_text('virtio_console\n')
    (etc / 'default').mkdir(exist_ok=True)
    (etc / 'default' / 'grub').write_text(
        (HERE / 'in_guest' / 'grub').read_text())
    units = etc / 'systemd' / 'system'
    units.mkdir(parents=True, exist_ok=True)
    for name in _MASKED:
        (units / name).symlink_to('/dev/null')
    for name in ('agent.service', 'agent.target'):
        shutil.copy(HERE / 'in_guest' / name, units)
    (units / 'default.target').symlink_to('agent.target')
    programs = tree / 'usr' / 'local' / 'bin'
    programs.mkdir(parents=True, exist_ok=True)
    for name in ('agent', 'gpu-host-prep'):
        shutil.copy(HERE / 'in_guest' / name, programs)
        (programs / name).chmod(0o755)
