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


from unittest import mock

from nova import objects

from nova_gpu_lease.scheduler import devices
from nova_gpu_lease.scheduler import room
from tests.unit.scheduler import hosts


def device(number, alias='gpu', status='available', server=None, **info):
    return objects.PciDevice(
        address='0000:%02x:00.0' % number, parent_addr=None,
        dev_type='type-PCI', numa_node=0, status=status,
        instance_uuid=server, extra_info=info, **hosts.ALIASES[alias])


def compute(*pools):
    """A ComputeNode with free devices.

    :param pools: (alias, number or None for an old pool, count).
    """
    return objects.ComputeNode(pci_device_pools=objects.PciDevicePoolList(
        objects=[objects.PciDevicePool.from_dict(hosts.pool(
            alias, count, **({} if number is None else {
                'address': '0000:%02x:00.0' % number})))
            for alias, number, count in pools]))


class MatcherTest(hosts.TestCase):
    def test_matches_as_nova_does(self):
        matches = devices.matcher()
        for name, expected in (('gpu', {'gpu', 'any'}), ('nic', {'nic'})):
            for tags in ({}, {'parent_ifname': 'eth0'}, {'tag': ['a']},
                         {'dev_type': 'type-PF'}):
                pool = hosts.pool(name, 3, **tags)
                self.assertEqual(
                    devices.matching(dict(pool, count=1), matches.requests),
                    matches(pool))
            self.assertEqual(expected, matches(hosts.pool(name)))

    def test_what_is_alike_is_tried_once(self):
        matches = devices.Matcher(devices.aliases())
        with mock.patch.object(devices, 'matching',
                               wraps=devices.matching) as matching:
            for number in range(5):
                matches(hosts.pool('gpu', number, number, rp_uuid=str(number),
                                   address='0000:%02d:00.0' % number))
                matches(hosts.pool('nic', live_migratable='true'))
        self.assertEqual(2, matching.call_count)

    def test_tag_that_is_a_list(self):
        matches = devices.matcher()
        self.assertEqual(frozenset(), matches(
            hosts.pool('gpu', dev_type=['type-PCI'])))

    def test_aliases_that_change(self):
        self.assertIs(devices.matcher(), devices.matcher())
        old = devices.matcher()
        self.flags(group='pci', alias=[])
        self.assertIsNot(old, devices.matcher())


class NodeDevicesTest(hosts.TestCase):
    def pools(self, node, some, tree=None, promised=()):
        """{aliases: (free, total)}."""
        return {pool['key']: (pool['free'], pool['total']) for pool in
                devices.NodeDevices(node, some, tree).pools(promised)}

    def test_free_is_what_device_and_pool_say(self):
        node = compute(('gpu', 1, 1), ('gpu', 2, 1), ('big', 5, 1))
        some = [device(1), device(2, status='allocated', server='s'),
                device(3), device(4, status='removed'), device(5, 'big'),
                device(6, 'nic', status='unavailable')]
        self.assertEqual({'any,gpu': (1, 3), 'any,big': (1, 1),
                          'nic': (0, 1)}, self.pools(node, some))
        self.assertEqual({'s'}, devices.NodeDevices(node, some, None).holders)

    def test_pools_without_address(self):
        self.assertEqual(
            {'any,gpu': (2, 3)},
            self.pools(compute(('gpu', None, 2)),
                       [device(number) for number in (1, 2, 3)]))

    def test_node_that_reported_no_pools(self):
        self.assertEqual({'any,gpu': (0, 1)}, self.pools(
            objects.ComputeNode(pci_device_pools=None), [device(1)]))

    def test_promised_devices_are_not_free(self):
        node = compute(('gpu', 1, 1), ('big', 2, 1))
        some = [device(1), device(2, 'big')]
        self.assertEqual({'any,big': (0, 1), 'any,gpu': (1, 1)}, self.pools(
            node, some, promised=[['r', 'any', 1]]))
        self.assertEqual({'any,big': (0, 1), 'any,gpu': (0, 1)}, self.pools(
            node, some, promised=[['r', 'any', 1], ['q', 'any', 2]]))

    def test_held_devices_and_who_holds_them(self):
        node = compute(('gpu', 1, 1), ('gpu', 2, 1), ('gpu', 3, 1))
        some = [device(1), device(2), device(3),
                device(4, status='allocated', server='s'),
                device(5, status='claimed', server='s'),
                device(6, 'big', status='allocated', server='s')]
        held = devices.NodeDevices(node, some, None)
        held.pools([['r', 'gpu', 1]])
        old = [['s', 'any,big', 1], ['s', 'any,gpu', 2]]
        self.assertEqual(old, held.held([]))
        # What comes has no more than what is not free.
        self.assertEqual([['new', 'any,gpu', 1]] + old,
                         held.held([('new', 'gpu', 2)]))
        held.pools([])
        self.assertEqual(old, held.held([('new', 'gpu', 1)]))

    def test_placement_knows_better(self):
        self.flags(group='filter_scheduler', pci_in_placement=True)
        self.flags(group='pci', alias=[
            '{"name": "gpu", "resource_class": "GPU", "traits": "FAST"}',
            '{"name": "id", "vendor_id": "10de", "product_id": "2335"}'])
        hosts.pci_request.get_alias_from_config.cache_clear()

        def provider(used, traits=(), name='CUSTOM_GPU'):
            return room.Provider(frozenset(traits), {name: (1, used)})

        tree = room.Tree('root', {
            'p1': provider(0, ['CUSTOM_FAST']),
            'p2': provider(1, ['CUSTOM_FAST']), 'p3': provider(0),
            'p4': provider(0, name='CUSTOM_PCI_10DE_2335')})
        some = [device(number, rp_uuid='p%d' % number)
                for number in (1, 2, 3)]
        some += [device(4, 'big', rp_uuid='p4'), device(5),
                 device(6, rp_uuid='not there')]
        node = compute(('big', 4, 1), *[
            ('gpu', number, 1) for number in (1, 2, 3, 5, 6)])
        self.assertEqual({'gpu': (1, 2), 'id': (1, 1)},
                         self.pools(node, some, tree))
        self.assertEqual({}, self.pools(node, some))
