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
# Make the environment that tests, demo and devcloud use, or bring it up to
# date; nothing to do takes a second.
#
#   tools/setup.sh        .venv, and the Debian packages that are missing
#
#   VENV=DIR              another place for the environment
#   PYTHON=/usr/bin/python3.12   another Python, 3.11 or later
#
# Debian packages are installed by root only; anybody else is told which ones
# are missing. What they would start as services is not started.
#
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

say() {
    echo "setup: $*" >&2
}

can_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

# apt ARGUMENTS: quiet, unless it fails.
apt() {
    local log
    log=$(mktemp)
    say "apt-get $*"
    if ! DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
        -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" \
        >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# debian PACKAGE...: install, or say what to install and stop.
debian() {
    if ! can_install; then
        say "missing; as root: apt-get install --no-install-recommends $*"
        return 1
    fi
    apt update
    apt install "$@"
}

# Whether a Python can make environments and build extensions (uWSGI).
usable() {
    "$1" - >/dev/null 2>&1 <<'PROGRAM'
import ensurepip, os, sys, sysconfig, venv
assert sys.version_info >= (3, 11)
assert os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h'))
PROGRAM
}

# The one that is asked for, else the one the environment has already.
find_python() {
    local candidate
    for candidate in ${PYTHON:-"$venv/bin/python" python3 /usr/bin/python3}
    do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

base_packages() {
    local missing=()
    command -v git >/dev/null || missing+=(git)
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    command -v ps >/dev/null || missing+=(procps)
    find_python >/dev/null || missing+=(python3 python3-venv python3-dev)
    [ ${#missing[@]} = 0 ] || debian "${missing[@]}"
}

# What decides on the contents of the environment.
wanted() {
    "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
    echo "$root"
    cat constraints.txt requirements.txt test-requirements.txt setup.cfg \
        pyproject.toml osc_plugin/setup.cfg osc_plugin/*requirements.txt \
        host_prep/setup.cfg host_prep/*requirements.txt
}

make_environment() {
    local stamp
    stamp=$(wanted | sha256sum)
    if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    # Without a history to ask (a tarball, another user's clone) pbr needs
    # to be told the version.
    if ! git rev-parse -q --verify HEAD >/dev/null 2>&1; then
        export PBR_VERSION=${PBR_VERSION:-0.0.1}
    fi
    say "installing Nova and the other services into $venv (about 2 minutes)"
    # Its own Python may be what makes it anew.
    python=$("$python" -c 'import sys; print(sys._base_executable)')
    rm -rf "$venv"
    "$python" -m venv "$venv"
    if ! "$venv/bin/pip" install -c constraints.txt -r requirements.txt \
        -r test-requirements.txt -e '.[devcloud]' -e ./osc_plugin \
        -e ./host_prep >"$venv/pip.log" 2>&1; then
        tail -n 30 "$venv/pip.log" >&2
        say "pip failed; its whole output is in $venv/pip.log"
        return 1
    fi
    echo "$stamp" >"$venv/.stamp"
}

# MariaDB and RabbitMQ: the devcloud knows which programs it needs.
service_packages() {
    local packages='from nova_gpu_lease.devcloud import packages' missing
    missing=$("$venv/bin/python" -c "$packages; print(*packages.missing())")
    [ -n "$missing" ] || return 0
    if can_install; then
        apt update
        say "apt-get install $missing"
        "$venv/bin/python" -c "$packages; packages.install('$venv/apt.log')"
    else
        say "no cloud can be started without: $missing"
        say "as root: apt-get install --no-install-recommends $missing"
    fi
}

cd "$root"
base_packages
python=$(find_python)
mkdir -p "$(dirname "$venv")"
# One at a time: somebody may start the demo and the tests at once.
exec 9>"$venv.lock"
flock 9
make_environment
service_packages
