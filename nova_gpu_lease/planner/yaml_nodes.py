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


"""Reading YAML by its nodes, which know the line that they come from."""

import yaml

#: More mistakes than this are not listed.
MAX_PROBLEMS = 20


class TooMany(Exception):
    """Reading on is of no use."""


class Reader:
    """Takes nodes apart and collects what is wrong with them.

    :ivar name: of the file.
    :ivar problems: list of messages: file, line, what was given, what is
        accepted.
    """

    def __init__(self, name):
        self.name = name
        self.problems = []

    def fail(self, node, problem):
        """Note a mistake; the reading goes on behind it."""
        self.problems.append('%s, line %d: %s' % (
            self.name, node.start_mark.line + 1, problem))
        if len(self.problems) >= MAX_PROBLEMS:
            raise TooMany

    def mapping(self, node, where, accepted, pattern=None, wanted=None):
        """{key: node} of a mapping; mistakes are noted and left out.

        :param accepted: the keys that it may have; None: those that match a
            pattern.
        :param wanted: what the pattern accepts, for the message.
        """
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, '%s: %s is not accepted; a mapping%s is.' % (
                where, shown(node), accepted and ' with the keys %s' %
                ', '.join(accepted) or ''))
            return {}
        keys = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ''
            if accepted and name not in accepted:
                self.fail(key, '%s: unknown key %s; accepted: %s.' % (
                    where, shown(key), ', '.join(accepted)))
            elif pattern and not pattern.match(name):
                self.fail(key, '%s: the name %s is not accepted; %s.' % (
                    where, shown(key), wanted))
            elif name in keys:
                self.fail(key, '%s: "%s" is given twice.' % (where, name))
            else:
                keys[name] = value
        return keys

    def sequence(self, node, where):
        """The nodes of a list."""
        if isinstance(node, yaml.SequenceNode):
            return node.value
        self.fail(node, '%s: %s is not accepted; a list is.' % (
            where, shown(node)))
        return []

    def text(self, node, where, pattern, accepted):
        """A scalar that matches a pattern, else None."""
        if isinstance(node, yaml.ScalarNode) and pattern.match(node.value):
            return node.value
        self.fail(node, '%s: %s is not accepted; %s.' % (
            where, shown(node), accepted))
        return None


def shown(node):
    """What was given, for a message."""
    if isinstance(node, yaml.ScalarNode):
        return '"%s"' % node.value if node.value else 'nothing'
    return 'a list' if isinstance(node, yaml.SequenceNode) else 'a mapping'
