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

"""What can go wrong in the devcloud, with texts a newcomer can act on."""


class DevcloudError(Exception):
    """Something the user can read and act on; printed without a traceback."""


class LayoutError(DevcloudError):
    """The layout file is not what is accepted."""


class ServiceFailed(DevcloudError):
    """A service did not start, or went away while it was waited for."""

    def __init__(self, service, reason, log, tail):
        """Describe the failure.

        :param service: name of the service
        :param reason: what happened, one line
        :param log: path of its log file
        :param tail: the last lines of that log
        """
        self.service = service
        super().__init__(
            f'{service} {reason}. The end of {log}:\n{tail.rstrip()}')


class CommandFailed(DevcloudError):
    """A set-up command ended with an error."""
