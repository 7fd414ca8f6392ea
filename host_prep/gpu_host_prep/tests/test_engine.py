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

"""Writing files and taking them off again, and crashes in between."""

import errno
import json
import os
import stat

from gpu_host_prep import engine
from gpu_host_prep import exceptions
from gpu_host_prep import journal as journals
from gpu_host_prep import machine
from gpu_host_prep import root as roots
from gpu_host_prep.tests import base
from gpu_host_prep.tests.fakes import sysfs
from gpu_host_prep import work


class Crash(BaseException):
    """The machine stops here: nothing of the program runs any more."""


class CrashingMachine(sysfs.Machine):
    """Stops at the N-th operation on files.

    :ivar moment: ``before`` it, ``after`` it, ``torn``: half of what was to
        be written is; or ``power``: after it, and all that was not synced is
        lost, content and names
    """

    countdown = None
    moment = 'before'
    done = ()

    def arm(self, countdown, moment):
        self.countdown, self.moment, self.done = countdown, moment, []
        self.unsynced = set()       # inodes with content in memory only
        self.renamed = []           # (folder, path, content before, mode)

    def disarm(self):
        self.countdown = None

    def _step(self, name, *arguments):
        operation = getattr(super(), name)
        if self.countdown is None:
            return operation(*arguments)
        self.countdown -= 1
        self.done.append(name)
        if self.countdown:
            return operation(*arguments)
        if self.moment == 'torn' and name == '_write':
            descriptor, content = arguments
            os.write(descriptor, content[:len(content) // 2])
        elif self.moment in ('after', 'power'):
            operation(*arguments)
        if self.moment == 'power':
            self._lose()
        raise Crash

    def _lose(self):
        for folder, _folders, names in os.walk(self.base):
            for name in names:
                path = os.path.join(folder, name)
                if os.stat(path).st_ino in self.unsynced:
                    os.truncate(path, 0)
        for _folder, path, content, mode in reversed(self.renamed):
            if content is None:
                os.unlink(path)
            else:
                with open(path, 'wb') as stream:
                    stream.write(content)
                os.chmod(path, mode)

    def _remember(self, path):
        """Note what a name stands for, until its directory is synced."""
        content = mode = None
        if os.path.exists(path):
            mode = os.stat(path).st_mode & 0o777
            with open(path, 'rb') as stream:
                content = stream.read()
        self.renamed.append((os.path.dirname(path), path, content, mode))

    def _open(self, *arguments):
        return self._step('_open', *arguments)

    def _write(self, descriptor, content):
        if self.countdown is not None:
            self.unsynced.add(os.fstat(descriptor).st_ino)
        return self._step('_write', descriptor, content)

    def _fsync(self, descriptor):
        self._step('_fsync', descriptor)
        if self.countdown is None:
            return
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            folder = os.readlink(f'/proc/self/fd/{descriptor}')
            self.renamed = [each for each in self.renamed
                            if each[0] != folder]
        else:
            self.unsynced.discard(os.fstat(descriptor).st_ino)

    def _rename(self, source, target):
        if self.countdown is not None:
            self._remember(target)
        return self._step('_rename', source, target)

    def _unlink(self, path):
        if self.countdown is not None:
            self._remember(path)
        return self._step('_unlink', path)

    def _mkdir(self, *arguments):
        return self._step('_mkdir', *arguments)

    def run(self, *command):
        super().run(*command)
        if self.countdown is not None:
            self.countdown -= 1
            self.done.append('run')
            if self.countdown == 0:
                raise Crash


class EngineCase(base.TestCase):

    def apply(self, root, text=base.STATE, now=False):
        job = self.work(root, text)
        job.apply(job.plan(now=now))

    def restore(self, root, force=False):
        restoration = work.Restoration.load(root)
        restoration.check(force)
        restoration.restore()

    def files(self, root):
        """What a crash must not leave half of; temporary files are none."""
        return {name: content for name, content in root.everything().items()
                if not name.endswith(roots.TEMPORARY) and
                not name.startswith('/boot/')}


class TestApply(EngineCase):

    def test_second_time_changes_nothing(self):
        root = self.debian()
        self.apply(root, now=True)
        before, commands = root.everything(), list(root.commands)
        modified = {name: root.modified(name) for name in before}
        status, output, _errors = self.run_command(
            root, 'apply', '--runtime', '--yes', self.state_file())
        self.assertEqual((0, 'Nothing to do.\n'), (status, output))
        self.assertEqual(before, root.everything())
        self.assertEqual(commands, root.commands)
        self.assertEqual(modified, {name: root.modified(name)
                                    for name in before})
        status, output, _errors = self.run_command(root, 'plan',
                                                   self.state_file())
        self.assertEqual((0, 'Nothing to do.\n'), (status, output))

    def test_restore_puts_everything_back(self):
        root = self.debian()
        os.chmod(root.path('/etc/initramfs-tools/modules'), 0o640)
        before = self.files(root)
        self.apply(root)
        self.assertNotEqual(before, self.files(root))
        root.commands.clear()
        self.restore(root)
        self.assertEqual(before, self.files(root))
        self.assertFalse(root.exists('/etc/gpu-host-prep'))
        self.assertFalse(root.exists('/etc/udev'))
        self.assertFalse(root.exists('/var/lib/gpu-host-prep/journal.json'))
        self.assertEqual([('update-initramfs', '-u', '-k', 'all'),
                          ('update-grub',)], root.commands)
        status, output, _errors = self.run_command(root, 'restore', '--yes')
        self.assertEqual((0, 'Nothing to put back.\n'), (status, output))

    def test_diff_comes_first_and_dry_run_stops_there(self):
        root = self.debian()
        before = root.everything()
        status, output, _errors = self.run_command(
            root, 'apply', '--dry-run', self.state_file())
        self.assertEqual(0, status)
        self.assertIn('+++ /etc/modprobe.d/gpu-host-prep.conf', output)
        self.assertIn('+blacklist nouveau', output)
        self.assertIn('  update-initramfs -u -k all', output)
        self.assertEqual(before, root.everything())
        self.assertFalse(root.exists(journals.FOLDER))

    def test_plan_has_a_status_of_its_own(self):
        status, _output, _errors = self.run_command(
            self.debian(), 'plan', '--runtime', self.state_file())
        self.assertEqual(1, status)

    def test_nobody_to_ask(self):
        root = self.debian()
        self.useFixture(base.fixtures.MockPatch('sys.stdin.isatty',
                                                lambda: False))
        status, _output, errors = self.run_command(root, 'apply',
                                                   self.state_file())
        self.assertEqual(2, status)
        self.assertIn('--yes', errors)

    def test_only_what_changed_is_made_anew(self):
        root = self.debian()
        self.apply(root)
        root.commands.clear()
        self.apply(root, base.STATE + 'hugepages: {size: 1G, count: 4}\n')
        self.assertEqual([('update-grub',)], root.commands)

    def test_file_that_is_no_longer_wanted_goes(self):
        root = self.debian()
        self.apply(root)
        self.apply(root, base.STATE + 'initramfs: none\nbootloader: none\n')
        self.assertEqual(('update-grub',), root.commands[-1])
        self.assertFalse(root.exists(
            '/etc/default/grub.d/60-gpu-host-prep.cfg'))
        self.assertEqual('# One in each line.\n',
                         root.text('/etc/initramfs-tools/modules'))
        self.assertTrue(root.exists('/etc/modprobe.d/gpu-host-prep.conf'))

    def test_link_stays_a_link(self):
        root = self.debian()
        root.put('/srv/modules', 'x\n')
        root.remove('/etc/initramfs-tools/modules')
        root.symlink('/etc/initramfs-tools/modules', '/srv/modules')
        self.apply(root)
        self.assertIn('vfio_pci', root.text('/srv/modules'))
        self.restore(root)
        self.assertEqual('x\n', root.text('/srv/modules'))
        self.assertTrue(os.path.islink(
            root.path('/etc/initramfs-tools/modules')))

    def test_file_that_changes_while_somebody_is_asked(self):
        root = self.debian()
        job = self.work(root)
        plan = job.plan()
        root.put('/etc/initramfs-tools/modules', 'dm_crypt\n')
        error = self.assertRaises(exceptions.HostPrepError, job.apply, plan)
        self.assertIn('/etc/initramfs-tools/modules was changed since',
                      str(error))
        self.assertEqual('dm_crypt\n',
                         root.text('/etc/initramfs-tools/modules'))
        self.apply(root)
        self.restore(root)
        self.assertEqual('dm_crypt\n',
                         root.text('/etc/initramfs-tools/modules'))

    def test_failed_command_is_tried_again(self):
        root = self.debian()
        root.failing.add('update-initramfs')
        error = self.assertRaises(exceptions.HostPrepError, self.apply, root)
        self.assertIn('update-initramfs', str(error))
        self.assertEqual([], root.commands)
        root.failing.clear()
        plan = self.work(root).plan()
        self.assertEqual(((), (('update-initramfs', '-u', '-k', 'all'),
                               ('update-grub',))),
                         (plan.changes, plan.commands))
        self.apply(root)
        self.assertEqual([('update-initramfs', '-u', '-k', 'all'),
                          ('update-grub',)], root.commands)

    def test_commands_may_wait(self):
        root = self.debian()
        self.run_command(root, 'apply', '--yes', '--no-commands',
                         self.state_file())
        self.assertEqual([], root.commands)
        self.run_command(root, 'apply', '--yes', self.state_file())
        self.assertEqual(2, len(root.commands))

    def test_two_at_a_time(self):
        root = self.debian()
        journals.prepare(root)
        with root.lock(journals.LOCK):
            error = self.assertRaises(exceptions.HostPrepError, self.apply,
                                      root)
        self.assertIn('another gpu-host-prep', str(error))

    def test_journal_of_another_version(self):
        root = self.debian()
        self.apply(root)
        path = '/var/lib/gpu-host-prep/journal.json'
        data = json.loads(root.text(path))
        root.put(path, json.dumps({**data, 'version': 7}))
        error = self.assertRaises(exceptions.HostPrepError, self.apply, root)
        self.assertIn('another version', str(error))

    def test_unreadable_file(self):
        root = self.debian()
        os.unlink(root.path('/etc/initramfs-tools/modules'))
        os.mkdir(root.path('/etc/initramfs-tools/modules'))
        error = self.assertRaises(exceptions.HostPrepError, self.apply, root)
        self.assertIn('/etc/initramfs-tools/modules cannot be read',
                      str(error))

    def test_full_disk(self):
        root = self.debian()
        original = root._write

        def full(descriptor, content):
            original(descriptor, content[:3])
            raise OSError(errno.ENOSPC, 'No space left on device')
        root._write = full
        self.assertRaises(OSError, self.apply, root)
        root._write = original
        self.restore(root)


class TestForeignChanges(EngineCase):

    def test_changed_file_of_ours_is_not_thrown_away(self):
        root = self.debian()
        self.apply(root)
        path = '/etc/modprobe.d/gpu-host-prep.conf'
        root.put(path, 'options vfio-pci disable_vga=1\n')
        status, output, errors = self.run_command(root, 'restore', '--yes')
        self.assertEqual(4, status)
        self.assertIn(f'{path}: changed by somebody else', errors)
        self.assertIn('-options vfio-pci disable_vga=1', output)
        self.assertTrue(root.exists(path))
        status, _output, _errors = self.run_command(root, 'restore', '--yes',
                                                    '--force')
        self.assertEqual(0, status)
        self.assertFalse(root.exists(path))

    def test_what_others_add_to_a_shared_file_stays(self):
        root = self.debian()
        path = '/etc/initramfs-tools/modules'
        self.apply(root)
        root.put(path, root.text(path) + 'dm_crypt\n')
        self.restore(root)
        self.assertEqual('# One in each line.\ndm_crypt\n', root.text(path))

    def test_it_stays_when_there_was_another_apply_in_between(self):
        root = self.debian()
        path = '/etc/initramfs-tools/modules'
        self.apply(root)
        root.put(path, 'dm_crypt\n')
        self.apply(root)
        self.assertEqual('dm_crypt\n# BEGIN gpu-host-prep\nvfio_pci\n'
                         '# END gpu-host-prep\n', root.text(path))
        self.restore(root)
        self.assertEqual('dm_crypt\n', root.text(path))

    def test_command_line_that_others_changed(self):
        root = self.machine()
        root.put('/etc/kernel/cmdline', 'root=UUID=1 iommu=pt\n')
        state = base.STATE + 'bootloader: systemd-boot\n'
        self.apply(root, state)
        self.assertEqual('root=UUID=1 intel_iommu=on iommu=pt\n',
                         root.text('/etc/kernel/cmdline'))
        root.put('/etc/kernel/cmdline',
                 'root=UUID=1 intel_iommu=on iommu=pt quiet\n')
        self.restore(root)
        # What was there before us stays, what we added goes.
        self.assertEqual('root=UUID=1 iommu=pt quiet\n',
                         root.text('/etc/kernel/cmdline'))

    def test_shared_file_that_was_not_there(self):
        root = self.debian()
        root.remove('/etc/initramfs-tools/modules')
        self.apply(root)
        self.restore(root)
        self.assertFalse(root.exists('/etc/initramfs-tools/modules'))
        self.apply(root)
        root.put('/etc/initramfs-tools/modules', 'dm_crypt\n')
        self.restore(root)
        self.assertEqual('dm_crypt\n',
                         root.text('/etc/initramfs-tools/modules'))


class TestCrash(EngineCase):
    """A crash at every step of ``apply`` and of ``restore``."""

    def machine(self, *_arguments, **options):
        path = self.useFixture(base.fixtures.TempDir(base.FOLDER)).path
        return CrashingMachine(path, *_arguments or (base.layouts.RTX_2070,),
                               **options)

    def setUp(self):
        super().setUp()
        self.root = self.debian()
        # Files are what matters here; reading sysfs a thousand times is slow.
        host = machine.read(self.root)
        self.useFixture(base.fixtures.MockPatchObject(
            machine, 'read', lambda _root: host))
        self.before = self.files(self.root)
        self.apply(self.root)
        self.after = self.files(self.root)
        self.restore(self.root)

    def check_whole(self):
        """Every file is the old one or the new one."""
        now = self.files(self.root)
        for name in {*self.before, *self.after, *now}:
            self.assertIn(now.get(name), (self.before.get(name),
                                          self.after.get(name)), name)
        # The journal too is whole.
        journals.Journal.load(self.root)

    def crash(self, step, moment, action):
        """Run something up to a step.

        :returns: whether it crashed; False means that it has fewer steps
        """
        self.root.arm(step, moment)
        try:
            action(self.root)
        except Crash:
            return True
        finally:
            self.root.disarm()
        return False

    def steps(self, moment, action, follow):
        """Crash at every step, look, and go on with ``follow``.

        :returns: names of the operations that were crashed at
        """
        seen, step = set(), 1
        while self.crash(step, moment, action):
            seen.add(self.root.done[-1])
            self.check_whole()
            follow()
            step += 1
        return seen

    def _restored(self):
        self.restore(self.root)
        self.assertEqual(self.before, self.files(self.root))
        self.assertFalse(work.Restoration.load(self.root).is_needed)

    def _applied(self):
        self.apply(self.root)
        self.assertEqual(self.after, self.files(self.root))
        self.assertEqual([], journals.Journal.load(self.root).pending)
        self.assertIn(('update-grub',), self.root.commands)
        self._restored()

    def test_apply_then_restore(self):
        for moment in ('before', 'torn', 'after', 'power'):
            seen = self.steps(moment, self.apply, self._restored)
            self.restore(self.root)
            self.assertEqual({'_open', '_write', '_fsync', '_rename',
                              '_mkdir', 'run'}, seen)

    def test_apply_again(self):
        for moment in ('torn', 'power'):
            self.steps(moment, self.apply, self._applied)
            self.restore(self.root)

    def test_restore_again(self):
        for moment in ('before', 'after', 'power'):
            self.apply(self.root)
            seen = self.steps(
                moment, self.restore,
                lambda: (self._restored(), self.apply(self.root)))
            self.assertIn('_unlink', seen)
            self.assertEqual(self.before, self.files(self.root))

    def test_commands_are_not_forgotten(self):
        # Whatever the step: once a file is new, the commands run later.
        step = 1
        while True:
            self.root.commands.clear()
            if not self.crash(step, 'after', self.apply):
                break
            changed = self.files(self.root) != self.before
            self.apply(self.root)
            if changed:
                self.assertIn(('update-initramfs', '-u', '-k', 'all'),
                              self.root.commands)
                self.assertIn(('update-grub',), self.root.commands)
            self.restore(self.root)
            step += 1


class TestCrashWhileBinding(EngineCase):

    def _restored(self, root, before):
        self.restore(root)
        self.assertEqual(before, self.files(root))
        for device in base.layouts.RTX_2070.devices:
            self.assertEqual(device.driver, root.driver(device.address))

    def test_restore_gives_the_drivers_back(self):
        root = self.debian()
        before = self.files(root)
        for victim in range(4):
            job = self.work(root)
            plan = job.plan(now=True)
            original, address = root.tell, f'0000:01:00.{victim}'

            def tell(name, text, original=original, address=address):
                original(name, text)
                if name.endswith('unbind') and text == address:
                    raise Crash
            root.tell = tell
            self.assertRaises(Crash, job.apply, plan)
            root.tell = original
            self.assertIsNone(root.driver(address))
            self._restored(root, before)


class TestChange(EngineCase):

    def test_mode_alone_is_a_change(self):
        change = engine.Change('/x', b'a\n', b'a\n', 0o644, 0o755)
        self.assertEqual('/x: mode 0644 becomes 0755', change.diff())
