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

"""A small cloud on a real port: Keystone, servers and GPU leases.

It answers as the real services do, as far as the commands go, so that the
tests run the real shell over real HTTP. It keeps what it was asked.
"""

import http.server
import json
import threading
from urllib import parse

import fixtures

from gpu_lease_client.tests import fakes

USERS = {
    'alice': (fakes.ALICE, fakes.RED, 'red', ['member']),
    'admin': (fakes.ADMIN, fakes.OPS, 'ops', ['admin', 'member']),
}
PROJECTS = {fakes.RED: 'red', fakes.BLUE: 'blue', fakes.OPS: 'ops'}
LEASE_QUERY = {'status', 'project_id', 'user_id', 'server_id',
               'expires_before', 'sort', 'limit', 'marker', 'all_projects'}
QUEUE_QUERY = {'limit', 'marker', 'all_projects'}


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, code, message='no'):
        super().__init__(message)
        self.code = code


class FakeCloud(fixtures.Fixture):
    """Serve leases, a queue and servers until the end of the test."""

    def __init__(self, leases=(), queue=(), servers=None, page=1000,
                 installed=True):
        """Set up the content.

        :param leases: the leases as the API shows them, in its order.
        :param queue: the queue entries as the API shows them, in its order.
        :param servers: {id: (name, project id)}; by default one for each
            lease.
        :param page: how many items the service gives at most at once.
        :param installed: False for a Nova without leases.
        """
        super().__init__()
        self.leases = list(leases)
        self.queue = list(queue)
        self.servers = servers if servers is not None else {
            lease['server_id']: (lease['server_name'], lease['project_id'])
            for lease in leases}
        self.page = page
        self.installed = installed
        #: [(path, query as a dict of lists)] of every compute request
        self.asked = []

    def _setUp(self):
        cloud = self

        class Handler(_Handler):
            pass

        Handler.cloud = cloud
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = 'http://127.0.0.1:%d' % server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def lease_queries(self):
        """Give the query of each request for leases, one value a key."""
        return [{key: values[0] for key, values in query.items()}
                for path, query in self.asked
                if path.startswith('/os-gpu-leases')]


class _Handler(http.server.BaseHTTPRequestHandler):
    cloud = None
    # One connection for several requests, as Nova behind uWSGI, and one
    # packet for one answer.
    protocol_version = 'HTTP/1.1'
    wbufsize = -1

    def log_message(self, format, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(
            int(self.headers['Content-Length'])))
        name = body['auth']['identity']['password']['user']['name']
        self._answer(201, _token(self.cloud.url, name),
                     {'X-Subject-Token': name})

    def do_GET(self):
        url = parse.urlsplit(self.path)
        query = parse.parse_qs(url.query)
        try:
            self._answer(200, self._get(parse.unquote(url.path), query))
        except Refused as refused:
            self._answer(refused.code, {'fault': {
                'code': refused.code, 'message': str(refused)}})

    def do_PATCH(self):
        wanted = parse.unquote(self.path).rpartition('/os-gpu-leases/')[2]
        body = json.loads(self.rfile.read(
            int(self.headers['Content-Length'])))
        self.cloud.asked.append(('PATCH ' + wanted, body))
        try:
            lease = self._find(wanted, self.headers.get('X-Auth-Token'))
            if lease['status'] not in ('QUEUED', 'ACTIVE'):
                raise Refused(409, 'it is %s' % lease['status'])
            lease.update(body['gpu_lease'])
            if 'duration' in body['gpu_lease']:
                lease['duration'] = 9000
            self._answer(200, {'gpu_lease': lease})
        except Refused as refused:
            self._answer(refused.code, {'conflictingRequest': {
                'code': refused.code, 'message': str(refused)}})

    def do_DELETE(self):
        path = parse.unquote(parse.urlsplit(self.path).path)
        wanted = path.rpartition('/os-gpu-leases/')[2]
        self.cloud.asked.append(('DELETE ' + wanted, {}))
        try:
            self._cancel(wanted, self.headers.get('X-Auth-Token'))
            self._answer(204)
        except Refused as refused:
            self._answer(refused.code, {'conflictingRequest': {
                'code': refused.code, 'message': str(refused)}})

    def _cancel(self, wanted, user):
        lease = self._find(wanted, user)
        if lease['status'] not in ('QUEUED', 'CANCELLED'):
            raise Refused(409, 'it is %s' % lease['status'])
        lease['status'] = 'CANCELLED'

    def _find(self, wanted, user):
        for lease in self.cloud.leases:
            if wanted in (lease['id'], lease['server_id']) and \
                    self._visible(lease['project_id'], True, user):
                return lease
        raise Refused(404, 'GPU lease %s could not be found.' % wanted)

    def _answer(self, code, body=None, headers=None):
        data = b'' if body is None else json.dumps(body).encode()
        self.send_response(code)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _get(self, path, query):
        service, _, path = path.lstrip('/').partition('/')
        user = self.headers.get('X-Auth-Token')
        if service == 'v3':
            return self._identity(path, query, user)
        if not path:
            return {'version': {
                'id': 'v2.1', 'status': 'CURRENT', 'version': '2.100',
                'min_version': '2.1', 'links': [
                    {'rel': 'self', 'href': self.cloud.url + '/v2.1/'}]}}
        self.cloud.asked.append(('/' + path, query))
        if path.startswith('servers'):
            return self._servers(path[len('servers/'):], query, user)
        if path.startswith('os-gpu-leases') and self.cloud.installed:
            return self._gpu_leases(path[len('os-gpu-leases/'):], query, user)
        raise Refused(404, 'The resource could not be found.')

    def _identity(self, path, query, user):
        if not path:
            return {'version': {
                'id': 'v3.14', 'status': 'stable', 'links': [
                    {'rel': 'self', 'href': self.cloud.url + '/v3/'}]}}
        if user != 'admin':
            raise Refused(403)
        kind, _, wanted = path.partition('/')
        known = {'projects': PROJECTS, 'domains': {'default': 'Default'},
                 'users': {row[0]: name for name, row in USERS.items()}}[kind]
        found = [{'id': uuid, 'name': name, 'domain_id': 'default'}
                 for uuid, name in known.items()
                 if wanted == uuid or
                 (not wanted and query.get('name', [name]) == [name])]
        if not wanted:
            return {kind: found}
        if not found:
            raise Refused(404)
        return {kind[:-1]: found[0]}

    def _servers(self, wanted, query, user):
        every = wanted or 'all_tenants' in query
        found = [{'id': uuid, 'name': name}
                 for uuid, (name, project_id) in self.cloud.servers.items()
                 if self._visible(project_id, every, user)]
        if not wanted:
            return {'servers': found}
        for server in found:
            if server['id'] == wanted:
                return {'server': server}
        raise Refused(404)

    def _gpu_leases(self, wanted, query, user):
        every = 'all_projects' in query
        if every and user != 'admin':
            raise Refused(403, 'Policy does not allow all_projects.')
        if wanted == 'queue':
            _check_query(query, QUEUE_QUERY)
            return self._page('gpu_queue', '/os-gpu-leases/queue', query, [
                entry for entry in self.cloud.queue
                if self._visible(entry['project_id'], every, user)])
        if wanted:
            return {'gpu_lease': self._find(wanted, user)}
        _check_query(query, LEASE_QUERY)
        found = [
            lease for lease in self.cloud.leases
            if self._visible(lease['project_id'], every, user)
            and all(lease[key] in query[key] for key in
                    ('status', 'project_id', 'user_id', 'server_id')
                    if key in query)
            and (lease['expires_at'] or 'Z') <
            query.get('expires_before', ['ZZ'])[0]]
        for sort in reversed(','.join(query.get('sort', [])).split(',')):
            key, _, direction = sort.partition(':')
            if key:
                found.sort(key=lambda lease: lease[key] or '',
                           reverse=direction == 'desc')
        return self._page('gpu_leases', '/os-gpu-leases', query, found)

    def _visible(self, project_id, every, user):
        """Tell whether a user may see something of a project."""
        return project_id == USERS[user][1] or bool(
            every and user == 'admin')

    def _page(self, key, path, query, items):
        """Cut a page out of the items and link to the next one."""
        if 'marker' in query:
            ids = [item['id'] for item in items]
            if query['marker'][0] not in ids:
                raise Refused(400, 'marker not found')
            items = items[ids.index(query['marker'][0]) + 1:]
        limit = min(int(query.get('limit', [self.cloud.page])[0]),
                    self.cloud.page)
        body = {key: items[:limit]}
        if len(items) > limit:
            following = dict(query, limit=[limit],
                             marker=[items[limit - 1]['id']])
            body[key + '_links'] = [{
                'rel': 'next', 'href': '%s/v2.1%s?%s' % (
                    self.cloud.url, path,
                    parse.urlencode(following, doseq=True))}]
        return body


def _check_query(query, known):
    for name in set(query) - known:
        raise Refused(400, 'unknown query parameter %s' % name)


def _token(url, name):
    """Make the body of a token with a catalog."""
    user_id, project_id, project_name, roles = USERS[name]
    domain = {'id': 'default', 'name': 'Default'}

    def service(kind, path):
        return {'type': kind, 'name': kind, 'id': kind, 'endpoints': [
            {'id': kind, 'interface': 'public', 'region': 'RegionOne',
             'region_id': 'RegionOne', 'url': url + path}]}

    return {'token': {
        'methods': ['password'],
        'user': {'id': user_id, 'name': name, 'domain': domain},
        'project': {'id': project_id, 'name': project_name,
                    'domain': domain},
        'roles': [{'id': role, 'name': role} for role in roles],
        'issued_at': '2026-11-21T19:00:00.000000Z',
        'expires_at': '2099-11-21T19:00:00.000000Z',
        'catalog': [service('identity', '/v3'),
                    service('compute', '/v2.1')],
    }}
