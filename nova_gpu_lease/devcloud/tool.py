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

"""Running a set-up command of a service, with its output in a log."""

import subprocess

from nova_gpu_lease.devcloud import exceptions
from nova_gpu_lease.devcloud import process


def run(state, name, command, env=None, timeout=600):
    """Run a command and wait for it.

    It carries the marks of a service, so that an interrupted ``up`` leaves
    nothing running.

    :param name: name of its log
    :param env: additions to the environment
    :param timeout: seconds it may take
    :raises: CommandFailed with the end of its output
    """
    service = process.Service(
        name=name, command=command,
        env={'XDG_CACHE_HOME': str(state.make('cache')), **(env or {})})
    processes = process.Processes(state)
    with open(processes.log(name), 'ab') as log:
        try:
            code = subprocess.run(
                [str(part) for part in command], stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, check=False,
                env=processes.environment(service), cwd=state.dir,
                timeout=timeout, start_new_session=True).returncode
        except subprocess.TimeoutExpired:
            code = f'nothing after {timeout} seconds'
    if code:
        raise exceptions.CommandFailed(
            f'{name} failed (exit status {code}). The end of '
            f'{processes.log(name)}:\n{processes.tail(name)}')
