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

"""Nova's own test code, as far as it is used: no other module imports it.

It ships in Nova's wheel and changes often.
"""

import logging
import warnings

from futurist import _thread
from nova.tests import fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.api import client
from nova.tests.functional import integrated_helpers
from nova.tests.functional.libvirt import base as libvirt_base
from oslo_limit import fixture as limit_fixture
from sqlalchemy import exc as sa_exc

ApiException = client.OpenStackApiException
CinderFixture = fixtures.CinderFixture
NotFound = client.OpenStackApiNotFoundException
LimitFixture = limit_fixture.LimitFixture
HostPCIDevicesInfo = fakelibvirt.HostPCIDevicesInfo
ServiceFixture = fixtures.ServiceFixture
PCI_VENDOR_ID = fakelibvirt.PCI_VEND_ID
PCI_PRODUCT_ID = fakelibvirt.PCI_PROD_ID
VF_PRODUCT_ID = fakelibvirt.VF_PROD_ID


class IntegratedTestBase(integrated_helpers._IntegratedTestBase):
    """Nova's API, conductor, scheduler and a compute, with fake drivers.

    Placement is real; Glance, Neutron and Cinder are Nova's fixtures.
    """

    REQUIRES_LOCKING = False
    # The conductor works on while a cast has returned.
    CAST_AS_CALL = False
    microversion = 'latest'

    def _setup_services(self):
        # Nova's WarningsFixture makes errors of these; the SQLAlchemy that
        # this is tested with deprecated it after Nova's release.
        warnings.filterwarnings('ignore', r'The noload\(\) option',
                                category=sa_exc.SADeprecationWarning)
        # Nova has each idle thread look a hundred times a second whether it
        # is to end; of many threads that is 20,000 context switches a second.
        _thread.ThreadWorker.MAX_IDLE_FOR = 0.5
        super()._setup_services()

    def setUp(self):
        # It tells of its end after the fixture that keeps logs is gone.
        pools = logging.getLogger('nova.thread_pool_factory')
        self.addCleanup(pools.setLevel, pools.level)
        pools.setLevel(logging.WARNING)
        super().setUp()
        # When services stop, each waits for its threads to end.
        self.addCleanup(setattr, _thread.ThreadWorker, 'MAX_IDLE_FOR', 0.01)

    def client_of(self, user, project_id, roles=('reader', 'member')):
        """A client of the API for another user.

        Without Keystone, the role admin needs the user ``admin``.
        """
        api = client.TestOpenStackClient(
            user, self.api_fixture.base_url, project_id=project_id,
            roles=list(roles))
        api.microversion = self.microversion
        return api


class LibvirtTestBase(libvirt_base.ServersTestBase, IntegratedTestBase):
    """The same with Nova's libvirt driver on a fake libvirt.

    ``start_compute`` starts a host.
    """

    REQUIRES_LOCKING = False
