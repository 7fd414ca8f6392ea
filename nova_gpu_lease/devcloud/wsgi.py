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

"""How an OpenStack API is run by uWSGI, and how it is asked if it is up."""

import urllib.error
import urllib.request

from nova_gpu_lease.devcloud import packages
from nova_gpu_lease.devcloud import process
from nova_gpu_lease.devcloud import state as state_mod

# Loopback is never asked through a proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def service(state, name, module, env, ready=None, threads=8):
    """Return the Service that runs one API.

    One process with threads: what it loads is loaded once, and a graceful
    stop, which can take uWSGI a minute, is not needed for a devcloud.

    :param module: ``package.module:application``
    :param env: environment that names the configuration
    :param ready: called after the API answers HTTP, until it returns true
    """
    port = state.port(name)
    return process.Service(
        name=name, port=port, stop_timeout=5,
        env={**env, 'XDG_CACHE_HOME': str(state.make('cache'))},
        command=[
            packages.script('uwsgi'), '--http-socket',
            f'{state_mod.HOST}:{port}', '--module', module,
            '--processes', '1', '--threads', str(threads),
            '--enable-threads', '--need-app', '--die-on-term',
            '--buffer-size', '65535', '--http-chunked-input',
            '--add-header', 'Connection: close', '--disable-logging',
            '--log-4xx', '--log-5xx', '--lazy-apps',
            '--pyargv', '', '--procname-prefix', f'{name} '],
        ready=lambda: answers(state.url(name, '/')) and (
            ready is None or ready()))


def answers(url):
    """Tell whether an API gives any answer but a server error."""
    try:
        with _OPENER.open(url, timeout=5) as response:
            return response.status < 500
    except urllib.error.HTTPError as exc:
        return exc.code < 500
