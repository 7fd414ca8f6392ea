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
# What diskimage-builder does with the elements, done in a server that runs
# Ubuntu's cloud image: Packer copies the elements to it and runs this as root.
#
#   provision.sh [DIRECTORY OF THE ELEMENTS]
#
set -euo pipefail

elements=${1:-/tmp/elements}
tools=$(mktemp -d)
trap 'rm -rf "$tools" "$elements"' EXIT

# The commands that diskimage-builder gives to elements.
cat >"$tools/install-packages" <<'SCRIPT'
#!/bin/sh
DEBIAN_FRONTEND=noninteractive exec apt-get install -y "$@"
SCRIPT
chmod +x "$tools/install-packages"
export PATH=$tools:$PATH DISTRO_NAME=ubuntu DIB_INIT_SYSTEM=systemd
# Of the image, not of the server that happens to build it.
kernel=$(dpkg-query --show --showformat '${Package}\n' 'linux-image-*' |
    grep -E '^linux-image-(generic|virtual)' | head -n 1)
export DIB_UBUNTU_KERNEL=${kernel/virtual/generic}

cloud-init status --wait || true
# shellcheck source=/dev/null
. "$elements/nvidia-cuda/environment.d/09-nvidia-cuda.bash"
read -r _ _ keyring location <"$elements/nvidia-cuda/source-repository-cuda-keyring"
curl --fail --location --retry 3 --output "$keyring" "$location"
"$elements/nvidia-cuda/pre-install.d/50-nvidia-repository"
"$elements/nvidia-cuda/install.d/60-nvidia-cuda"
echo 'blacklist nouveau' >/etc/modprobe.d/disable-nouveau.conf

cp -a "$elements/gpu-lease-job/static/." /
install -m 0644 -t /etc/systemd/system \
    "$elements/gpu-lease-job/init-scripts/systemd/gpu-lease-job.service"
"$elements/gpu-lease-job/post-install.d/80-gpu-lease-job"

update-initramfs -u -k all
# Every server made from the image gets an identity of its own. Ubuntu's image
# grows its root by itself.
cloud-init clean --logs --machine-id
rm -f /etc/ssh/ssh_host_*
apt-get clean
