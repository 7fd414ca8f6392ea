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

"""The command ``gpu-host-prep``: parse, one call, print."""

import argparse
import json
import os
import sys

from gpu_host_prep import exceptions
from gpu_host_prep import inventory
from gpu_host_prep import machine
from gpu_host_prep import nova_conf
from gpu_host_prep import root as roots
from gpu_host_prep import state as states
from gpu_host_prep import work

_STATUS = '''\
exit status:
  0  done; "assert": the host is as it should be; "plan": nothing to do
  1  "assert": there are deviations; "plan": there is something to do
  2  an option or the state file cannot be used
  3  refused: the host would lose a disk, its network or its console, or a
     group of devices cannot be taken apart; nothing was changed
  4  something failed; what was begun can be repeated or put back
'''


def _parser():
    parser = argparse.ArgumentParser(
        prog='gpu-host-prep', description='Make a host with GPUs ready for '
        'PCI passthrough, and check that it is.', epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--root', metavar='DIR', default='/',
        help='where the files of the host are (default: /); its programs '
        'are then run with chroot')
    parser.add_argument(
        '--kernel-root', metavar='DIR',
        help='where /sys, /proc, /dev and /run are looked up, if not there')
    verbs = parser.add_subparsers(dest='verb', required=True,
                                  metavar='COMMAND')
    verb = verbs.add_parser('inspect', help='show the GPUs of the host')
    verb.add_argument('-f', '--format', choices=('table', 'json'),
                      default='table')
    verb.set_defaults(do=_inspect)
    verb = _with_state(verbs, 'assert', 'compare the host with a state file')
    verb.add_argument('--format', choices=('line', 'json'), default='line')
    verb.set_defaults(do=_assert)
    verb = _with_state(verbs, 'plan', 'show what "apply" would change')
    verb.add_argument('--runtime', action='store_true',
                      help='also which functions would change their driver')
    verb.set_defaults(do=_plan)
    verb = _with_state(verbs, 'apply', 'write the files, after showing the '
                       'difference')
    verb.add_argument('--runtime', action='store_true',
                      help='also give the functions to their drivers now, '
                      'without a reboot')
    verb.add_argument('--no-files', action='store_true',
                      help='with --runtime: write no configuration, so that '
                      'the next boot is as the last')
    _with_consent(verb)
    verb.set_defaults(do=_apply)
    verb = verbs.add_parser('restore', help='put back what "apply" changed')
    verb.add_argument('--force', action='store_true',
                      help='also files that others changed since')
    _with_consent(verb)
    verb.set_defaults(do=_restore)
    verb = _with_state(verbs, 'nova-conf', 'print the configuration of Nova '
                       'and flavors for this host')
    verb.add_argument('--part', choices=nova_conf.PARTS,
                      help='only the lines for nova-compute on this host, '
                      'those for the controllers, or the flavors')
    verb.set_defaults(do=_nova_conf)
    return parser


def _with_state(verbs, name, text):
    verb = verbs.add_parser(name, help=text)
    verb.add_argument('state', nargs='?', metavar='STATE.yaml',
                      help=f'default: {states.DEFAULT}')
    verb.add_argument('-f', '--file', dest='file', metavar='STATE.yaml',
                      help='the same')
    return verb


def _with_consent(verb):
    verb.add_argument('--yes', action='store_true', help='do not ask')
    verb.add_argument('--dry-run', action='store_true',
                      help='show the difference and stop')
    verb.add_argument('--no-commands', action='store_true',
                      help='only note the commands that make an initramfs '
                      'and the boot loader\'s menu; the next run has them')


def _inspect(root, arguments):
    host = machine.read(root)
    if arguments.format == 'json':
        print(json.dumps(inventory.report(host), indent=2))
    else:
        print(inventory.table(host))
    if os.geteuid() != 0:
        print('Only root is told who uses a card, and whether bridges have '
              'ACS.', file=sys.stderr)
    return 0


def _assert(root, arguments):
    found, accepted = _work(root, arguments).deviations()
    if arguments.format == 'json':
        print(json.dumps([each.report() for each in found], indent=2))
    else:
        for deviation in found:
            print(deviation)
        for deviation, reason in accepted:
            print(f'accepted: {deviation.code}: {reason}', file=sys.stderr)
        if not found:
            print('The host is as it should be.', file=sys.stderr)
    return exceptions.DEVIATIONS if found else 0


def _plan(root, arguments):
    plan = _work(root, arguments).plan(
        now=arguments.runtime)
    print(plan.text())
    plan.check()
    return exceptions.DEVIATIONS if plan.is_needed else 0


def _apply(root, arguments):
    if arguments.no_files and not arguments.runtime:
        raise exceptions.BadInput('--no-files is for --runtime only.')
    job = _work(root, arguments)
    plan = job.plan(now=arguments.runtime, files=not arguments.no_files)
    print(plan.text())
    plan.check()
    if plan.is_needed and _agreed(arguments):
        job.apply(plan, commands=not arguments.no_commands)
        print('Done.' + (' Reboot the host, then run "gpu-host-prep assert".'
                         if plan.changes and not arguments.runtime else ''))
    return 0


def _restore(root, arguments):
    plan = work.Restoration.load(root)
    print(plan.text())
    plan.check(arguments.force)
    if plan.is_needed and _agreed(arguments):
        plan.restore(commands=not arguments.no_commands)
        print('Done. What was taken at boot goes to its drivers with the '
              'next boot.' if plan.changes else 'Done.')
    return 0


def _nova_conf(root, arguments):
    print(_work(root, arguments).nova_conf(arguments.part))
    return 0


def _work(root, arguments):
    """Read the state file and the host.

    A file that is named is looked up as it is, the default below the root.
    """
    if arguments.state and arguments.file:
        raise exceptions.BadInput('the state file is given twice.')
    return work.Work.load(root, arguments.state or arguments.file or
                          root.path(states.DEFAULT))


def _agreed(arguments):
    if arguments.dry_run:
        return False
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        raise exceptions.BadInput(
            'nobody can be asked here; use --yes to go ahead or --dry-run to '
            'look.')
    return input('Go ahead? [y/N] ').strip().lower() in ('y', 'yes')


def main(argv=None):
    """Run the command.

    :returns: the exit status, see ``exceptions``
    """
    arguments = _parser().parse_args(argv)
    root = roots.Root(arguments.root, arguments.kernel_root)
    try:
        return arguments.do(root, arguments)
    except exceptions.HostPrepError as error:
        sys.stdout.flush()
        print(f'gpu-host-prep: {error}', file=sys.stderr)
        return error.status
    except BrokenPipeError:
        return exceptions.FAILED
    except OSError as error:
        print(f'gpu-host-prep: {error}', file=sys.stderr)
        return exceptions.FAILED
