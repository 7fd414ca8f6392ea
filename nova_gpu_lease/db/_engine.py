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


"""The connection to the database, and the decorators that open a session.

The engine is made at first use from the options of [gpu_lease_database].
Queries are in the other modules of this package.
"""

import functools
import os
import threading

from oslo_db import api as oslo_db_api
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy.engine import url as sa_url

from nova_gpu_lease import conf
from nova_gpu_lease import exception

_lock = threading.Lock()
_manager = None


@enginefacade.transaction_context_provider
class _Context:
    """Holds the session of one call of the database API."""


def _options():
    """What the engine is configured with.

    :returns: a dict for enginefacade's configure().
    :raises: exception.DatabaseNotConfigured
    """
    options = dict(conf.CONF.gpu_lease_database.items())
    if not options['connection']:
        raise exception.DatabaseNotConfigured()
    url = sa_url.make_url(options['connection'])
    if url.get_backend_name() == 'mysql' and 'charset' not in url.query:
        # oslo.db's default is MySQL's three-byte "utf8", which cannot carry
        # every name that a user may give a server.
        options['connection'] = url.update_query_dict(
            {'charset': 'utf8mb4'}).render_as_string(hide_password=False)
    return options


def manager():
    """The enginefacade context manager, configured at the first call.

    :raises: exception.DatabaseNotConfigured
    """
    global _manager
    if _manager is None:
        with _lock:
            if _manager is None:
                made = enginefacade.transaction_context()
                made.configure(**_options())
                _manager = made
    return _manager


def get_engine():
    """The SQLAlchemy engine; this connects to the database.

    :raises: exception.DatabaseNotConfigured
    """
    return manager().writer.get_engine()


def dispose():
    """Forget the engine that a parent process made, after a fork.

    Its connections stay open for the parent. A child of os.fork() does this
    by itself: oslo.db also notices a connection of the parent, but then ends
    it for the parent too.
    """
    global _lock, _manager
    # A thread that the child does not have may have held the old lock.
    _lock = threading.Lock()
    _manager = None


os.register_at_fork(after_in_child=dispose)


def reset():
    """Close all connections and forget the configuration, for tests."""
    global _manager
    with _lock:
        old, _manager = _manager, None
    if old is not None and old.is_started:
        old.writer.get_engine().dispose()


def _is_transient(exc):
    # SQLite reports a busy file and MariaDB a lost race in other ways than
    # the deadlocks that oslo.db knows.
    return isinstance(exc, db_exc.DBConsistencyError) or (
        isinstance(exc, db_exc.DBError) and
        'database is locked' in str(exc))


def _retry(**kwargs):
    return oslo_db_api.wrap_db_retry(
        max_retries=10, retry_interval=0.05, inc_retry_interval=True,
        max_retry_interval=2, retry_on_deadlock=True,
        exception_checker=_is_transient, **kwargs)


def reader(func):
    """Call func with a session to read from as its first argument.

    It is called again after a lost connection or a deadlock.
    """
    @_retry(retry_on_disconnect=True)
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        with manager().reader.using(_Context()) as session:
            return func(session, *args, **kwargs)
    return wrapper


def writer(func):
    """Call func with a session as its first argument, in one transaction.

    It is called again after a deadlock. A connection that is lost while
    writing is the caller's problem: nobody knows whether the change was made.
    To change first and read later keeps both databases from giving up.
    """
    @_retry()
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        with manager().writer.using(_Context()) as session:
            return func(session, *args, **kwargs)
    return wrapper
