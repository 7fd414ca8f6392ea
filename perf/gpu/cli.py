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


"""The command line."""

import argparse
import pathlib
import signal
import sys

from perf.gpu import backends
from perf.gpu import case
from perf.gpu import console
from perf.gpu import errors
from perf.gpu import groups
from perf.gpu import schema

# Exit statuses of "compare"; 2 is argparse's and that of any error.
OVER = 1
ERROR = 2
INTERRUPTED = 130


def percent(text):
    """``10%`` or ``0.1`` as 0.1."""
    try:
        share = float(text[:-1]) / 100 if text.endswith('%') else float(text)
    except ValueError:
        share = -1
    # More than twice the time is no overhead but another machine; a bare 10
    # is a percent sign forgotten.
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(
            "'%s' is no share from 0%% to 100%%, such as 10%% or 0.1" % text)
    return share


def duration(text):
    """``90s``, ``9m`` or seconds as a number, in seconds."""
    units = {'s': 1, 'm': 60, 'h': 3600}
    try:
        seconds = (float(text[:-1]) * units[text[-1]]
                   if text[-1:] in units else float(text))
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(
            "'%s' is no time such as 90s, 9m or 1h" % text)
    return seconds


def at_least(least):
    """The type of an integer that is no smaller."""
    def integer(text):
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(
                "'%s' is no integer of at least %d" % (text, least))
        return int(text)
    return integer


def _parser():
    parser = argparse.ArgumentParser(
        prog='python -m perf.gpu', description='Measure what a passed-through '
        'GPU costs: "run" in the host, "run" in a guest, "compare" both.')
    commands = parser.add_subparsers(dest='command', required=True)

    what = argparse.ArgumentParser(add_help=False)
    what.add_argument(
        '--backend', choices=backends.CHOICES, default='auto',
        help='what to measure on; auto is a GPU if there is one')
    what.add_argument(
        '--sizes', choices=sorted(case.SIZES),
        help='full, as in the thesis, or tiny to try the path; full on a GPU '
        'and tiny without one if not given')
    what.add_argument(
        '--only', metavar='PREFIX', action='append',
        help='only tests whose name begins so; may be repeated')
    what.add_argument(
        '--cifar10', metavar='DIR', help='the folder with the binary version '
        'of CIFAR-10; images of its shape are made up if not given')

    run = commands.add_parser('run', parents=[what], help='measure this '
                              'machine; Ctrl-C keeps what was measured')
    run.add_argument('--out', required=True, metavar='FILE',
                     help='the result, JSON')
    run.add_argument('--label', default='', help='what the report calls this '
                     'machine; the name of the file if not given')
    run.add_argument('--rounds', type=at_least(1), default=8,
                     help='rounds of every test (default %(default)s; fewer '
                     'than 3 cannot be compared)')
    run.add_argument('--max-rounds', type=at_least(1), default=30,
                     help='rounds of a test whose rounds differ, while there '
                     'is time (default %(default)s)')
    run.add_argument('--time-limit', type=duration, default=540.0,
                     metavar='TIME', help='how long all of it may take '
                     '(default 9m)')
    run.add_argument('--seed', default='1', help='of the order of tests')
    run.set_defaults(func=_run)

    show = commands.add_parser('list', parents=[what], help='show what would '
                               'be measured here, and what not and why')
    show.set_defaults(func=_list)

    compare = commands.add_parser('compare', help='compare two results; '
                                  'exit 1 if a test is over the limit')
    compare.add_argument('host', help='the result of the host')
    compare.add_argument('guest', help='the result of the guest')
    compare.add_argument('-o', '--output', required=True, metavar='DIR',
                         help='where the report goes')
    compare.add_argument(
        '--max-overhead', type=percent, default=0.1, metavar='SHARE',
        help='how much longer the guest may take (default 10%%)')
    compare.add_argument(
        '--run-shift', type=percent, default=0.01, metavar='SHARE',
        help='standard deviation of a whole run against another one of the '
        'same machine, which rounds do not show (default 1%%)')
    compare.add_argument(
        '--reference', metavar='FILE', help='figures to put beside; those of '
        'the thesis if not given')
    compare.set_defaults(func=_compare)

    emit = commands.add_parser('emit', help='print a result as lines for a '
                               'console log')
    emit.add_argument('result')
    emit.set_defaults(func=_emit)
    extract = commands.add_parser('extract', help='cut a result out of a '
                                  'console log')
    extract.add_argument('log', help='the log; - is the standard input')
    extract.add_argument('--out', required=True, metavar='FILE',
                         help='the result, JSON')
    extract.set_defaults(func=_extract)
    return parser


def _cases(args):
    """The backend and the cases that were asked for."""
    backend = backends.choose(args.backend)
    if args.sizes is None:
        args.sizes = 'full' if backend.name == 'gpu' else 'tiny'
    if args.cifar10:
        args.cifar10 = str(pathlib.Path(args.cifar10).absolute())
    cases = groups.cases(case.SIZES[args.sizes], args.cifar10)
    for prefix in args.only or ():
        if not any(name.startswith(prefix) for name in cases):
            raise errors.PerfError(
                "No test begins with '%s'; \"python -m perf.gpu list\" shows "
                'all of them.' % prefix)
    if args.only:
        cases = {name: found for name, found in cases.items()
                 if name.startswith(tuple(args.only))}
    return backend, cases


def _list(args):
    backend, cases = _cases(args)
    for name, found in cases.items():
        print('%-40s %-9s %s' % (name, found.unit,
                                 found.blocked(backend) or 'runs'))
    return 0


def _run(args):
    # Only the command that measures needs what these need.
    from perf.gpu import progress
    from perf.gpu import runner
    backend, cases = _cases(args)
    if args.cifar10:
        from perf.gpu.groups import cifar10
        cifar10.load(args.cifar10)
    settings = {
        'backend': backend.name, 'sizes': args.sizes,
        'cifar10': args.cifar10, 'rounds': args.rounds,
        'max_rounds': args.max_rounds, 'time_limit': args.time_limit,
        'seed': args.seed, 'only': sorted(cases) if args.only else None}

    def save(result):
        schema.write_text(args.out, schema.dump(result))
    with progress.Progress(args.rounds) as shown:
        if backend.name == 'cpu':
            shown.line('No GPU is measured: %s.' % backend.no_gpu)
        run = runner.Run(settings, args.label or pathlib.Path(args.out).stem,
                         shown, save)
        # Before the first round: a place that cannot be written to is better
        # known now than in nine minutes.
        save(run.result)
        # A server that is shut down at the end of its lease gets the second.
        before = {number: signal.signal(number, run.interrupt)
                  for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            result = run()
        finally:
            save(run.result)
            for number, handler in before.items():
                signal.signal(number, handler)
    for name, reason in sorted(result['failed'].items()):
        shown.line('failed: %s: %s' % (name, reason))
    shown.line('%s%d tests measured, %d skipped, %d failed: %s' % (
        'Interrupted. ' if result['interrupted'] else '',
        len(result['tests']), len(result['skipped']), len(result['failed']),
        args.out))
    if result['interrupted']:
        return INTERRUPTED
    if not result['tests']:
        raise errors.PerfError(
            'Nothing was measured. %s' % '; '.join(sorted(
                {*result['skipped'].values(), *result['failed'].values()})))
    return 0


def _compare(args):
    # Drawing takes a second to import.
    from perf.gpu import comparison
    from perf.gpu import report
    found = comparison.compare(
        schema.load(args.host), schema.load(args.guest),
        limit=args.max_overhead, shift=args.run_shift,
        reference=comparison.load_reference(args.reference))
    report.write(found, args.output)
    print(report.summary(found))
    return OVER if found.over else 0


def _emit(args):
    schema.load(args.result)
    text = pathlib.Path(args.result).read_text(encoding='utf-8')
    lines = console.lines(text)
    print('\n'.join(lines))
    if console.size(lines) > console.ROOM:
        print('perf.gpu: these are %d KiB, and Nova shows the last 100 of a '
              'console log: read the log on the host, or use an object store.'
              % (console.size(lines) >> 10), file=sys.stderr)
    return 0


def _extract(args):
    try:
        if args.log == '-':
            log = sys.stdin.buffer.read()
        else:
            log = pathlib.Path(args.log).read_bytes()
    except OSError as error:
        raise errors.PerfError('The log cannot be read: %s' % error)
    # A console may hold anything.
    text = console.extract(log.decode(errors='replace'))
    schema.parse(text, args.log)
    schema.write_text(args.out, text)
    print('%s: a result of %d bytes' % (args.out, len(text)))
    return 0


def main(argv=None):
    """Run a command.

    :returns: its exit status.
    """
    args = _parser().parse_args(argv)
    try:
        return args.func(args)
    except errors.PerfError as error:
        print('perf.gpu: %s' % error, file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
