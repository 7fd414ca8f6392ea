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

"""Errors that say that something is away, and nothing about a server."""

from keystoneauth1 import exceptions as ks_exc
from nova import exception as nova_exception
from oslo_db import exception as db_exc
import oslo_messaging as messaging

_AWAY = (db_exc.DBError, messaging.MessagingException,
         ks_exc.ClientException, nova_exception.GlanceConnectionFailed,
         nova_exception.ServiceUnavailable)


def is_outage(exc):
    """Whether the same may work once a service or a database is back."""
    return isinstance(exc, _AWAY)
