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
"""The arguments of ``python -m perf.scheduler``."""

import argparse
import datetime
import json
import os
import pathlib
import sys
import tempfile

from perf.gpu import errors
from perf import ranges

RESULTS = pathlib.Path(__file__).parents[1] / 'results' / 'scheduler.json'
RANGES = RESULTS.with_name('scheduler-ranges.json')
PARTS = ('requests', 'planner')


def _sizes(text):
    try:
        sizes = [int(one) for one in text.split(',')]
    except ValueError:
        sizes = [0]
    if min(sizes) < 10:
        raise argparse.ArgumentTypeError(
            "'%s': give numbers of hosts from 10 on, such as 100,1000" % text)
    return sizes


def _parser():
    parser = argparse.ArgumentParser(
        prog='python -m perf.scheduler',
        description='What the hooks cost inside Nova.')
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser(
        'run', help='measure requests and the planner, in this process')
    run.add_argument('--sizes', type=_sizes, default=[100, 1000, 10000],
                     metavar='N,N', help='numbers of hosts; the planner has '
                     'as many waiting requests (default: 100,1000,10000)')
    run.add_argument('--only', choices=PARTS, help='one part only')
    run.add_argument('--database', metavar='URL', help='an empty database to '
                     'use instead of an SQLite file, as for SQLAlchemy')
    latency = commands.add_parser(
        'latency', help='measure a devcloud: from the end of a lease to the '
        'cast that builds the next server')
    latency.add_argument('--state-dir', metavar='DIR', required=True,
                         help='of the devcloud; one is brought up there, and '
                         'taken down again, unless one is up')
    latency.add_argument('--count', type=int, default=20, metavar='N',
                         help='how many starts to measure (default: 20)')
    for command in (run, latency):
        command.add_argument(
            '--output', type=pathlib.Path, default=RESULTS, metavar='FILE',
            help='results; what was measured replaces what is there, the '
            'rest stays (default: %s)' % os.path.relpath(RESULTS))
    check = commands.add_parser(
        'check', help='exit 1 if a figure is outside its range')
    check.add_argument('--results', default=RESULTS, metavar='FILE')
    check.add_argument('--ranges', default=RANGES, metavar='FILE')
    return parser


def _progress(text):
    print(text, file=sys.stderr, flush=True)


def _run(args):
    # Nova is imported only where it is measured.
    from nova_gpu_lease import conf
    from nova_gpu_lease.db import migration
    from perf.scheduler import cloud
    from perf.scheduler import plans
    from perf.scheduler import requests
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        conf.CONF([], project='nova', default_config_files=[],
                  default_config_dirs=[])
        cloud.configure(args.database or
                        'sqlite:///%s' % os.path.join(folder, 'leases.db'))
        migration.sync()
        if args.only != 'planner':
            found['requests'] = requests.measure(args.sizes, _progress)
        if args.only != 'requests':
            found['planner'] = plans.measure(args.sizes, _progress)
    return found


def _latency(args):
    from perf.scheduler import latency
    return {'latency': latency.measure(
        args.state_dir, args.count, _progress)}


def _save(path, found):
    """Merge what was found into the file of results."""
    from perf.scheduler import machine
    results = ranges.read_json(path) if path.exists() else {}
    _merge(results, found)
    runs = results.setdefault('runs', {})
    for part in found:
        runs[part] = {
            'date': datetime.datetime.now(datetime.timezone.utc).isoformat(
                timespec='seconds'), **machine.describe()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + '\n',
                    encoding='utf-8')


def _merge(old, new):
    """Put what is new in place of what is old, figure by figure."""
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            _merge(old[name], value)
        else:
            old[name] = value


def main(argv=None):
    """Run the command.

    :returns: its exit status.
    """
    args = _parser().parse_args(argv)
    try:
        if args.command == 'check':
            return ranges.report(args.results, args.ranges)
        _save(args.output, {'run': _run, 'latency': _latency}[
            args.command](args))
    except errors.PerfError as error:
        print('perf.scheduler: %s' % error, file=sys.stderr)
        return ranges.ERROR
    return 0
