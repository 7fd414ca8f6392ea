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


"""What nova-gpu-lease-status checks in the options of this machine.

Databases, files and running services are checked in
:mod:`nova_gpu_lease.cmd.status`.
"""

from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading as ks_loading
from nova.conf import service_token
from nova import exception as nova_exception
from nova.pci import request as pci_request
from nova.scheduler import filters
from nova.scheduler import weights
from oslo_upgradecheck import upgradecheck

from nova_gpu_lease.conf import CONF
from nova_gpu_lease import exception
from nova_gpu_lease import secrets

FILTER = 'nova_gpu_lease.scheduler.filters.GPULeaseFilter'
STOCK_FILTER = 'PciPassthroughFilter'
WEIGHER = 'nova_gpu_lease.scheduler.weights.GPULeaseWeigher'
ALL_WEIGHERS = 'nova.scheduler.weights.all_weighers'


def ok():
    return upgradecheck.Result(upgradecheck.Code.SUCCESS)


def warning(text, *args):
    return upgradecheck.Result(upgradecheck.Code.WARNING, text % args)


def failure(text, *args):
    return upgradecheck.Result(upgradecheck.Code.FAILURE, text % args)


class OptionChecks(upgradecheck.UpgradeCommands):
    """Each method checks one thing; none stops the others."""

    def enabled_filters(self):
        """GPULeaseFilter must stand in for PciPassthroughFilter.

        Without it a new server takes the device that is next for a waiting
        one. With both, the stock filter refuses planned hosts whose devices
        it thinks are used.
        """
        enabled = CONF.filter_scheduler.enabled_filters
        if FILTER.rpartition('.')[2] not in enabled:
            return failure(
                'GPULeaseFilter is not enabled. Put it into '
                '[filter_scheduler] enabled_filters, in place of %s, and '
                'restart nova-scheduler.', STOCK_FILTER)
        if STOCK_FILTER in enabled:
            return failure(
                'Take %s out of [filter_scheduler] enabled_filters: '
                'GPULeaseFilter does its work. Restart nova-scheduler.',
                STOCK_FILTER)
        return ok()

    def available_filters(self):
        """Nova must find GPULeaseFilter, and still its own filters.

        Setting available_filters replaces Nova's default, so it is easily
        left without the stock ones; nova-scheduler does not start then.
        """
        names = CONF.filter_scheduler.available_filters
        try:
            found = {cls.__name__: '%s.%s' % (cls.__module__, cls.__name__)
                     for cls in filters.HostFilterHandler()
                     .get_matching_classes(names)}
        except (ImportError, nova_exception.ClassNotFound) as exc:
            return failure('[filter_scheduler] available_filters cannot be '
                           'loaded: %s', exc)
        if found.get('GPULeaseFilter') != FILTER:
            return failure(
                'Add the line "available_filters = %s" to '
                '[filter_scheduler], beside '
                '"available_filters = nova.scheduler.filters.all_filters".',
                FILTER)
        missing = sorted(set(CONF.filter_scheduler.enabled_filters) -
                         set(found))
        if missing:
            return failure(
                'Enabled but not available: %s. Add the line '
                '"available_filters = nova.scheduler.filters.all_filters" '
                'to [filter_scheduler].', ', '.join(missing))
        return ok()

    def weight_classes(self):
        """GPULeaseWeigher must be loaded, beside Nova's weighers.

        It puts each server of a request on the host that was planned for
        it. Setting weight_classes replaces Nova's default, so it is easily
        left without the stock weighers.
        """
        names = CONF.filter_scheduler.weight_classes
        wanted = '%s,%s' % (ALL_WEIGHERS, WEIGHER)
        try:
            found = {'%s.%s' % (cls.__module__, cls.__name__)
                     for cls in weights.HostWeightHandler()
                     .get_matching_classes(names)}
        except (ImportError, nova_exception.ClassNotFound) as exc:
            return failure('[filter_scheduler] weight_classes cannot be '
                           'loaded: %s', exc)
        if WEIGHER not in found:
            return failure('GPULeaseWeigher is missing: set '
                           '[filter_scheduler] weight_classes = %s.', wanted)
        if ALL_WEIGHERS not in names:
            return warning("Not all of Nova's weighers are on. If that is "
                           'not what you want, set [filter_scheduler] '
                           'weight_classes = %s.', wanted)
        return ok()

    def host_subset_size(self):
        """Nova must take the best host, which is the planned one."""
        size = CONF.filter_scheduler.host_subset_size
        if size != 1:
            return failure(
                '[filter_scheduler] host_subset_size is %d. Set it to 1: '
                'with more, Nova picks hosts at random instead of the '
                'planned ones.', size)
        return ok()

    def pci_aliases(self):
        """There must be a PCI alias for the GPUs.

        A flavor names its GPUs by alias; [gpu_lease] aliases says which of
        them are GPUs, and a name that is misspelt there means none.
        """
        try:
            aliases = pci_request.get_alias_from_config()
        except nova_exception.PciInvalidAlias as exc:
            return failure('[pci] alias: %s', exc.format_message())
        if not aliases:
            return failure(
                '[pci] alias is not set. Define one for your GPUs, the same '
                'on nova-api, nova-conductor, nova-scheduler and '
                'nova-compute.')
        unknown = sorted(set(CONF.gpu_lease.aliases) - set(aliases))
        if unknown:
            return failure(
                '[gpu_lease] aliases has %s, but [pci] alias only %s.',
                ', '.join(unknown), ', '.join(sorted(aliases)))
        return ok()

    def encryption_keys(self):
        """Passwords, files and tokens of servers that wait need a key."""
        try:
            secrets.encrypt({})
        except exception.NoEncryptionKey:
            return warning(
                '[gpu_lease] encryption_keys is not set: servers with an '
                'admin password or files of their own are refused, and those '
                'of users without a Keystone trust (application credentials) '
                'cannot be started or shelved. Make one with '
                '"nova-gpu-lease-manage keys generate", and set it on '
                'nova-api and nova-conductor.')
        except exception.InvalidEncryptionKey as exc:
            return failure('%s', exc.format_message())
        return ok()

    def service_user(self):
        """Nova must have a user of its own.

        The conductor shelves servers hours after the user's token has
        expired: the user trusts Nova's service user, or Keystone accepts
        the old token beside a service token.
        """
        group = service_token.SERVICE_USER_GROUP
        try:
            auth = ks_loading.load_auth_from_conf_options(CONF, group)
        except ks_exc.MissingRequiredOptions as exc:
            return failure('[%s] is not complete: %s.', group, exc)
        if auth is None or not CONF.service_user.send_service_user_token:
            return failure(
                '[%s] is not set. Give it the credentials of the user nova '
                'and send_service_user_token = true; without, servers '
                'cannot be shelved when their lease ends.', group)
        return ok()

    _upgrade_checks = (
        ('Enabled filters', enabled_filters),
        ('Available filters', available_filters),
        ('Weighers', weight_classes),
        ('Host subset size', host_subset_size),
        ('PCI aliases', pci_aliases),
        ('Encryption keys', encryption_keys),
        ('Service user', service_user),
    )
