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


"""nova-scheduler with one more RPC namespace, and the check of its hooks.

All that we use of Nova's scheduler beyond its documented interfaces is named
in TESTED; a Nova where one of them looks different is refused at start.
"""

from nova import objects
from nova.pci import stats as pci_stats
from nova.scheduler import filters as nova_filters
from nova.scheduler import host_manager
from nova.scheduler import manager
from nova.scheduler import request_filter
from nova.scheduler import utils

from oslo_log import log as logging

from nova_gpu_lease.conf import CONF
from nova_gpu_lease import hooks
from nova_gpu_lease.scheduler import filters
from nova_gpu_lease.scheduler import survey
from nova_gpu_lease.scheduler import view

LOG = logging.getLogger(__name__)

RPC_MAJOR = '4'

#: (owner, name, parameters): see hooks.check.
TESTED = (
    (host_manager.HostManager, '_get_computes_for_cells',
     ('context', 'cells', 'compute_uuids')),
    (host_manager.HostManager, '_get_host_states',
     ('context', 'compute_nodes', 'services')),
    (host_manager.HostManager, 'get_filtered_hosts',
     ('hosts', 'spec_obj', 'index')),
    (nova_filters.BaseHostFilter, 'filter_all',
     ('filter_obj_list', 'spec_obj')),
    (nova_filters.BaseHostFilter, '_filter_one', ('obj', 'spec')),
    (nova_filters.CandidateFilterMixin, 'filter_candidates',
     ('host_state', 'filter_func')),
    (pci_stats.PciDeviceStats, 'support_requests',
     ('requests', 'provider_mapping', 'numa_cells')),
    (pci_stats.PciDeviceStats, 'apply_requests',
     ('requests', 'provider_mapping', 'numa_cells')),
    (request_filter, 'process_reqspec', ('ctxt', 'request_spec')),
    (utils, 'resources_from_request_spec',
     ('ctxt', 'spec_obj', 'host_manager', 'enable_pinning_translate')),
    (utils, 'setup_instance_group', ('context', 'request_spec')),
)


def check_nova():
    """Refuse a Nova that this package was not written for.

    :raises: exception.UnsupportedNova
    """
    hooks.check(manager.SchedulerManager, RPC_MAJOR, TESTED)


class GPULeaseSchedulerManager(manager.SchedulerManager):
    """Nova's scheduler that also answers surveys."""

    def __init__(self, *args, **kwargs):
        check_nova()
        if not CONF.pci.alias:
            LOG.warning('[pci] alias is not set: no device is known as a '
                        'GPU. Set it as it is on nova-api.')
        super().__init__(*args, **kwargs)
        self.additional_endpoints.append(survey.Endpoint(self))

    def select_destinations(self, context, *args, **kwargs):
        """See the base class.

        Placement offers the first thousand candidates only
        ([scheduler] max_placement_results), and combinations of devices are
        many: the planned host might never be among them.
        """
        spec = kwargs.get('spec_obj')
        if (isinstance(spec, objects.RequestSpec) and
                filters.asks_for_gpu(spec) and
                not utils.request_is_rebuild(spec)):
            _name_host(spec, view.planned_host(spec.instance_uuid))
        return super().select_destinations(context, *args, **kwargs)


def _name_host(spec, host):
    """Have Placement asked for one host only, if its owner named none."""
    destination = spec.requested_destination
    if host is None or spec.force_hosts or spec.force_nodes or (
            destination and ('host' in destination and destination.host or
                             'node' in destination and destination.node)):
        return
    if not destination:
        destination = spec.requested_destination = objects.Destination()
    destination.host = host
