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


"""The survey: what there is, and who could run where but for the devices.

The conductor asks before it plans. Nothing here decides who starts.
"""

from keystoneauth1 import exceptions as ks_exc
import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.scheduler import utils
from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_serialization import jsonutils

from nova_gpu_lease.scheduler import amounts
from nova_gpu_lease.scheduler import eligibility
from nova_gpu_lease.scheduler import landscape
from nova_gpu_lease.scheduler import places
from nova_gpu_lease.scheduler import rpcapi
from nova_gpu_lease import states
from nova_gpu_lease import terms

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

#: What these say about a request stays true.
_HOPELESS = (nova_exception.NoValidHost,
             nova_exception.RequestFilterFailed,
             nova_exception.UnsupportedPolicyException)


class Endpoint:
    """The RPC methods of nova-scheduler in our namespace."""

    target = messaging.Target(namespace=rpcapi.NAMESPACE, version='1.0')

    def __init__(self, manager):
        """Make an endpoint.

        :param manager: the SchedulerManager it is added to.
        """
        self.manager = manager
        self.reader = landscape.DeviceReader()
        self.amounts = amounts.Amounts()
        self.places = places.Places()

    def survey(self, context, requests):
        """Look at all nodes with devices and at some waiting requests.

        :param context: a RequestContext; only its ids are used.
        :param requests: a list of {'uuid', 'server_id' (of its first
            server), 'num_servers', 'kind', and if needed 'ignore_hosts': a
            list of host names, 'host' and 'node': the one it may go to}.
        :returns: a dict of

            * 'nodes': {node uuid: {'host', 'node', 'cell', 'up', 'disabled',
              'pools': [{'key', 'free', 'total', 'aliases'}], 'promised':
              [[request uuid, alias, number of devices]] not counted as
              free, 'held': [[server uuid, key of a pool, number of devices]]
              that servers have, or are being built with, 'claimed': number
              of devices not counted as free that somebody claimed in
              Placement and has not taken, 'amounts': {server uuid: {resource
              class: amount}} of those in 'held' that have their devices,
              'room': {resource class: free amount} or None while 'amounts'
              are not known, 'place' and 'steps': where it is in the
              network, see planner.Node}}, for every compute node with
              devices of a [pci] alias, those down or disabled too;
            * 'requests': {request uuid: {'fits': {node uuid: number of its
              servers that have room now, devices aside}, 'after': the same
              once all servers with devices have left, 'amounts': {resource
              class: amount of one server}, 'together': whether one host has
              to hold all of its servers, 'never': None or why no host could
              hold it even when empty, 'reason': what is missing when 'fits'
              is empty, else '', 'unknown': whether that could not be found
              out now}};
            * 'complete': whether every cell and Placement answered.
        """
        admin = nova_context.get_admin_context()
        view = landscape.gather(admin, self.manager, self.reader,
                                self.amounts, self.places)
        specs, cells = _load(admin, requests)
        known = {}
        answers = {}
        for request in requests:
            try:
                answers[request['uuid']] = self._answer(
                    admin, view, request, specs.get(request['server_id']),
                    cells.get(request['server_id']), known)
            except Exception:
                # One bad request must not keep the others waiting.
                LOG.exception('The survey of GPU request %s failed',
                              request['uuid'])
                answers[request['uuid']] = _no(
                    reason='The hosts could not be examined.', unknown=True)
        return {'nodes': {uuid: node.as_dict()
                          for uuid, node in view.nodes.items()},
                'requests': answers, 'complete': view.complete}

    def _answer(self, context, view, request, spec, cell, known):
        if spec is None:
            return _no(never='The server is gone.')
        try:
            _prepare(context, request, spec, cell)
            key = _signature(spec)
            if key not in known:
                known[key] = eligibility.Eligibility(
                    context, self.manager, view, spec)
            return known[key].answer(request['num_servers'])
        except _HOPELESS as exc:
            return _no(never=exc.format_message() if view.complete else None,
                       reason=exc.format_message())
        except ks_exc.ClientException as exc:
            LOG.warning('GPU request %s waits: %s', request['uuid'], exc)
            return _no(reason='A service that Nova needs does not answer.',
                       unknown=True)


def _no(never=None, reason='', unknown=False):
    return {'fits': {}, 'after': {}, 'amounts': {}, 'together': False,
            'never': never, 'reason': reason or never, 'unknown': unknown}


def _load(context, requests):
    """The specs of requests, and the cells of servers that have one.

    :returns: a tuple of {server uuid: RequestSpec} and {server uuid:
        CellMapping}.
    """
    uuids = [request['server_id'] for request in requests]
    specs = {spec.instance_uuid: spec for spec in
             objects.RequestSpec.get_by_instance_uuids(context, uuids)}
    cells = {mapping.instance_uuid: mapping.cell_mapping for mapping in
             objects.InstanceMappingList.get_by_instance_uuids(context, uuids)
             if mapping.cell_mapping and not mapping.cell_mapping.is_cell0()}
    return specs, cells


def _prepare(context, request, spec, cell):
    """Make of a stored spec what Nova schedules with."""
    if request['kind'] == states.KIND_UNSHELVE:
        spec.reset_forced_destinations()
    if cell is not None:
        # A server that is in a cell stays there.
        spec.requested_destination = objects.Destination(cell=cell)
    for name in ('host', 'node'):
        if request.get(name):
            if not spec.requested_destination:
                spec.requested_destination = objects.Destination()
            setattr(spec.requested_destination, name, request[name])
    spec.ignore_hosts = request.get('ignore_hosts') or None
    spec.requested_resources = []
    if spec.instance_group:
        utils.setup_instance_group(context, spec)


def _signature(spec):
    """Requests with the same signature fit the same hosts."""
    # The ids of device requests differ, and they are all that does.
    wanted = [(item.alias_name, item.count, item.numa_policy, item.spec)
              if item.source == item.FLAVOR_ALIAS else item.request_id
              for item in spec.pci_requests.requests
              ] if spec.pci_requests else []
    primitive = spec.obj_to_primitive()['nova_object.data']
    for name in ('id', 'instance_uuid', 'num_instances', 'limits', 'retry',
                 'pci_requests', 'scheduler_hints'):
        primitive.pop(name, None)
    hints = {name: value for name, value
             in (spec.scheduler_hints or {}).items()
             if name not in terms.HINTS}
    # Members of a group differ by who else is in it.
    alone = spec.instance_uuid if spec.instance_group else None
    return jsonutils.dumps([primitive, wanted, hints, alone], sort_keys=True)
