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

"""What modprobe has been told, from all places where it looks."""

_FOLDERS = ('/etc/modprobe.d', '/run/modprobe.d', '/usr/local/lib/modprobe.d',
            '/usr/lib/modprobe.d', '/lib/modprobe.d')
_NOTHING = ('/bin/false', '/bin/true', '/usr/bin/false', '/usr/bin/true')


class Config:
    """Lines of the configuration, and of the kernel's command line.

    :param lines: of (where, words)
    """

    def __init__(self, lines):
        self._blacklist, self._before, self._options = {}, {}, {}
        for where, words in lines:
            if len(words) < 2:
                continue
            verb, name, rest = words[0], _plain(words[1]), words[2:]
            if verb == 'blacklist' or (verb == 'install' and
                                       rest[:1] and rest[0] in _NOTHING):
                self._blacklist.setdefault(name, where)
            elif verb == 'softdep':
                self._before.setdefault(name, []).extend(_pre(rest))
            elif verb == 'options':
                for option in rest:
                    key, _equals, value = option.partition('=')
                    self._options.setdefault((name, key), []).extend(
                        value.split(','))

    @classmethod
    def of(cls, root, machine):
        """Read the files of a host; the first of a name wins."""
        names = {}
        for folder in _FOLDERS:
            for name in root.names(folder):
                if name.endswith('.conf'):
                    names.setdefault(name, f'{folder}/{name}')
        lines = []
        for _name, path in sorted(names.items()):
            text = (root.text(path) or '').replace('\\\n', ' ')
            lines += [(path, line.split()) for line in text.splitlines()
                      if not line.lstrip().startswith('#')]
        for argument in machine.command_line:
            lines += _from_argument(argument)
        return cls(lines)

    def is_blacklisted(self, module):
        return module in self._blacklist

    def where(self, module):
        """Which file blacklists a module."""
        return self._blacklist[module]

    def before(self, module):
        """Modules that are loaded before a module."""
        return self._before.get(module, [])

    def options(self, module, key):
        """The values of an option, of all lines."""
        return self._options.get((module, key), [])


def _plain(name):
    return name.replace('-', '_')


def _pre(words):
    found, active = [], False
    for word in words:
        if word.endswith(':'):
            active = word == 'pre:'
        elif active:
            found.append(_plain(word))
    return found


def _from_argument(argument):
    """What an argument of the kernel means to modprobe."""
    where = 'the kernel\'s command line'
    key, equals, value = argument.partition('=')
    if key in ('modprobe.blacklist', 'module_blacklist'):
        return [(where, ['blacklist', name]) for name in value.split(',')]
    module, dot, option = key.partition('.')
    if equals and dot:
        return [(where, ['options', module, f'{option}={value}'])]
    return []
