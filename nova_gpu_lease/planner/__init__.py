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


"""Who starts now, on which hosts; who waits, why, and until when.

Pure: no Nova, no database, no options, no clock, no I/O. The same code runs
in nova-conductor and, in simulated time, in perf/replay.
"""

from nova_gpu_lease.planner.matching import most
from nova_gpu_lease.planner.model import MAX_GROUP
from nova_gpu_lease.planner.model import Node
from nova_gpu_lease.planner.model import Plan
from nova_gpu_lease.planner.model import Policy
from nova_gpu_lease.planner.model import Pool
from nova_gpu_lease.planner.model import Promise
from nova_gpu_lease.planner.model import Running
from nova_gpu_lease.planner.model import Wait
from nova_gpu_lease.planner.model import WAIT_BEHIND
from nova_gpu_lease.planner.model import WAIT_DEVICES
from nova_gpu_lease.planner.model import WAIT_QUOTA
from nova_gpu_lease.planner.model import WAIT_RESOURCES
from nova_gpu_lease.planner.model import WAIT_RETRY
from nova_gpu_lease.planner.model import Waiting
from nova_gpu_lease.planner.planning import plan
from nova_gpu_lease.planner.state import State

__all__ = (
    'MAX_GROUP', 'Node', 'Plan', 'Policy', 'Pool', 'Promise', 'Running',
    'State', 'Wait', 'WAIT_BEHIND', 'WAIT_DEVICES', 'WAIT_QUOTA',
    'WAIT_RESOURCES', 'WAIT_RETRY', 'Waiting', 'most', 'plan')
