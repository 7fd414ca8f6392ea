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


"""How near gangs are to each other: ``python -m perf.topology [FILE]``.

On the tree of 847 real hosts in ``topo_lingjun2023.csv``, of which some are
free by chance, gangs are placed exactly, as the planner does (exactly where
that is cheap), best fit in the smallest subtree (as in large clouds), packed
(the first free hosts by name), and at random. The mean distance of two servers
of a gang and the time of a choice are printed and kept in
``perf/results/topology.json``.
"""

import argparse
import csv
import datetime
import json
import pathlib
import random
import statistics
import time

from nova_gpu_lease import planner
from nova_gpu_lease.planner import topology
from perf.replay import trace
from perf.scheduler import machine

RESULTS = pathlib.Path(__file__).with_name('results') / 'topology.json'
GANGS = (2, 4, 8, 16, 32, 64)
FREE = (0.1, 0.3, 0.6)
SEED = 1


def load(path):
    """The hosts of a CSV file with the columns host, dsw, psw, asw.

    :returns: {host: planner.Node}.
    """
    with open(path, encoding='utf-8') as rows:
        return {row['host']: planner.Node(
            row['host'].zfill(4), (),
            place=(row['dsw'], row['psw'], row['asw']))
            for row in csv.DictReader(rows)}


def measure(nodes, tries):
    """Place gangs in every way.

    :returns: a list of dicts, one for each size and share of free hosts.
    """
    rng = random.Random(SEED)
    net = topology.Network(nodes)
    ways = {
        'exact': lambda room, count: net.choose(room, count, budget=10**9),
        'default': net.choose,
        'best fit': lambda room, count: net.choose(room, count, budget=0),
        'packed': lambda room, count: sorted(
            room, key=lambda uuid: nodes[uuid].host)[:count],
        'random': lambda room, count: rng.sample(sorted(room), count)}
    rows = []
    for free in FREE:
        for count in GANGS:
            row = {'free': free, 'servers': count}
            rooms = [{uuid: 1 for uuid in nodes if rng.random() < free}
                     for _ in range(tries)]
            for name, choose in ways.items():
                distances, seconds = [], []
                for room in rooms:
                    begun = time.perf_counter()
                    chosen = choose(room, count)
                    seconds.append(time.perf_counter() - begun)
                    distances.append(
                        net.cost(chosen) / (count * (count - 1) / 2))
                row[name] = {
                    'distance': round(statistics.mean(distances), 3),
                    'ms': round(statistics.median(seconds) * 1000, 2)}
            rows.append(row)
            print('%3d %% free, %2d servers: ' % (free * 100, count) +
                  ', '.join('%s %.2f (%.1f ms)' % (
                      name, row[name]['distance'], row[name]['ms'])
                      for name in ways))
    return rows


def main():
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0])
    parser.add_argument('file', nargs='?', type=pathlib.Path, metavar='FILE',
                        help='default: topo_lingjun2023.csv in the folder '
                        'of traces, see python -m perf.replay --help')
    parser.add_argument('--tries', type=int, default=50,
                        help='sets of free hosts for each size')
    options = parser.parse_args()
    path = options.file or trace.folder() / 'topo_lingjun2023.csv'
    nodes = load(path)
    rows = measure(nodes, options.tries)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({
        'date': datetime.date.today().isoformat(),
        'machine': machine.describe(), 'file': path.name,
        'hosts': len(nodes), 'tries': options.tries, 'seed': SEED,
        'rows': rows}, indent=1, sort_keys=True) + '\n')


if __name__ == '__main__':
    main()
