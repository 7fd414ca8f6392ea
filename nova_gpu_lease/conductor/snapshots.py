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

"""Removes the images of tries to shelve a server that were broken off.

Nova makes the image first, and knows it only once the snapshot is done: a
nova-compute that dies in between leaves it behind, in its owner's quota.
"""

import datetime

from nova.image import glance
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: How far the clock of Glance may be off ours.
SKEW = datetime.timedelta(minutes=1)


def remove_leftovers(context, lease, instance):
    """Delete what the tries to end a lease left, but the image that counts.

    Nothing is raised: at worst an image stays.

    :param context: the RequestContext that the images were made with.
    :param lease: a models.Lease whose server is shelved.
    :param instance: the Instance.
    """
    kept = instance.system_metadata.get('shelved_image_id')
    if kept is None:
        # Its disk is a volume.
        return
    api = glance.API()
    since = (lease.preempt_at or lease.expires_at) - SKEW
    try:
        until = api.get(context, kept)['created_at']
        for image in api.get_all(
                context, filters={'instance_uuid': instance.uuid}):
            # One that is newer is of a later shelve, by its owner.
            if (_is_of_a_shelve(image, instance) and
                    since <= image['created_at'] < until):
                LOG.info('Image %s of a try to shelve the server that was '
                         'broken off is deleted.', image['id'],
                         instance=instance)
                api.delete(context, image['id'])
    except Exception as exc:
        LOG.warning('An image of a try to shelve the server may be left: %s',
                    exc, instance=instance)


def _is_of_a_shelve(image, instance):
    """Whether an image is what Nova makes of a server to shelve it."""
    properties = image['properties']
    return (properties.get('instance_uuid') == instance.uuid and
            properties.get('image_type') == 'snapshot' and
            image['name'] == '%s-shelved' % instance.display_name)
