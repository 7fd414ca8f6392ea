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
# Installs this folder into an environment that has nothing else, and checks
# that the commands are there and that Nova is not. Slow: it downloads
# OpenStackClient and what it needs, about a minute.
#
#   osc_plugin/tools/clean_install.sh
#
# PYTHON chooses the interpreter, PIP_CONSTRAINT a constraints file (pip reads
# it itself).
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT

fail() {
    echo "clean_install: $*" >&2
    exit 1
}

"${PYTHON:-python3}" -m venv "$room/venv"
bin=$room/venv/bin
# Nothing of the place it is run from: no PYTHONPATH, no settings of a cloud.
unset PYTHONPATH PYTHONHOME "${!OS_@}"
cd "$room"
# What an earlier build left would go into this one.
rm -rf "$here/build"
"$bin/pip" install -q --disable-pip-version-check "$here"

for command in 'list' 'show' 'queue list'; do
    # Several words on purpose.
    # shellcheck disable=SC2086
    "$bin/openstack" gpu lease $command --help > help.txt ||
        fail "openstack gpu lease $command --help does not work"
    grep -q "^usage: openstack gpu lease $command" help.txt ||
        fail "openstack gpu lease $command --help says: $(head -3 help.txt)"
done

"$bin/pip" list --format=freeze > installed.txt
if grep -i -E '^(openstack-)?nova' installed.txt; then
    fail 'Nova was installed'
fi
for module in nova nova_gpu_lease; do
    if "$bin/python" -c "import $module" 2> /dev/null; then
        fail "$module can be imported"
    fi
done

# The tests too: they must not need anything else from the repository.
"$bin/pip" install -q --disable-pip-version-check \
    -r "$here/test-requirements.txt"
"$bin/python" -m unittest discover \
    -s "$("$bin/python" -c \
        'from gpu_lease_client import tests; print(tests.__path__[0])')" \
    -t "$("$bin/python" -c \
        'import gpu_lease_client as c, os.path as p
print(p.dirname(c.__path__[0]))')"

grep -i -E '^(python-nova-gpu-lease-client|python-openstackclient|openstacksdk)=' \
    installed.txt
echo 'clean_install: the commands are there and Nova is not'
