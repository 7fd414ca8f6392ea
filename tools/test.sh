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
#   tools/test.sh pep8 py3        only these, one after the other
#
# The first run installs what is needed (tools/setup.sh). What a suite runs is
# said in tools/suite.sh. Exits non-zero if anything fails; leaves no process
# behind, and a suite that does has failed.
#
# Two lanes run side by side: suites in one process use the processor, clouds
# mostly wait, and go first when they do not: they tell time in seconds. What
# the second lane prints comes when one of its suites is done.
#
set -uo pipefail

cd "$(dirname "$0")/.."
first=("$@")
second=()
if [ ${#first[@]} = 0 ]; then
    first=(pep8 genconfig genpolicy docs py3 functional functional-eventlet
        host)
    second=(cloud soak)
    # A taste of it; the whole is "tox -e soak".
    export SOAK_SECONDS=${SOAK_SECONDS:-180}
fi
# Minutes a suite may take before it counts as hung.
limit=$((60 + ${SOAK_SECONDS:-0} / 60))

began=$SECONDS
tools/setup.sh || exit 1
. tools/env.sh
echo "The environment took $((SECONDS - began)) s."
results=$(mktemp -d)

# run SUITE: its verdict goes to a file of its name.
run() {
    local start=$SECONDS verdict=passed nice=10
    case $1 in
    cloud | soak) nice=0 ;;
    esac
    echo
    echo "==== $1"
    nice -n $nice tools/contain.py $limit tools/suite.sh "$1" || verdict=FAILED
    printf '%-20s %-7s %5d s\n' "$1" "$verdict" $((SECONDS - start)) \
        >"$results/$1"
}

second_lane() {
    local suite
    for suite in "${second[@]}"; do
        run "$suite" >"$results/$suite.output" 2>&1
        cat "$results/$suite.output"
    done
}

second_lane &
lane=$!
trap 'kill $lane 2>/dev/null; wait; rm -rf "$results"' EXIT
for suite in "${first[@]}"; do
    run "$suite" 2>&1 | tee "$results/$suite.output"
done
wait $lane

echo
cd "$results" && cat "${first[@]}" "${second[@]}"
echo "All of it took $((SECONDS - began)) s."
failed=$(grep -l FAILED "${first[@]}" "${second[@]}")
if [ -n "$failed" ]; then
    # Once more what failed, where who reads only the end will find it.
    grep -h ': failed: ' *.output
    echo "FAILED:" $failed
    exit 1
fi
echo "All suites passed."
