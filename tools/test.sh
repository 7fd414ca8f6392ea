#!/usr/bin/env bash
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

#
# All tests, on a new machine or an old one.
#
#   tools/test.sh                 every suite of the list below
#   tools/test.sh pep8 py3        only these
#
# The first run installs what is needed (tools/setup.sh). What a suite runs is
# said in tools/suite.sh. Exits non-zero if anything fails; leaves no process
# behind, and a suite that does has failed.
#
set -uo pipefail

cd "$(dirname "$0")/.."
suites=("$@")
if [ ${#suites[@]} = 0 ]; then
    suites=(pep8 genconfig genpolicy docs py3 functional functional-eventlet
            cloud)
fi
# Minutes a suite may take before it counts as hung.
limit=20

began=$SECONDS
tools/setup.sh || exit 1
. tools/env.sh
echo "The environment took $((SECONDS - began)) s."

failed=()
summary=()
for suite in "${suites[@]}"; do
    echo
    echo "==== $suite"
    start=$SECONDS
    verdict=passed
    tools/contain.py $limit tools/suite.sh "$suite" ||
        { verdict=FAILED; failed+=("$suite"); }
    summary+=("$(printf '%-20s %-7s %5d s' "$suite" "$verdict" \
        $((SECONDS - start)))")
done

echo
printf '%s\n' "${summary[@]}"
echo "All of it took $((SECONDS - began)) s."
if [ ${#failed[@]} != 0 ]; then
    echo "FAILED: ${failed[*]}"
    exit 1
fi
echo "All suites passed."
