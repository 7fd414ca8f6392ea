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

"""The command line of the devcloud."""

import argparse
import os
import shlex
import subprocess
import sys

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import guests
from nova_gpu_lease.devcloud import state as state_mod


def _parser():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--state-dir', metavar='DIR', default=argparse.SUPPRESS,
        help='where everything of this cloud is kept '
             f'(default: {state_mod.default_dir()})')
    parser = argparse.ArgumentParser(
        prog='nova-gpu-lease-devcloud', parents=[common],
        description='A private OpenStack with fake GPUs on this machine.')
    commands = parser.add_subparsers(dest='command', required=True,
                                     metavar='COMMAND')

    def add(name, function, text):
        command = commands.add_parser(name, help=text, description=text,
                                      parents=[common])
        command.set_defaults(function=function)
        return command

    _add_up(add('up', _up, 'Start the cloud, or what is missing of it.'))
    down = add('down', _down, 'Stop the cloud and remove it.')
    down.add_argument('--keep-state', action='store_true',
                      help='keep data and logs; "up" goes on with them')
    add('status', _status, 'Show the services.')
    openrc = add('openrc', _openrc, 'Print shell exports for the client.')
    openrc.add_argument(
        '--project', default='admin',
        help='one of ' + ', '.join(state_mod.PROJECTS)
             + ' (default: %(default)s)')
    logs = add('logs', _logs, "Print a service's log.")
    logs.add_argument('service', metavar='SERVICE')
    logs.add_argument('-f', '--follow', action='store_true',
                      help='go on printing what is added')
    for name, text in (('start', 'Start a service.'),
                       ('stop', 'Stop a service.'),
                       ('restart', 'Restart a service.')):
        command = add(name, _service, text)
        command.add_argument('service', metavar='SERVICE')
        if name == 'stop':
            command.add_argument('--kill', action='store_true',
                                 help='kill all its processes at once')
    _add_guest(add('guest', _guest, 'Act as a guest, or make guests fail.'))
    return parser


def _add_up(up):
    up.add_argument('--hosts', type=int, metavar='N',
                    help='number of GPU hosts (default: 2)')
    up.add_argument('--gpus-per-host', type=int, metavar='K',
                    help='GPUs of each host (default: 2)')
    up.add_argument('--layout', metavar='FILE',
                    help='YAML file with hosts that differ')
    up.add_argument('--pci-in-placement', default=None,
                    action=argparse.BooleanOptionalAction,
                    help='track the GPUs in Placement (default: no)')
    up.add_argument('--conductors', type=int, metavar='N',
                    help='number of nova-conductor services (default: 1)')
    up.add_argument('--cells', type=int, metavar='N',
                    help='number of cells; the hosts are in them by turns, '
                         'and with more than one each has a conductor of its '
                         'own (default: 1)')
    up.add_argument('--stock', default=None,
                    action=argparse.BooleanOptionalAction,
                    help='Nova without this package in its hooks')
    up.add_argument('--set', action='append', dest='settings',
                    metavar='GROUP.OPTION=VALUE',
                    help='an option of nova.conf; repeat it for more options '
                         'or for more values of one; "keystone:token.'
                         'expiration=60" is one of another service')


def _add_guest(guest):
    guest.add_argument(
        'target', metavar='SERVER_ID | fail-next',
        help='the server whose guest acts, or "fail-next"')
    guest.add_argument(
        'action', metavar='ACTION',
        help='of a guest: power-off, show, write; of fail-next: '
             + ', '.join(guests.FAULTS))
    guest.add_argument('text', nargs='?',
                       help='what "write" puts on the disk')
    guest.add_argument('--host', help='fail on this host only')
    guest.add_argument('--count', type=int, default=1, metavar='N',
                       help='fail so often (default: 1); 0 takes it back')


def _cloud(args):
    # Late: loading Nova takes a second that "openrc" need not take.
    from nova_gpu_lease.devcloud import cloud
    return cloud.Cloud(getattr(args, 'state_dir', None))


def _up(args):
    cloud = _cloud(args)
    cloud.up(hosts=args.hosts, gpus_per_host=args.gpus_per_host,
             layout=args.layout, pci_in_placement=args.pci_in_placement,
             conductors=args.conductors, cells=args.cells,
             stock=args.stock, settings=args.settings)
    given = getattr(args, 'state_dir', None)
    option = f' --state-dir {shlex.quote(given)}' if given else ''
    print('The cloud is up. Use it with:\n'
          f'  . <(nova-gpu-lease-devcloud openrc --project alice-lab{option})'
          '\n  openstack server create --flavor gpu --image tiny --nic none '
          '--wait s1', file=sys.stderr)


def _down(args):
    if not _cloud(args).down(keep_state=args.keep_state):
        print('There is no devcloud to stop.', file=sys.stderr)


def _status(args):
    rows = _cloud(args).status()
    for name, state, pid, address in rows:
        print(f'{name:<24} {state:<8} {pid or "-":>8}  {address or "-"}')
    return 0 if all(row[1] == 'running' for row in rows) else 3


def _openrc(args):
    state = state_mod.State(getattr(args, 'state_dir', None))
    state.require()
    print(state.openrc(args.project), end='')


def _logs(args):
    state = state_mod.State(getattr(args, 'state_dir', None))
    state.require()
    path = state.path('logs', f'{args.service}.log')
    if not path.is_file():
        names = sorted(p.stem for p in state.path('logs').glob('*.log'))
        raise exceptions.DevcloudError(
            f'There is no log of "{args.service}"; there are '
            + ', '.join(names) + '.')
    sys.stdout.flush()
    command = ['tail', '-n', '+1', *(['-F'] if args.follow else []),
               '--', os.fspath(path)]
    return subprocess.run(command, check=False).returncode


def _service(args):
    cloud = _cloud(args)
    if args.command == 'stop':
        cloud.stop(args.service, kill=args.kill)
    else:
        getattr(cloud, args.command)(args.service)


def _guest(args):
    cloud = _cloud(args)
    if args.target == 'fail-next':
        if args.action not in guests.FAULTS or args.count < 0:
            raise exceptions.DevcloudError(
                f'"{args.action}" cannot be made to fail {args.count} times; '
                + ' and '.join(guests.FAULTS) + ' can, 0 times or more.')
        cloud.fail_next(args.action, args.host, args.count)
    elif args.action == 'power-off':
        cloud.guest_power_off(args.target)
    elif args.action == 'write' and args.text is not None:
        cloud.guest(args.target).change(args.target, disk=args.text)
    elif args.action == 'show':
        guest = cloud.guest(args.target)[args.target]
        for name, value in vars(guest).items():
            print(f'{name}: {value}')
    else:
        raise exceptions.DevcloudError(
            f'"{args.action}" is not accepted; power-off, show and '
            'write TEXT are.')


def main(argv=None):
    """Run one command.

    :returns: exit status
    """
    args = _parser().parse_args(argv)
    try:
        return args.function(args) or 0
    except exceptions.DevcloudError as exc:
        print(f'Error: {exc}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('Interrupted.', file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
