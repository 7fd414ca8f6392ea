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


"""A trace of GPU jobs in simulated time, through the planner of Nova.

``python -m perf.replay TRACE --hosts 80x8 --lease lease_s`` says how long each
job would have waited under each policy. Nothing here needs Nova.

``trace``, ``hosts``, ``convert``
    what is replayed, on what, and other people's traces in our format;
``policies``
    the names of the policies and what they mean to the planner;
``engine``, ``loop``, ``fill``
    the planner with the state it needs, simulated time, filling without ends;
``metrics``, ``report``, ``plots``
    what came of it;
``acceptance``
    the runs behind ``perf/results/replay.json``.
"""
