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

"""Changes which driver has a function, now.

``driver_override`` names the one driver that may bind a function: other
devices with the same ids are left alone, as is a USB controller of the host
when the one of a card is taken from the same driver.
"""

import contextlib

from gpu_host_prep import exceptions
from gpu_host_prep import pci
from gpu_host_prep.writers import modules

_DRIVERS = '/sys/bus/pci/drivers'
_PROBE = '/sys/bus/pci/drivers_probe'


def needed(selection):
    """The targets that their driver does not have yet."""
    return [target for target in selection.targets
            if target.function.driver != target.driver]


def bind(root, targets):
    """Give functions to the drivers that hold them for guests.

    The last function of a card goes first: sound and USB depend on the power
    of the graphics. When one fails, those before it are given back.

    :raises: HostPrepError with what failed
    """
    for driver in dict.fromkeys(target.driver for target in targets):
        if not root.exists(f'{_DRIVERS}/{driver}'):
            root.run('modprobe', driver)
    done = []
    try:
        for target in sorted(targets, key=lambda each: each.address,
                             reverse=True):
            done.append(target)
            move(root, target.address, target.driver)
    except exceptions.HostPrepError as error:
        lost = _undo(root, reversed(done))
        raise exceptions.HostPrepError(
            f'{error} {lost or "The functions were given back."}') from error


def _undo(root, targets):
    lost = []
    for target in targets:
        function = target.function
        try:
            move(root, function.address, function.driver,
                 function.driver_override)
        except exceptions.HostPrepError as error:
            lost.append(str(error))
    return ' '.join(lost)


def move(root, address, driver, override=''):
    """Give one function to a driver, or to none.

    :param driver: the driver; None to leave the function without one
    :param override: what ``driver_override`` says afterwards; the default is
        the driver itself when it holds devices for guests
    :raises: HostPrepError if the driver does not have it in the end
    """
    path = f'{pci.DEVICES}/{address}'
    now = root.link_name(f'{path}/driver')
    if override == '':
        override = driver
    # An empty line takes an override back.
    root.tell(f'{path}/driver_override', f'{override or ""}\n')
    if now == driver:
        return
    if now is not None:
        root.tell(f'{path}/driver/unbind', address)
    if driver is None:
        return
    root.tell(_PROBE, address)
    now = root.link_name(f'{path}/driver')
    if now is None and root.exists(f'{_DRIVERS}/{driver}'):
        root.tell(f'{_DRIVERS}/{driver}/bind', address)
        now = root.link_name(f'{path}/driver')
    if now != driver:
        raise exceptions.HostPrepError(
            f'{address} should be bound to {driver} and is bound to '
            f'{now or "no driver"}; the end of the kernel\'s log (dmesg) may '
            'say why.')


def give_back(root, function, driver, override):
    """Give a function to the driver that it had before us.

    :param driver: the driver; None if it had none
    :raises: HostPrepError if that driver does not take it
    """
    if driver is not None and not root.exists(f'{_DRIVERS}/{driver}'):
        # A driver is not always called like its module.
        for module in modules.native(function):
            with contextlib.suppress(exceptions.HostPrepError):
                root.run('modprobe', module)
    move(root, function.address, driver, override)
