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

"""What Nova's cast to build servers holds and stores nowhere.

The rows BuildRequest, RequestSpec and InstanceMapping are read afresh at each
attempt; the rest of the cast is kept here as primitives while the request
waits.
"""

import dataclasses

from nova import objects
from nova.objects import base as objects_base
from oslo_log import log as logging

from nova_gpu_lease import exception
from nova_gpu_lease import secrets

LOG = logging.getLogger(__name__)

_SERIALIZER = objects_base.NovaObjectSerializer()

#: Fields of a RequestSpec that Nova does not write to its database.
_UNSAVED = ('requested_destination', 'requested_resources', 'ignore_hosts',
            'network_metadata', 'request_level_params')


@dataclasses.dataclass
class Cast:
    """The arguments of schedule_and_build_instances that Nova forgets."""

    image: dict
    requested_networks: object
    block_device_mapping: object
    tags: object
    admin_password: str | None = None
    injected_files: list = dataclasses.field(default_factory=list)
    #: {field of RequestSpec: value}, the same for every server.
    unsaved: dict = dataclasses.field(default_factory=dict)


def dump(context, cast, spec):
    """Turn a cast into what the request row keeps.

    :param context: a RequestContext.
    :param cast: a Cast; its ``unsaved`` is taken from the spec.
    :param spec: the RequestSpec of the first server as it was cast.
    :returns: (payload, secrets): JSON values for the columns of these names.
    """
    payload = {name: _SERIALIZER.serialize_entity(context, value)
               for name, value in (
                   ('image', cast.image),
                   ('requested_networks', cast.requested_networks),
                   ('block_device_mapping', cast.block_device_mapping),
                   ('tags', cast.tags))}
    payload['unsaved'] = {
        name: _SERIALIZER.serialize_entity(context, value)
        for name, value in _unsaved_fields(spec)}
    return payload, _encrypt(cast)


def bare():
    """The payload of a request whose server Nova has all of.

    That of a shelved server that nobody asked to unshelve.
    """
    return {'image': {}, 'requested_networks': None,
            'block_device_mapping': None, 'tags': None, 'unsaved': {}}


def load(context, request):
    """The Cast that a request row holds.

    :raises: exception.NoEncryptionKey, when it has secrets and no key.
    """
    payload = request.payload
    cast = Cast(
        unsaved={name: _SERIALIZER.deserialize_entity(context, value)
                 for name, value in payload['unsaved'].items()},
        **{name: _SERIALIZER.deserialize_entity(context, payload[name])
           for name in ('image', 'requested_networks',
                        'block_device_mapping', 'tags')})
    if request.secrets:
        hidden = secrets.decrypt(request.secrets)
        cast.admin_password = hidden['admin_password']
        cast.injected_files = [tuple(item)
                               for item in hidden['injected_files']]
    return cast


def _unsaved_fields(spec):
    pci_ids = [request.request_id for request in spec.pci_requests.requests
               if request.source != objects.InstancePCIRequest.NEUTRON_PORT]
    for name in _UNSAVED:
        if name not in spec or not getattr(spec, name):
            continue
        value = getattr(spec, name)
        if name == 'requested_resources':
            # Those of PCI devices are generated again at each attempt.
            value = [group for group in value
                     if not any((group.requester_id or '').startswith(pci_id)
                                for pci_id in pci_ids)]
        yield name, value


def _encrypt(cast):
    if not cast.admin_password and not cast.injected_files:
        return None
    try:
        return secrets.encrypt({
            'admin_password': cast.admin_password,
            'injected_files': [list(item)
                               for item in cast.injected_files or []]})
    except exception.NoEncryptionKey:
        # nova-api refused what the user sent of this kind, so all there can
        # be is the password that Nova made up.
        LOG.debug('The generated password of a waiting server is not kept, '
                  'since [gpu_lease] encryption_keys is not set.')
        return None
