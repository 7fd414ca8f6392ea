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
# The one place that says what each suite runs; tox and tools/test.sh call it.
# The environment is the one that tools/setup.sh has made.
#
#   tools/suite.sh SUITE [arguments for the suite's runner]
#   tools/suite.sh py3 tests.unit.test_terms      (a regular expression)
#
set -euo pipefail

cd "$(dirname "$0")/.."
. tools/env.sh
suite=${1:?usage: tools/suite.sh SUITE [arguments]}
shift

# run_tests LABEL TEST_PATH TOP_DIR [arguments of "stestr run"]
# The runner's own output, then one line: LABEL: N passed, N failed, N skipped.
run_tests() {
    local label=$1 path=$2 top=$3 repo=.stestr/$1 before after status=0
    shift 3
    mkdir -p "$repo"
    before=$(cat "$repo/.stestr/next-stream" 2>/dev/null || true)
    stestr --repo-url "$PWD/$repo" --test-path "$path" --top-dir "$top" \
        run --suppress-attachments "$@" || status=$?
    after=$(cat "$repo/.stestr/next-stream" 2>/dev/null || true)
    if [ "$before" = "$after" ]; then
        printf '\n%s: 0 passed, 1 failed (no test could be loaded)\n' "$label"
        return 1
    fi
    stestr --repo-url "$PWD/$repo" last --subunit |
        python3 tools/closing_line.py "$label"
    return "$status"
}

# functional yes|no (native threads or eventlet) LABEL [arguments]
functional() {
    export OS_NOVA_DISABLE_EVENTLET_PATCHING=$1
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-300}
    local label=$2
    shift 2
    # One more than there are processors: at times a test only waits.
    run_tests "$label" tests/functional . --concurrency $(($(nproc) + 1)) "$@"
}

cloud_long='test_credentials|clocks_half_a_minute'
cloud_long+='|CrashTest.test_(start|unshelve|end_by_delete|repeated_build)'

case $suite in
pep8)
    bash -n tools/*.sh .ci/run
    flake8 "$@"
    echo "pep8: no complaints"
    ;;
py3)
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-120}
    status=0
    run_tests unit tests/unit . "$@" || status=$?
    # A regular expression was given: it is for the first only.
    if [ $# -eq 0 ]; then
        run_tests osc_plugin osc_plugin/gpu_lease_client/tests osc_plugin ||
            status=$?
        run_tests host_prep host_prep/gpu_host_prep/tests host_prep ||
            status=$?
    fi
    exit "$status"
    ;;
osc-plugin)
    run_tests osc_plugin osc_plugin/gpu_lease_client/tests osc_plugin "$@"
    ;;
host-prep)
    run_tests host_prep host_prep/gpu_host_prep/tests host_prep "$@"
    ;;
functional)
    functional yes functional "$@"
    ;;
functional-eventlet)
    # What depends on threads; what Nova decides is the same as above.
    functional no functional-eventlet \
        "${@:-tests.functional.test_(compute|conductor|leader|smoke)}"
    ;;
cloud)
    # Real services on this machine: one test at a time, in order. Those that
    # mostly wait are in "cloud-long".
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-900}
    # The whole number, which takes longer, is the suite "many".
    export MANY_REQUESTS=${MANY_REQUESTS:-40}
    if [ $# -eq 0 ]; then
        set -- --exclude-regex "$cloud_long"
    fi
    run_tests cloud tests/cloud . --serial "$@"
    ;;
cloud-long)
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-1800}
    run_tests cloud-long tests/cloud . --serial "${@:-$cloud_long}"
    ;;
many)
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-3600}
    run_tests many tests/cloud . --serial "${@:-test_many}"
    ;;
soak)
    # Seconds that it goes on, the start of the cloud not counted.
    export SOAK_SECONDS=${SOAK_SECONDS:-1800}
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-$((SOAK_SECONDS + 900))}
    run_tests soak tests/soak . --serial "$@"
    ;;
host)
    # Two emulated machines at a time. A machine in a machine takes longer than
    # all others together: "host-inner".
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-900}
    run_tests host tests/host . --worker-file tests/host/workers.yaml \
        --exclude-regex test_inner_guest "$@"
    ;;
host-inner)
    export OS_TEST_TIMEOUT=${OS_TEST_TIMEOUT:-1800}
    run_tests host-inner tests/host . --serial test_inner_guest "$@"
    ;;
perf)
    run_tests perf perf . --serial "$@"
    ;;
cover)
    coverage erase
    export PYTHON='coverage run --source nova_gpu_lease --parallel-mode'
    run_tests unit tests/unit . "$@"
    coverage combine -q
    coverage html -q -d cover
    coverage report --skip-covered
    ;;
genconfig)
    oslo-config-generator \
        --config-file etc/nova-gpu-lease-config-generator.conf "$@"
    ;;
genpolicy)
    oslopolicy-sample-generator \
        --config-file etc/nova-gpu-lease-policy-generator.conf "$@"
    ;;
docs)
    rm -rf doc/build
    sphinx-build -W --keep-going -q -b html -d doc/build/doctrees \
        doc/source doc/build/html "$@"
    echo "docs: doc/build/html/index.html"
    ;;
releasenotes)
    rm -rf releasenotes/build
    sphinx-build -W --keep-going -q -b html -d releasenotes/build/doctrees \
        releasenotes/source releasenotes/build/html "$@"
    echo "releasenotes: releasenotes/build/html/index.html"
    ;;
venv)
    "$@"
    ;;
*)
    echo "tools/suite.sh: no suite is called '$suite'" >&2
    exit 2
    ;;
esac
