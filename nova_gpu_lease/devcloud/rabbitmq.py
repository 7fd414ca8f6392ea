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

"""A private RabbitMQ with a port mapper (epmd) and a cookie of its own."""

import base64
import hashlib
import json
import secrets
import socket

import amqp

from nova_gpu_lease.devcloud import cells
from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import process
from nova_gpu_lease.devcloud import state as state_mod

# Without these an idle Erlang VM spins on the cores others need.
_ERLANG = '+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2 -start_epmd false'


def _environment(state):
    """Return what keeps Erlang and RabbitMQ inside the state directory."""
    home = state.path('rabbitmq')
    port = state.port('epmd')
    return {
        'HOME': str(home),
        'LC_ALL': 'C.UTF-8',
        'ERL_EPMD_PORT': str(port),
        'ERL_EPMD_ADDRESS': state_mod.HOST,
        'RABBITMQ_NODENAME': f'devcloud-{state.data["id"]}@localhost',
        'RABBITMQ_NODE_PORT': str(state.port('rabbitmq')),
        'RABBITMQ_NODE_IP_ADDRESS': state_mod.HOST,
        'RABBITMQ_DIST_PORT': str(state.port('rabbitmq_dist')),
        'RABBITMQ_CONFIG_FILE': str(home / 'rabbitmq.conf'),
        'RABBITMQ_ADVANCED_CONFIG_FILE': str(home / 'advanced.config'),
        'RABBITMQ_CONF_ENV_FILE': str(home / 'rabbitmq-env.conf'),
        'RABBITMQ_ENABLED_PLUGINS_FILE': str(home / 'enabled_plugins'),
        'RABBITMQ_MNESIA_BASE': str(home / 'mnesia'),
        'RABBITMQ_LOG_BASE': str(home / 'log'),
        'RABBITMQ_LOGS': '-',
        'RABBITMQ_PID_FILE': str(home / 'rabbitmq.pid'),
        'RABBITMQ_GENERATED_CONFIG_DIR': str(home / 'config'),
        'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS':
            f'{_ERLANG} -kernel inet_dist_use_interface {{127,0,0,1}}',
    }


def _definitions(state):
    """Return the virtual hosts, and the user that may use them, as JSON."""
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + state.password('rabbitmq').encode())
    virtual_hosts = ['/', *cells.separate(state)]
    return json.dumps({
        'vhosts': [{'name': name} for name in virtual_hosts],
        'users': [{
            'name': 'openstack', 'tags': 'administrator',
            'hashing_algorithm': 'rabbit_password_hashing_sha256',
            'password_hash': base64.b64encode(
                salt + digest.digest()).decode()}],
        'permissions': [{
            'user': 'openstack', 'vhost': name, 'configure': '.*',
            'write': '.*', 'read': '.*'} for name in virtual_hosts]})


def configure(state):
    """Write the configuration files."""
    definitions = state.write(_definitions(state), 'rabbitmq',
                              'definitions.json')
    state.write(f'''\
listeners.tcp.default = {state_mod.HOST}:{state.port("rabbitmq")}
load_definitions = {definitions}
loopback_users = none
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
''', 'rabbitmq', 'rabbitmq.conf')
    state.write('', 'rabbitmq', 'rabbitmq-env.conf')
    state.write('[].\n', 'rabbitmq', 'advanced.config')
    state.write('[].\n', 'rabbitmq', 'enabled_plugins')
    cookie = state.path('rabbitmq', '.erlang.cookie')
    if not cookie.exists():
        state.write(state.password('erlang_cookie'), 'rabbitmq',
                    '.erlang.cookie', mode=0o400)


def services(state):
    """Return the Services, in the order they start: epmd, RabbitMQ."""
    env = _environment(state)
    # In the foreground, so that it is found and ended like any other.
    epmd = process.Service(
        name='epmd', port=state.port('epmd'), env=env, stop_timeout=0,
        command=[packages.program('epmd'), '-port', state.port('epmd'),
                 '-address', state_mod.HOST],
        ready=lambda: _listens(state.port('epmd')))
    rabbitmq = process.Service(
        name='rabbitmq', port=state.port('rabbitmq'), env=env,
        command=[packages.program('rabbitmq-server')],
        ready=lambda: _speaks_amqp(state.port('rabbitmq')))
    return [epmd, rabbitmq]


def _listens(port):
    with socket.create_connection((state_mod.HOST, port), timeout=2):
        return True


def _speaks_amqp(port):
    """Tell whether RabbitMQ greets as it does when it has booted."""
    with socket.create_connection((state_mod.HOST, port),
                                  timeout=5) as connection:
        connection.sendall(b'AMQP\x00\x00\x09\x01')
        # A method frame on channel 0: connection.start.
        return connection.recv(3) == b'\x01\x00\x00'


def consumers(state, queue, virtual_host=''):
    """Return how many connections take messages from a queue.

    :param virtual_host: of the queue
    :raises: OSError if RabbitMQ does not answer
    """
    connection = amqp.Connection(
        f'{state_mod.HOST}:{state.port("rabbitmq")}', userid='openstack',
        password=state.password('rabbitmq'), connect_timeout=5,
        virtual_host=virtual_host or '/')
    try:
        connection.connect()
        return connection.channel().queue_declare(
            queue, passive=True).consumer_count
    except amqp.exceptions.NotFound:
        return 0
    except amqp.exceptions.AMQPError as exc:
        raise ConnectionError(str(exc)) from exc
    finally:
        connection.collect()
