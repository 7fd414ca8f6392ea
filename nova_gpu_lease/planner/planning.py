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


"""Who starts now, on which hosts, and which devices are kept for whom.

A pure function of the queue and of what the survey saw; no I/O, no clock, no
Nova. Whoever plans again and again keeps a State up to date instead.
"""

from nova_gpu_lease.planner import model
from nova_gpu_lease.planner import state


def plan(waiting, nodes, running=(), now=0, policy=model.Policy(),
         promises=None, usage=None):
    """Decide who starts now.

    :param waiting: the Waiting requests; where nothing else decides, in the
        order of the queue.
    :param nodes: {node uuid: Node}.
    :param running: the Running of these nodes.
    :param now: the time.
    :param policy: a Policy.
    :param promises: {request uuid: Promise} of the last plan.
    :param usage: {project id: fair share factor, 0 to 1}; None: not used.
    :returns: a Plan. It does not depend on the order of any dict.
    """
    situation = state.State(nodes, running, policy, promises, usage)
    for request in waiting:
        situation.submit(request)
    return situation.plan(now)
