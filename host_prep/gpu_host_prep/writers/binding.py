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

"""The files that bind each function by its address when the host boots.

One script does it: the initramfs runs it before any driver is loaded, and
udev runs it for each function that appears, also for those whose driver is
part of the kernel and had them first, as xhci_hcd is on many hosts. It looks
at the ids too: addresses change when cards are added or taken out.
"""

from gpu_host_prep import merge

SCRIPT = '/etc/gpu-host-prep/bind'
RULES = '/etc/udev/rules.d/40-gpu-host-prep.rules'
_UDEV = '/run/udev/control'

_FUNCTIONS = '''\
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# mine ADDRESS VENDOR DEVICE: whether it is there and the expected one.
mine() {
    device=/sys/bus/pci/devices/$1
    [ -e "$device/driver_override" ] || return 1
    read -r vendor < "$device/vendor"
    read -r product < "$device/device"
    [ "$vendor:$product" = "$2:$3" ] && return 0
    echo "gpu-host-prep: $1 is $vendor:$product, not $2:$3; left alone" \\
        > /dev/kmsg
    return 1
}

# reserve ADDRESS VENDOR DEVICE DRIVER: no other driver may have it.
reserve() {
    mine "$1" "$2" "$3" || return 0
    echo "$4" > "$device/driver_override"
}

# take ADDRESS VENDOR DEVICE DRIVER: give it to the driver, if that is loaded.
take() {
    mine "$1" "$2" "$3" || return 0
    [ -d "/sys/bus/pci/drivers/$4" ] || return 0
    now=$(readlink "$device/driver")
    now=${now##*/}
    [ "$now" = "$4" ] && return 0
    [ -z "$now" ] || echo "$1" > "$device/driver/unbind"
    echo "$1" > /sys/bus/pci/drivers_probe
    now=$(readlink "$device/driver")
    echo "gpu-host-prep: $1 has the driver ${now##*/}" > /dev/kmsg
}
'''


def script(selection):
    """The lines of the script but for its first."""
    lines = [merge.HEADER,
             '# Without arguments: all functions; else only those addresses.',
             *_FUNCTIONS.splitlines(), '', 'each() {']
    for target in selection.targets:
        function = target.function
        lines += [
            f'    wanted {target.address} && "$what" {target.address} '
            f'0x{function.vendor} 0x{function.device} {target.driver}']
    return [
        *lines, '    :', '}', '', 'addresses=$*',
        'wanted() {',
        '    [ -z "$addresses" ] && return 0',
        '    case " $addresses " in *" $1 "*) return 0 ;; esac',
        '    return 1', '}', '',
        'what=reserve', 'each',
        *(f'modprobe -q {name}' for name in selection.drivers),
        'what=take', 'each', 'exit 0']


def files(selection):
    rules = [merge.HEADER]
    for target in selection.targets:
        function = target.function
        rules.append(
            f'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{target.address}", '
            f'ATTR{{vendor}}=="0x{function.vendor}", '
            f'ATTR{{device}}=="0x{function.device}", '
            f'ATTR{{driver_override}}="{target.driver}", '
            f'RUN+="/bin/sh {SCRIPT} {target.address}"')
    return [merge.owned(SCRIPT, ['#!/bin/sh', *script(selection)], 0o755),
            merge.owned(RULES, rules)]


def commands(root):
    """What makes a running udev read its rules at once.

    By itself it looks for new ones at most every three seconds, and a device
    that appears meanwhile goes to its old driver.
    """
    if root.has_program('udevadm') and root.exists(_UDEV):
        return (('udevadm', 'control', '--reload'),)
    return ()
