#!/bin/sh
# Flavors for leased GPUs, as an example: change names, sizes and the alias
# (see [pci] alias in nova.conf), then run it as an administrator.
set -eu

alias=${1:-a100}

# One GPU; two hours unless the server says otherwise, at most a week.
openstack flavor create gpu --vcpus 8 --ram 65536 --disk 100 \
    --property pci_passthrough:alias="$alias:1" \
    --property gpu_lease:default_duration=2h \
    --property gpu_lease:max_duration=7d

# Two GPUs in one server: both are on the same host.
openstack flavor create gpu2 --vcpus 16 --ram 131072 --disk 100 \
    --property pci_passthrough:alias="$alias:2" \
    --property gpu_lease:default_duration=2h \
    --property gpu_lease:max_duration=7d

# For jobs that power their server off when they are done (see etc/images): two
# minutes later the lease ends and the server is shelved with its results.
openstack flavor create gpu-job --vcpus 8 --ram 65536 --disk 100 \
    --property pci_passthrough:alias="$alias:1" \
    --property gpu_lease:default_duration=1d \
    --property gpu_lease:max_duration=7d \
    --property gpu_lease:end_when_off=2m

# For short tries: the user must say how long, and the server is deleted at
# the end.
openstack flavor create gpu-try --vcpus 4 --ram 32768 --disk 50 \
    --property pci_passthrough:alias="$alias:1" \
    --property gpu_lease:required=true \
    --property gpu_lease:max_duration=1h \
    --property gpu_lease:on_expiry=delete

# For work that can be interrupted, where [gpu_lease] priorities has
# "spare:-100:preemptible": its servers use what nobody else wants.
#openstack flavor create gpu-spare --vcpus 8 --ram 65536 --disk 100 \
#    --property pci_passthrough:alias="$alias:1" \
#    --property gpu_lease:default_duration=1d \
#    --property gpu_lease:priority=spare
