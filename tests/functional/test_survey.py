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


import fixtures
from nova import context as nova_context
from nova import objects
from nova.scheduler.client import query
from oslo_serialization import jsonutils
from oslo_utils import uuidutils

from nova_gpu_lease.db import api as db
from nova_gpu_lease.scheduler import rpcapi
from nova_gpu_lease.scheduler import survey
from tests import fixtures as lease_fixtures
from tests.functional import base
from tests.functional import nova_fixtures

DEVICE = {'vendor_id': nova_fixtures.PCI_VENDOR_ID,
          'product_id': nova_fixtures.PCI_PRODUCT_ID}


class SurveyMixin:
    """Asks for the survey by RPC. Servers without a lease do not wait."""

    @staticmethod
    def ask(requests):
        return rpcapi.SchedulerAPI().survey(
            nova_context.get_admin_context(), requests)

    def survey(self, server_id=None, num_servers=1, **values):
        """The survey's answer with host names instead of uuids of nodes.

        :returns: a tuple of the nodes and the answer to one request.
        """
        requests = [{'uuid': 'request', 'server_id': server_id,
                     'num_servers': num_servers, 'kind': 'create', **values}]
        answer = self.ask(requests if server_id else [])
        self.assertTrue(answer['complete'])
        names = {uuid: node['host'] for uuid, node in answer['nodes'].items()}
        one = answer['requests'].get('request')
        for key in ('fits', 'after') if one else ():
            one[key] = {names[uuid]: count
                        for uuid, count in one[key].items()}
        return {node['host']: node for node in answer['nodes'].values()}, one

    def pools(self):
        """{host: {aliases: (free, total)}}."""
        nodes, _answer = self.survey()
        return {host: {','.join(pool['aliases']): (pool['free'],
                                                   pool['total'])
                       for pool in node['pools']}
                for host, node in nodes.items()}

    def sized(self, devices='gpu:1', memory_mb=1024, **extra_specs):
        """The id of a flavor with much memory."""
        specs = {name.replace('__', ':'): value
                 for name, value in extra_specs.items()}
        if devices:
            specs['pci_passthrough:alias'] = devices
        return self._create_flavor(vcpu=1, memory_mb=memory_mb, disk=1,
                                   extra_spec=specs)

    def active(self, name, flavor, **values):
        server = self.create(name, {}, flavor, **values)
        self.wait_for_status(server, 'ACTIVE')
        return server

    def failed(self, name, flavor, **values):
        """A server that could not start, to ask about its request."""
        server = self.create(name, {}, flavor, **values)
        self.wait_for_status(server, 'ERROR')
        return server


class SurveyTest(SurveyMixin, base.CloudTestCase):
    GPUS = {'host1': {'gpu': 2}, 'host2': {'gpu': 1, 'h200': 1}, 'host3': {}}

    def test_nodes_and_their_devices(self):
        empty = {'host1': {'gpu': (2, 2)},
                 'host2': {'gpu': (1, 1), 'h200': (1, 1)}}
        self.assertEqual(empty, self.pools())
        server = self.active('one', self.flavor())
        self.assertEqual('host2', self.host_of(server))
        used = {**empty, 'host2': {'gpu': (0, 1), 'h200': (1, 1)}}
        self.assertEqual(used, self.pools())
        self.api.delete_server(server)
        self.wait_for('a free device', lambda: self.free_devices() == 4)
        self.wait_for(lambda: self.pools(), lambda: self.pools() == empty)

    def test_room_besides_devices(self):
        half = self.active('half', self.sized('', 40000), api=self.admin_api,
                           availability_zone='nova:host1')
        gpu = self.active('gpu', self.sized('gpu:1', 40000))
        _nodes, answer = self.survey(gpu)
        self.assertEqual({'fits': {}, 'after': {'host2': 1}, 'never': None},
                         {key: answer[key] for key
                          in ('fits', 'after', 'never')})
        self.assertIn('40000 MB of memory', answer['reason'])
        self.assertEqual(40000, answer['amounts']['MEMORY_MB'])
        # The one without a GPU does not leave with the leases.
        self.api.delete_server(half)
        self.wait_for_status(half, None)
        self.wait_for(
            lambda: self.survey(gpu),
            lambda: self.survey(gpu)[1]['fits'] == {'host1': 1})
        self.assertEqual({'host1': 1, 'host2': 1},
                         self.survey(gpu)[1]['after'])

    def test_hosts_down_or_disabled_count_for_never_only(self):
        server = self.active('one', self.flavor('h200:1'))
        self.assertEqual(['host2'], list(self.survey(server)[1]['fits']))
        service, = [service for service in self.admin_api.get_services()
                    if service['host'] == 'host2']
        self.admin_api.put_service(service['id'], {'status': 'disabled'})
        nodes, answer = self.survey(server)
        self.assertTrue(nodes['host2']['disabled'])
        self.assertEqual([{}, {}, None], [answer[key] for key in (
            'fits', 'after', 'never')])
        self.assertIn('down or disabled', answer['reason'])
        self.admin_api.put_service(service['id'], {'status': 'enabled'})
        self.assertEqual(['host2'], list(self.survey(server)[1]['fits']))
        self.admin_api.put_service(service['id'], {'forced_down': True})
        nodes, answer = self.survey(server)
        self.assertFalse(nodes['host2']['up'])
        self.assertEqual([{}, {}, None], [answer[key] for key in (
            'fits', 'after', 'never')])

    def test_what_fits_nowhere_even_when_empty(self):
        for flavor, reason in (
                (self.sized('gpu:1', 70000), '70000 MB of memory'),
                (self.sized('gpu:3'), '3 gpu'),
                (self.sized('gpu:2,h200:1'), '2 gpu, 1 h200'),
                (self.sized(trait__CUSTOM_NVLINK='required'),
                 'CUSTOM_NVLINK'),
                (self.sized(resources__CUSTOM_MAGIC='1'),
                 '1 of CUSTOM_MAGIC'),
                (self.sized(capabilities__hypervisor_type='xen'),
                 'ComputeCapabilitiesFilter')):
            server = self.failed('x', flavor)
            _nodes, answer = self.survey(server)
            self.assertEqual({}, answer['after'])
            self.assertIn(reason, answer['never'])
        one = self.active('one', self.flavor())
        self.assertIsNone(self.survey(one, 3)[1]['never'])
        self.assertIn('Only 3 of 4 servers', self.survey(one, 4)[1]['never'])
        gone = self.survey(uuidutils.generate_uuid())[1]
        self.assertEqual('The server is gone.', gone['never'])

    def test_zones_and_forced_hosts(self):
        zone = self._create_aggregate('zone', 'zone1')
        self.admin_api.add_host_to_aggregate(zone, 'host1')
        self.active('filler', self.sized('gpu:2', 60000),
                    availability_zone='zone1')
        here = self.failed('here', self.flavor(), availability_zone='zone1')
        answer = self.survey(here)[1]
        self.assertEqual(['host1'], list(answer['after']))
        wide = self.failed('wide', self.flavor('h200:2'),
                           availability_zone='zone1')
        self.assertIn('2 h200', self.survey(wide)[1]['never'])

    def test_server_groups(self):
        for policy, fits, together in (
                ('affinity', {'host1', 'host2'}, True),
                ('anti-affinity', {'host1', 'host2'}, False)):
            group = self.api.post_server_groups(
                {'name': policy, 'policy': policy})
            body = self.body('g', {'group': group['id']})
            body['server'].update(min_count=4, max_count=4)
            server = self.api.post_server(body)['id']
            self.wait_for_status(server, 'ERROR')
            answer = self.survey(server, 2)[1]
            self.assertEqual(fits, set(answer['fits']))
            self.assertEqual(together, answer['together'])
            self.assertIsNone(answer['never'])
            if together:
                self.assertIn('on one host',
                              self.survey(server, 3)[1]['never'])
            else:
                self.assertEqual({1}, set(answer['fits'].values()))
                self.assertIn('Only 2 of 3',
                              self.survey(server, 3)[1]['never'])


class SurveyPlacementTest(SurveyTest):
    PCI_IN_PLACEMENT = True


class PromisedTest(SurveyMixin, base.CloudTestCase):
    """Without our conductor, which would put such rows in order."""

    HOOKS = False
    GPUS = {'host1': {'gpu': 2}}

    def setUp(self):
        super().setUp()
        self.useFixture(lease_fixtures.DatabaseFixture())

    def ask(self, requests):
        return survey.Endpoint(self.scheduler.manager).survey(
            nova_context.get_admin_context(), requests)

    def place(self):
        """A lease that is being built on host1.

        :returns: its request.
        """
        self.server = uuidutils.generate_uuid()
        request = db.request_create(
            {'kind': 'create', 'project_id': 'p', 'user_id': 'u',
             'priority': 'normal', 'devices': {'gpu': 1}, 'context': {}},
            [{'server_id': self.server, 'server_name': 's', 'flavor': 'f',
              'duration': 60, 'on_expiry': 'shelve'}], 'test')
        return db.request_transition(
            request, 'DISPATCHING', 'test', lease_state='BUILDING',
            lease_values={self.server: {
                'host': 'host1',
                'node_uuid': self._get_provider_uuid_by_host('host1')}})

    def select(self, like):
        """Have Nova select, and claim, a host for the placed server."""
        context = nova_context.get_admin_context()
        spec = objects.RequestSpec.get_by_instance_uuid(context, like)
        spec.requested_resources = []
        spec.generate_request_groups_from_pci_requests()
        query.SchedulerQueryClient().select_destinations(
            context, spec, [self.server], return_objects=True)

    def test_promised_devices_are_not_free(self):
        like = self.active('like', self.flavor())
        self.assertEqual({'gpu': (1, 2)}, self.pools()['host1'])
        request = self.place()
        promised = [[request.uuid, 'gpu', 1]]
        self.assertEqual({'gpu': (0, 2)}, self.pools()['host1'])
        self.assertEqual(promised, self.survey()[0]['host1']['promised'])
        self.select(like)
        # Placement counts it from now on, if it knows devices.
        self.assertEqual({'gpu': (0, 2)}, self.pools()['host1'])
        self.assertEqual([] if self.PCI_IN_PLACEMENT else promised,
                         self.survey()[0]['host1']['promised'])


class PromisedPlacementTest(PromisedTest):
    PCI_IN_PLACEMENT = True


class NUMASurveyTest(SurveyMixin, base.CloudMixin,
                     nova_fixtures.LibvirtTestBase):
    """One host with two NUMA nodes of 4 CPUs; its devices are on node 0."""

    ADDITIONAL_FILTERS = ['NUMATopologyFilter']

    def setUp(self):
        self.useFixture(fixtures.MockPatch(
            'nova.pci.utils.is_physical_function', return_value=False))
        self.flags(device_spec=[jsonutils.dumps(DEVICE)],
                   alias=[jsonutils.dumps(dict(DEVICE, name='gpu'))],
                   group='pci')
        self.flags(cpu_dedicated_set='0-7', group='compute')
        super().setUp()
        self.start_compute('host1', pci_info=nova_fixtures.HostPCIDevicesInfo(
            num_pci=2, num_pfs=0, num_vfs=0, numa_node=0))

    def pinned(self, vcpus, devices=''):
        specs = {'hw:cpu_policy': 'dedicated'}
        if devices:
            specs['pci_passthrough:alias'] = devices
        return self._create_flavor(vcpu=vcpus, memory_mb=1024, disk=1,
                                   extra_spec=specs)

    def test_cpus_near_the_devices(self):
        self.active('far', self.pinned(4))
        near = self.active('near', self.pinned(4))
        far, = [server for server in self.api.get_servers()
                if server['name'] == 'far']
        self.assertEqual([1, 0], [
            self.instance(server).numa_topology.cells[0].id
            for server in (far['id'], near)])
        self.api.delete_server(far['id'])
        self.wait_for_status(far['id'], None)
        gpu = self.failed('gpu', self.pinned(2, 'gpu:1'))
        # CPUs are free, but not where the devices are, and who has those
        # does not leave with the leases.
        answer = self.survey(gpu)[1]
        self.assertEqual([{}, {}, None], [answer[key] for key in (
            'fits', 'after', 'never')])
        self.assertIn('NUMATopologyFilter', answer['reason'])

        self.api.delete_server(near)
        self.wait_for_status(near, None)
        self.wait_for(lambda: self.survey(gpu),
                      lambda: self.survey(gpu)[1]['fits'])
        self.active('holder', self.pinned(4, 'gpu:1'))
        answer = self.survey(gpu)[1]
        self.assertEqual([{}, ['host1'], None], [
            answer['fits'], list(answer['after']), answer['never']])
        wide = self.failed('wide', self.pinned(5, 'gpu:1'))
        self.assertIn('NUMATopologyFilter', self.survey(wide)[1]['never'])
