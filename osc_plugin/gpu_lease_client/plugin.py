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

"""The plugin interface of OpenStackClient: who we are and how to call us.

OpenStackClient reads the names in capitals and calls the two functions; the
commands themselves are entry points of the group ``openstack.gpu_lease.v1``.
"""

from osc_lib import utils

from gpu_lease_client import client

DEFAULT_API_VERSION = '1'
API_VERSION_OPTION = 'os_gpu_lease_api_version'
API_NAME = 'gpu_lease'
API_VERSIONS = ('1',)


def make_client(instance):
    """Make the object that commands find as ``client_manager.gpu_lease``.

    :param instance: the ClientManager of the running shell.
    :returns: a client.Client that talks to the compute endpoint.
    """
    return client.Client(instance.sdk_connection.compute)


def build_option_parser(parser):
    """Add our global option to the parser of the shell.

    :param parser: the argparse.ArgumentParser of the shell.
    :returns: the same parser.
    """
    parser.add_argument(
        '--os-gpu-lease-api-version',
        metavar='<gpu-lease-api-version>',
        default=utils.env('OS_GPU_LEASE_API_VERSION'),
        help='GPU lease API version, default=%s '
             '(Env: OS_GPU_LEASE_API_VERSION)' % DEFAULT_API_VERSION,
    )
    return parser
