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
# The main job, shown on real services: real Nova shares four GPUs among six
# servers. Brings a private cloud up on this machine, tells the story with the
# real "openstack" commands, checks each step, and takes the cloud down.
#
#   tools/demo.sh          about five minutes on a fresh Debian 12, as root
#   tools/demo.sh --keep   leaves the cloud running and says how to use it
#
set -euo pipefail

cd "$(dirname "$0")/.."
keep=
case ${1-} in
'') ;;
--keep) keep=yes ;;
*)
    echo "usage: tools/demo.sh [--keep]" >&2
    exit 2
    ;;
esac

tools/setup.sh
. tools/env.sh
state=${DEMO_STATE_DIR:-$PWD/.devcloud/demo}
devcloud=(nova-gpu-lease-devcloud --state-dir "$state")

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

fail() {
    printf '\nFAILED: %s\n' "$*" >&2
    exit 1
}

# as USER COMMAND...: print an openstack command, then run it as that user.
as() {
    local rc=$state/demo-$1.rc
    shift
    printf '\n\033[32m$ %s\033[0m\n' "$*"
    (. "$rc" && timeout 120 "$@")
}

# quiet USER COMMAND...: the same without the print, for the checks.
quiet() {
    local rc=$state/demo-$1.rc
    shift
    (. "$rc" && timeout 120 "$@")
}

status_of() { quiet admin openstack server list --all-projects --name "^$1\$" \
    -f value -c Status; }

# lease_field USER SERVER FIELD: of the newest lease of that user's server.
lease_field() { quiet "$1" openstack gpu lease show "$2" -f value -c "$3"; }

# wait_for SECONDS WHAT COMMAND...: until the command's output is WHAT.
wait_for() {
    local end=$((SECONDS + $1)) want=$2 got
    shift 2
    while :; do
        got=$("$@" || true)
        [ "$got" = "$want" ] && return
        [ $SECONDS -lt $end ] || fail "'$*' says '$got', not '$want'"
        sleep 0.5
    done
}

finish() {
    local status=$?
    if [ -n "$keep" ] && [ $status -eq 0 ]; then
        cat <<END

The cloud is left running. To use it:
  . tools/env.sh
  . <(${devcloud[*]} openrc --project alice-lab)
  openstack gpu lease list
To take it down:
  ${devcloud[*]} down
END
        return
    fi
    say "Taking the cloud down"
    "${devcloud[@]}" down || status=1
    exit $status
}

say "A private OpenStack: real services, two fake hosts with two GPUs each"
"${devcloud[@]}" down 2>/dev/null || true
trap finish EXIT
"${devcloud[@]}" up --hosts 2 --gpus-per-host 2
for user in admin:admin alice:alice-lab bob:bob-lab; do
    "${devcloud[@]}" openrc --project "${user#*:}" >"$state/demo-${user%:*}.rc"
done

say "Six GPU servers of two projects, for four GPUs"
create() {
    as "$1" openstack server create --flavor gpu --image tiny --nic none \
        --hint "gpu_lease=$3" -f value -c id -c name "$2"
}
create alice s1 1h
create bob s2 1h
create bob s3 1h
create alice s4 2m
create alice s5 1h
create bob s6 1h

say "Four run, two wait in order"
for server in s1 s2 s3 s4; do
    wait_for 60 ACTIVE status_of $server
done
work='three epochs of training'
"${devcloud[@]}" guest "$(quiet alice openstack server show s4 -f value \
    -c id)" write "$work"
echo "Alice works on s4; on its disk: $work"
as alice openstack gpu lease list
as admin openstack gpu lease queue list --all-projects
wait_for 10 1 lease_field alice s5 position
wait_for 10 2 lease_field bob s6 position
[ "$(status_of s5)" = BUILD ] || fail "s5 does not wait"
[ "$(status_of s6)" = BUILD ] || fail "s6 does not wait"

say "Bob sees his own leases only"
as bob openstack gpu lease list
if quiet bob openstack gpu lease show \
    "$(lease_field alice s1 id)" >/dev/null 2>&1; then
    fail "bob can see a lease of alice"
fi

say "Nobody gets a lease that makes no sense"
if as alice openstack server create --flavor gpu --image tiny --nic none \
    --hint gpu_lease=tomorrow bad; then
    fail "a lease until tomorrow was accepted"
fi

say "The lease of s4 ends: it is shelved with its work, s5 starts by itself"
wait_for 150 SHELVED_OFFLOADED status_of s4
wait_for 60 ACTIVE status_of s5
as alice openstack gpu lease list
as alice openstack image show s4-shelved -c name -c status -c visibility \
    -c owner
wait_for 10 active quiet alice openstack image show s4-shelved -f value \
    -c status
wait_for 10 "$(quiet alice openstack server show s4 -f value -c project_id)" \
    quiet alice openstack image show s4-shelved -f value -c owner

say "Bob deletes s2; s6 takes the GPU"
as bob openstack server delete s2
wait_for 60 ACTIVE status_of s6
as bob openstack gpu lease list

say "Alice wants s4 back: it waits in the same queue"
as alice openstack server unshelve s4
wait_for 10 1 lease_field alice s4 position
as alice openstack gpu lease show s4

say "She gives s1 back, and s4 goes on with a new lease"
as alice openstack server delete s1
wait_for 60 ACTIVE status_of s4
wait_for 20 ACTIVE lease_field alice s4 status
as alice openstack gpu lease list
found=$("${devcloud[@]}" guest "$(quiet alice openstack server show s4 \
    -f value -c id)" show | sed -n 's/^disk: //p')
echo "On the disk of s4: $found"
[ "$found" = "$work" ] || fail "the work of s4 is lost"

say "All of it held."
