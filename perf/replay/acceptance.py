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


"""The runs behind ``perf/results/replay.json`` and ``replay.md``.

``python -m perf.replay acceptance [RUN ...]`` makes those that are named, or
all, and puts each into the two files as soon as it is done. They need the
real traces and minutes to an hour; ``python -m perf.replay check`` then holds
the figures against ``replay-ranges.json``.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from perf.gpu import errors
from perf.replay import hosts
from perf.replay import policies
from perf.replay import report
from perf.replay import session
from perf.replay import trace

RESULTS = trace.OWN_FOLDER.parents[1] / 'results'
_PEERS = 'easy,backfill'
_MONTH = 28 * 86400


def _replay(name, where, lease, names, how='early-end', compare=None,
            first=None):
    """One run.

    :param name: of the trace.
    :param first: of a trace without leases: the second at which 28 days begin
        that are given modelled ones.
    """
    return {'trace': name, 'hosts': where, 'lease': lease, 'policy': names,
            'how': how, 'compare': compare, 'first': first}


#: The slices of philly_full are as loaded as October on 72 to 80 hosts: their
#: mean demand is 85 to 92 % of the GPUs.
RUNS = {
    'sdsc-fifo': _replay('sdsc_sp2_5k_requested', '128x1', 'requested_s',
                         'fifo', compare='ref_fifo_start_s'),
    'sdsc-easy': _replay('sdsc_sp2_5k_requested', '128x1', 'requested_s',
                         'easy', compare='ref_easy_start_s'),
    'sdsc-backfill': _replay('sdsc_sp2_5k_requested', '128x1', 'requested_s',
                             'easy,backfill,backfill:order=aged'),
    'philly-fifo': _replay('philly_oct28d_ref80x8', '80x8', 'duration_s',
                           'fifo', compare='ref_fifo_start_s'),
    'october-80': _replay('philly_oct28d_lease', '80x8', 'lease_s',
                          _PEERS + ',backfill:order=aged,sjf'),
    'october-72': _replay('philly_oct28d_lease', '72x8', 'lease_s', _PEERS),
    'october-88': _replay('philly_oct28d_lease', '88x8', 'lease_s', _PEERS),
    'september-72': _replay('philly_full', '72x8', 'lease_s', _PEERS,
                            first=1171759),
    'autumn-76': _replay('philly_full', '76x8', 'lease_s', _PEERS,
                         first=3590959),
    'november-48': _replay('philly_full', '48x8', 'lease_s', _PEERS,
                           first=4800559),
    # Five times the GPUs: most leases here end long before they have to.
    'october-410-held': _replay(
        'philly_oct28d_lease', '410x8', 'lease_s',
        'easy,backfill,backfill:hosts=pack,backfill:order=aged', 'held'),
    'openb-fill': _replay(
        'openb_gpuspec33', 'hosts_openb2023.csv', 'duration_s',
        'backfill,backfill:hosts=pack,backfill:hosts=scarce,'
        'backfill:hosts=reference', 'fill'),
}


def _slice(source, first, folder):
    """28 days of a trace with modelled leases, made by the traces' own tool.

    :returns: the path of the slice.
    """
    tool = source.with_name('lease_model.py')
    if not tool.is_file():
        raise errors.PerfError('There is no %s, which models leases.' % tool)
    target = pathlib.Path(folder) / ('%s-%d.csv.gz' % (
        source.name.split('.')[0], first))
    subprocess.run(
        [sys.executable, str(tool), str(source), str(target), '--first',
         str(first), '--last', str(first + _MONTH)], check=True)
    return target


def make(name, keep, folder=None):
    """Make one run.

    :param name: of RUNS.
    :param keep: called with the name and the result after each policy, which
        may take minutes.
    :param folder: of the traces.
    :returns: the session.
    """
    run = RUNS[name]
    folder = trace.folder(folder)
    with tempfile.TemporaryDirectory() as scratch:
        path = trace.find(run['trace'], folder)
        if run['first'] is not None:
            path = _slice(path, run['first'], scratch)
        one = session.Session(
            path, trace.load(path, run['lease']),
            hosts.parse(run['hosts'], folder), policies.parse(run['policy']),
            run['how'])
        if run['compare']:
            one.compare_with(run['compare'])
    about = report.about(['acceptance', name])
    one.run(lambda: keep(name, {**about, **run, **one.figures()}))
    return one


def _load():
    path = RESULTS / 'replay.json'
    return (json.loads(path.read_text(encoding='utf-8')) if path.exists()
            else {'runs': {}})


def markdown(results):
    """The results for a person."""
    parts = ['# Replay of traces', 'Made by `python -m perf.replay '
             'acceptance`, from `replay.json`. What each policy is: '
             '`python -m perf.replay --help`. The range file says what the '
             'figures have to hold.']
    for name in RUNS:
        if name not in results['runs']:
            continue
        found = results['runs'][name]
        table = (report.fill_table if found['how'] == 'fill'
                 else report.waits_table)
        parts += ['## %s' % name, '%s on %s (%d GPUs), %s, length known from '
                  '`%s`%s. %s, %s, %d CPUs, Python %s, source %s.' % (
                      found['trace'], found['hosts'], found['gpus'],
                      found['how'], found['lease'],
                      ', the 28 days from second %d on' % found['first']
                      if found['first'] is not None else '', found['date'],
                      found['machine']['processor'].get('model', ''),
                      found['machine']['processor']['cpus'],
                      found['versions']['python'],
                      found['versions']['source']),
                  '```\n%s\n```' % table(found['policies'])]
    return '\n\n'.join(parts) + '\n'


def _keep(name, result):
    """Put a result into the two files."""
    RESULTS.mkdir(exist_ok=True)
    # Others may have been made meanwhile.
    results = _load()
    results['runs'][name] = result
    report.save(RESULTS / 'replay.json', results)
    report.schema.write_text(RESULTS / 'replay.md', markdown(results))


def main(argv=None):
    """Make runs and keep their results.

    :returns: an exit status: 1 if a head started later than promised.
    """
    parser = argparse.ArgumentParser(prog='python -m perf.replay acceptance')
    parser.add_argument('runs', nargs='*', metavar='RUN',
                        help='which; all if none is given: %s' % ', '.join(
                            RUNS))
    parser.add_argument('--traces', metavar='DIR', help='their folder')
    args = parser.parse_args(argv)
    broken = False
    for name in args.runs or RUNS:
        if name not in RUNS:
            raise errors.PerfError("There is no run '%s'; there are %s." % (
                name, ', '.join(RUNS)))
        one = make(name, _keep, args.traces)
        print('%s\n\n%s\n' % (name, one.table()), flush=True)
        broken = broken or one.broken()
    return int(broken)
