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

"""The cells of a cloud: their names, hosts, databases and message buses.

A cloud of one cell has one message bus, and its conductors serve the API and
the cell. In one of several cells each cell has a database, a virtual host of
RabbitMQ and a conductor of its own, which knows nothing of the API database;
the other conductors serve the API alone.
"""


def count(state):
    """Return the number of cells."""
    # A cloud of an earlier version has one.
    return state.data['options'].get('cells', 1)


def names(state):
    """Return the names of the cells, cell0 not among them."""
    return [f'cell{number}' for number in range(1, count(state) + 1)]


def separate(state):
    """Return the names of the cells that have conductors of their own."""
    return names(state) if count(state) > 1 else []


def of_host(state, name):
    """Return the name of the cell of a host; they take turns."""
    hosts = [host.name for host in state.layout.hosts]
    return names(state)[hosts.index(name) % count(state)]


def database(cell):
    """Return the name of a cell's database."""
    return 'nova' if cell == 'cell1' else f'nova_{cell}'


def databases(state):
    """Return the names of the databases of all cells, cell0 not among them."""
    return [database(cell) for cell in names(state)]


def api_database(state):
    """Return the database that keeps the services which are in no cell."""
    return 'nova_cell0' if separate(state) else 'nova'


def virtual_host(state, cell):
    """Return the virtual host of a cell's message bus, '' for the API's."""
    return cell if separate(state) else ''
