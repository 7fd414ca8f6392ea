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
import sys

from perf.gpu import errors
from perf import ranges
from perf.replay import convert
from perf.replay import hosts
from perf.replay import policies
from perf.replay import trace

#: A head started later than it was promised, or starts are not those asked
#: for. 2 is argparse's and that of any error.
BROKEN = 1
ERROR = 2
INTERRUPTED = 130
_MORE = '''\
other commands:
  python -m perf.replay convert philly|swf SOURCE TARGET
  python -m perf.replay acceptance [RUN ...]     the runs of perf/results
  python -m perf.replay check [RESULTS [RANGES]] hold them against ranges

policies: a name, with changes such as backfill:depth=4, backfill:hosts=pack or
backfill:order=age|aged|shortest (who is tried behind a blocked head)
'''


def _replay_parser():
    parser = argparse.ArgumentParser(
        prog='python -m perf.replay',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Run a trace of GPU jobs in simulated time through the '
        'planner, and say how long jobs waited.', epilog=_MORE + '\n'.join(
            '  %-13s %s' % (name, text) for name, (_, text)
            in policies.POLICIES.items()))
    parser.add_argument('trace', metavar='TRACE', help='a CSV file, or the '
                        'name of one in the folder of the traces; '
                        '"synthetic" is a small one')
    parser.add_argument('--hosts', required=True, metavar='HOSTS',
                        help='80x8, 2x8:A100,3x2:T4, or a CSV file with '
                        'gpu_model, gpus_per_host and hosts')
    parser.add_argument('--policy', default='fifo,easy,backfill',
                        metavar='NAMES', type=_policies,
                        help='joined by commas (default %(default)s)')
    parser.add_argument('--lease', default='duration_s', metavar='COLUMN',
                        help='the length that is known beforehand: lease_s, '
                        'requested_s (default %(default)s, as if it were '
                        'known how long each job runs)')
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--early-end', dest='how', action='store_const',
                     const='early-end', help='tenants leave when their job '
                     'has run (default)')
    how.add_argument('--held', dest='how', action='store_const',
                     const='held', help='leases are held to their end')
    how.add_argument('--fill', dest='how', action='store_const',
                     const='fill', help='nobody leaves: placement alone')
    parser.set_defaults(how='early-end')
    parser.add_argument('--first', type=int, default=0, metavar='SECONDS',
                        help='only jobs submitted at this time or later')
    parser.add_argument('--last', type=int, metavar='SECONDS',
                        help='only jobs submitted before this time')
    parser.add_argument('--compare', metavar='COLUMN', help='count the starts '
                        'that are those of a column of the trace')
    parser.add_argument('--traces', metavar='DIR', help='the folder of the '
                        'traces (default: %s, or a folder shared/traces '
                        'beside the source tree, if there is one)' %
                        trace.VARIABLE)
    parser.add_argument('--json', metavar='FILE', help='write all figures')
    parser.add_argument('--starts', metavar='FILE', help='write row,start_s; '
                        'with several policies {} in the name is replaced by '
                        'that of the policy')
    parser.add_argument('--plots', metavar='DIR', help='draw queue, use and '
                        'waits over time, PNG')
    return parser


def _policies(text):
    try:
        return policies.parse(text)
    except errors.PerfError as error:
        raise argparse.ArgumentTypeError(error)


def _replay(argv):
    # What needs NumPy and rich is not imported for a mistake in a name.
    from perf.replay import report
    from perf.replay import session
    args = _replay_parser().parse_args(argv)
    folder = trace.folder(args.traces)
    path = trace.find(args.trace, folder)
    one = session.Session(
        path, trace.load(path, args.lease, args.first, args.last),
        hosts.parse(args.hosts, folder), args.policy, args.how)
    if args.starts and len(args.policy) > 1 and '{}' not in args.starts:
        raise errors.PerfError('--starts needs {} in the name of the file '
                               'with several policies.')
    if args.compare:
        one.compare_with(args.compare)
    one.run()
    result = {**report.about(argv), 'trace': path.name.split('.')[0],
              'hosts': args.hosts, 'how': args.how, 'lease': args.lease,
              **one.figures()}
    print(one.table())
    if args.json:
        report.save(args.json, result)
    for name, replay in one.replays.items():
        if args.starts:
            report.save_starts(args.starts.replace('{}', name), replay,
                               [job.row for job in one.jobs])
    if args.plots:
        one.draw(args.plots)
    return BROKEN if one.broken() else 0


def _convert(argv):
    parser = argparse.ArgumentParser(prog='python -m perf.replay convert')
    parser.add_argument('format', choices=sorted(convert.FORMATS))
    parser.add_argument('source', help='what is read; may be compressed')
    parser.add_argument('target', help='what is written; compressed if its '
                        'name ends in .gz')
    parser.add_argument('--host-gpus', type=int, default=8, metavar='NUMBER',
                        help='GPUs of a host: jobs of more are spread over '
                        'several (philly; default %(default)s)')
    args = parser.parse_args(argv)
    print('%d jobs written, %d left out (no GPU or never ran)' %
          convert.convert(args.format, args.source, args.target,
                          args.host_gpus))
    return 0


def _acceptance(argv):
    from perf.replay import acceptance
    return acceptance.main(argv)


def _check(argv):
    parser = argparse.ArgumentParser(prog='python -m perf.replay check')
    results = trace.OWN_FOLDER.parents[1] / 'results'
    parser.add_argument('results', nargs='?', default=results / 'replay.json')
    parser.add_argument('ranges', nargs='?',
                        default=results / 'replay-ranges.json')
    args = parser.parse_args(argv)
    return ranges.report(args.results, args.ranges)


_COMMANDS = {'convert': _convert, 'acceptance': _acceptance, 'check': _check}


def main(argv=None):
    """Run a command.

    :returns: its exit status.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv and argv[0] in _COMMANDS:
            return _COMMANDS[argv[0]](argv[1:])
        return _replay(argv)
    except errors.PerfError as error:
        print('perf.replay: %s' % error, file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
