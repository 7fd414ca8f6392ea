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

import os

import hypothesis

# Each run tries the same examples, so that what fails is what was changed.
# HYPOTHESIS_EXAMPLES=1000 looks for new ones, and that many of each.
_EXAMPLES = os.environ.get('HYPOTHESIS_EXAMPLES')
hypothesis.settings.register_profile('same', derandomize=True, database=None)
hypothesis.settings.register_profile(
    'search', max_examples=int(_EXAMPLES or 100))
hypothesis.settings.load_profile('search' if _EXAMPLES else 'same')
