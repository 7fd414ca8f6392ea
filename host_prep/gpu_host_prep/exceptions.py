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

"""The errors of this package, and the exit status that each means."""

# Exit statuses of the command; 0 is success.
DEVIATIONS = 1
BAD_INPUT = 2
REFUSED = 3
FAILED = 4


class HostPrepError(Exception):
    """Something went wrong; the text is for people."""

    status = FAILED


class BadInput(HostPrepError):
    """What was given (a state file, an option) cannot be used."""

    status = BAD_INPUT


class Refused(HostPrepError):
    """What was asked for would harm the host.

    :param refusals: the :class:`gpu_host_prep.guard.Refusal` objects
    """

    status = REFUSED

    def __init__(self, refusals):
        self.refusals = tuple(refusals)
        super().__init__('\n'.join(str(refusal) for refusal in self.refusals))
