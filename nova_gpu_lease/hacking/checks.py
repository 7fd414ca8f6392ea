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


"""The house rules that flake8 can check, as a local plugin of its own.

Every class is one rule of HACKING.rst, which lists them; ``tox.ini`` registers
them and ``tests/unit/hacking`` proves each. All of them work on the syntax
tree, so neither comments nor strings nor line breaks mislead them. A rule that
would fit any OpenStack project belongs into hacking instead.
"""

import ast
import re

# Where Nova may be imported: folders and single modules.
_NOVA_ALLOWED = re.compile(
    r'nova_gpu_lease/(api|policies|conductor|compute|cmd|devcloud)/'
    r'|nova_gpu_lease/policy\.py$'
    r'|nova_gpu_lease/scheduler/(?!room)'
    r'|perf/|tests/')
# The one module that knows Nova's own test code.
_NOVA_TESTS_ALLOWED = re.compile(r'tests/functional/nova_fixtures\.py$')
_SQL_ALLOWED = re.compile(r'nova_gpu_lease/db/|tests/')
_PURE = re.compile(
    r'nova_gpu_lease/(planner/\w+|scheduler/room|duration|states|terms'
    r'|priorities|changes|errors|exception)\.py$')
_PURE_IMPORTS = ('nova_gpu_lease', 'oslo_utils')
_IMPURE_IMPORTS = ('nova_gpu_lease.conf', 'nova_gpu_lease.db',
                   'nova_gpu_lease.clock', 'oslo_utils.timeutils')
_IMPURE_STDLIB = ('asyncio', 'os', 'pathlib', 'random', 'socket',
                  'subprocess', 'threading', 'time')
_OURS = re.compile(r'nova_gpu_lease/')
_CLOCK = re.compile(r'nova_gpu_lease/clock\.py$')
_PER_HOST = ('host_passes', '_weigh_object')
_QUERY = re.compile(r'(get_by_\w+|get_all\w*|refresh|save|query|execute'
                    r'|scheduling_view|call|cast)$')
_LOG_METHODS = ('debug', 'info', 'warning', 'error', 'exception', 'critical',
                'log')


def _inside(path, name):
    """Whether a dotted name is a package or lies in it."""
    return name == path or name.startswith(path + '.')


def _dotted(node):
    """The dotted name of an expression such as ``a.b.c``, else ''."""
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return base and '%s.%s' % (base, node.attr)
    return node.id if isinstance(node, ast.Name) else ''


def _imports(tree):
    """All imports, wherever they are.

    :returns: (node, dotted name of what is imported, name it gets here)
        triples; ``from a import b`` gives ``a.b``.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (node, alias.name,
                       alias.asname or alias.name.partition('.')[0])
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield (node, '%s.%s' % (node.module, alias.name),
                       alias.asname or alias.name)


class Check:
    """One rule. flake8 makes one object per file and calls :meth:`run`.

    :param tree: the syntax tree of the file.
    :param filename: its path as it was given to flake8.
    """

    name = 'nova-gpu-lease'
    version = '1.0'
    message = None

    def __init__(self, tree, filename):
        self.tree = tree
        self.filename = re.sub(r'^(\./)+', '', filename.replace('\\', '/'))

    def run(self):
        for node in self.find():
            yield node.lineno, node.col_offset, self.message, type(self)

    def find(self):
        """Yield the nodes that break the rule."""
        raise NotImplementedError

    def is_in(self, pattern):
        """Whether the file is one of those that a pattern names."""
        return re.search(r'(^|/)(%s)' % pattern.pattern,
                         self.filename) is not None


class NovaImport(Check):
    """G301: what does not have to know Nova does not."""

    message = ('G301 nova is imported where it may not be; see the rooms in '
               'HACKING.rst')

    def find(self):
        if self.is_in(_NOVA_ALLOWED):
            return
        for node, imported, _name in _imports(self.tree):
            if _inside('nova', imported):
                yield node


class NovaTestsImport(Check):
    """G302: Nova's test code changes often; one module adapts to it."""

    message = ('G302 import nova.tests in tests/functional/nova_fixtures.py '
               'only')

    def find(self):
        if self.is_in(_NOVA_TESTS_ALLOWED):
            return
        for node, imported, _name in _imports(self.tree):
            if _inside('nova.tests', imported):
                yield node


class SQLImport(Check):
    """G303: the only SQL is in nova_gpu_lease/db."""

    message = 'G303 use SQLAlchemy and alembic in nova_gpu_lease/db only'

    def find(self):
        if self.is_in(_SQL_ALLOWED):
            return
        for node, imported, _name in _imports(self.tree):
            if any(_inside(package, imported) for package in
                   ('sqlalchemy', 'alembic', 'oslo_db.sqlalchemy')):
                yield node


class PerHostQuery(Check):
    """G304: filters and weighers ask once per request, not per host.

    Calls of functions and methods of the same file are followed.
    """

    message = ('G304 no query, RPC or remote call in host_passes and '
               '_weigh_object; make one per request in filter_all or '
               'weigh_objects')

    def find(self):
        functions = {}
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                functions.setdefault(node.name, []).append(node)
        if not any(name in functions for name in _PER_HOST):
            return
        databases = {name for _node, imported, name in _imports(self.tree)
                     if _inside('nova_gpu_lease.db', imported)}
        seen, todo = set(), list(_PER_HOST)
        while todo:
            function = todo.pop()
            if function in seen:
                continue
            seen.add(function)
            for definition in functions.get(function, ()):
                for call in ast.walk(definition):
                    if not isinstance(call, ast.Call):
                        continue
                    if self._is_query(call, databases):
                        yield call
                    else:
                        todo.append(_dotted(call.func).rpartition('.')[2])

    @staticmethod
    def _is_query(call, databases):
        if isinstance(call.func, ast.Attribute) and \
                _QUERY.match(call.func.attr):
            return True
        return _dotted(call.func).partition('.')[0] in databases


class NaiveTime(Check):
    """G305: times are aware, UTC, and come from one place."""

    message = ('G305 use clock.now() for the time of day (aware, UTC) and '
               'time.monotonic() for intervals')

    _ALWAYS = re.compile(
        r'((datetime|date)\.)*(utcnow|utcfromtimestamp|today)$|time\.time$'
        r'|timeutils\.(utcnow|utcnow_ts|is_older_than|is_newer_than)$')
    _WITHOUT_ZONE = re.compile(r'(datetime\.)+(now|fromtimestamp)$')

    def find(self):
        if not self.is_in(_OURS) or self.is_in(_CLOCK):
            return
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call):
                continue
            name = _dotted(node.func)
            zone = len(node.args) + len(node.keywords)
            needed = 2 if name.endswith('fromtimestamp') else 1
            if self._ALWAYS.match(name) or (
                    self._WITHOUT_ZONE.match(name) and zone < needed):
                yield node


class LogFormatting(Check):
    """G306: a log line is put together only if it is written.

    hacking's H904 finds the % operator; this finds the other ways.
    """

    message = 'G306 give what is logged as arguments: LOG.info("%s", value)'

    def find(self):
        for node in ast.walk(self.tree):
            if not (isinstance(node, ast.Call) and
                    isinstance(node.func, ast.Attribute) and
                    node.func.attr in _LOG_METHODS and node.args and
                    _dotted(node.func.value).upper().endswith('LOG')):
                continue
            text = node.args[1 if node.func.attr == 'log' and
                             len(node.args) > 1 else 0]
            if isinstance(text, ast.JoinedStr) or (
                    isinstance(text, ast.Call) and
                    _dotted(text.func) in ('_', '_LE', '_LI', '_LW')) or (
                    isinstance(text, ast.Call) and
                    isinstance(text.func, ast.Attribute) and
                    text.func.attr == 'format'):
                yield text


class PureModule(Check):
    """G307: the planner and the domain modules do no I/O and ask no clock."""

    message = ('G307 this module is pure: no Nova, no database, no options, '
               'no clock, no I/O')

    def find(self):
        if not self.is_in(_PURE):
            return
        for node, imported, _name in _imports(self.tree):
            root = imported.partition('.')[0]
            foreign = root.startswith(('oslo', 'nova')) and \
                root not in _PURE_IMPORTS
            if foreign or root in _IMPURE_STDLIB or any(
                    _inside(path, imported) for path in _IMPURE_IMPORTS):
                yield node


class SwallowedFailure(Check):
    """G308: an error of any kind is never dropped without a word."""

    message = ('G308 catch what you expect, or log it; "except Exception: '
               'pass" hides every failure')

    def find(self):
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ExceptHandler) and \
                    self._catches_all(node.type) and all(
                        isinstance(line, (ast.Pass, ast.Continue)) or
                        (isinstance(line, ast.Expr) and
                         isinstance(line.value, ast.Constant))
                        for line in node.body):
                yield node

    @staticmethod
    def _catches_all(caught):
        if caught is None:
            return True
        names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
        return any(_dotted(name) in ('Exception', 'BaseException')
                   for name in names)
