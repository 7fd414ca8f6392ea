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


"""What a passed-through GPU costs: measured in the host, measured in a guest.

``python -m perf.gpu run`` measures the machine it runs on, ``compare`` puts
two such results side by side. Nothing here needs Nova, so that a guest can run
it: ``perf/gpu/requirements.txt`` says what it needs.

``case``, ``groups``
    what is measured;
``backends``
    on what: NumPy, or an NVIDIA GPU by CuPy and PyTorch;
``measure``, ``worker``, ``process``, ``runner``
    how: repetitions in a round, rounds in processes of their own;
``machine``, ``schema``, ``console``
    the machine's description, the result as a file, and as console lines;
``stats``, ``comparison``, ``report``, ``plots``
    what two results say.
"""
