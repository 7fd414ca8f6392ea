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


"""Our filter in the text of an api-paste.ini: put it in, say what is wrong.

The file belongs to the operator, so it is edited as text: everything else in
it stays as it is.
"""

import configparser
import re

from nova_gpu_lease import exception

FILTER = 'gpu_lease'
FACTORY = 'nova_gpu_lease.api.wsgi:filter_factory'
SECTION = '[filter:%s]\npaste.filter_factory = %s\n' % (FILTER, FACTORY)

#: What makes the context, which the filter needs.
_CONTEXT = 'keystonecontext'
#: Nova's application, behind all filters.
_APP_FACTORY = 'nova.api.openstack.compute:APIRouterV21.factory'

_SECTION_LINE = re.compile(r'^\[(?P<name>[^]]+)\]', re.M)


def insert_filter(text):
    """Put the filter into an api-paste.ini, unless it is there.

    It goes directly before Nova's application in every pipeline that has a
    context, so behind what an operator has added.

    :param text: the file's text.
    :returns: the new text; the same text when nothing was missing.
    :raises: exception.InvalidPasteFile when there is no pipeline of Nova's
        API in it, or the filter is there in the wrong place.
    """
    config = _parse(text)
    pipelines = _pipelines(config)
    if not pipelines:
        raise exception.InvalidPasteFile(
            reason='no pipeline of the compute API was found')
    name = _filter_name(config)
    for section, words in pipelines.items():
        if name not in words:
            text = _insert_word(text, section, words, name or FILTER)
    if name is None:
        text = _insert_section(text)
    for problem in problems(text):
        raise exception.InvalidPasteFile(reason=problem)
    return text


def problems(text):
    """What keeps the filter from working.

    :param text: the text of an api-paste.ini.
    :returns: a list of sentences, empty when all is well.
    """
    try:
        config = _parse(text)
    except configparser.Error as exc:
        return ['it cannot be read: %s' % exc]
    name = _filter_name(config)
    pipelines = _pipelines(config)
    if not pipelines:
        return ['no pipeline of the compute API was found']
    found = []
    if name is None:
        found.append('the section [filter:%s] with paste.filter_factory = %s '
                     'is missing' % (FILTER, FACTORY))
    for section, words in pipelines.items():
        if (name or FILTER) not in words:
            found.append("the filter '%s' is missing in [%s], before '%s'" %
                         (name or FILTER, section, words[-1]))
        elif words.index(name or FILTER) < words.index(_CONTEXT):
            found.append("the filter '%s' is before '%s' in [%s]; put it "
                         "before '%s'" %
                         (name or FILTER, _CONTEXT, section, words[-1]))
    return found


def _parse(text):
    config = configparser.RawConfigParser(strict=False)
    config.optionxform = str
    config.read_string(text)
    return config


def _filter_name(config):
    """What the file calls our filter, or None."""
    for section in config.sections():
        kind, _, name = section.partition(':')
        if kind == 'filter' and FACTORY == config.get(
                section, 'paste.filter_factory', fallback=None):
            return name
    return None


def _pipelines(config):
    """The pipelines that end in Nova's application, by section.

    :returns: a dict of section to a list of words, filters and application.
    """
    apps = {section.partition(':')[2] for section in config.sections()
            if section.startswith('app:') and _APP_FACTORY == config.get(
                section, 'paste.app_factory', fallback=None)}
    found = {}
    for section in config.sections():
        for option, value in config.items(section):
            words = value.split()
            if option in ('keystone', 'pipeline') and _CONTEXT in words and \
                    words[-1] in apps:
                found[section] = words
    return found


def _insert_word(text, section, words, name):
    # Between the last filter and the application, whatever lines they are on.
    start = next(match.end() for match in _SECTION_LINE.finditer(text)
                 if match['name'] == section)
    old = re.compile(
        r'^((?:keystone|pipeline)\s*[=:]\s*%s\s+)(%s[ \t\r]*$)' % (
            r'\s+'.join(map(re.escape, words[:-1])), re.escape(words[-1])),
        re.M)
    return text[:start] + old.sub(r'\g<1>%s \g<2>' % name, text[start:], 1)


def _insert_section(text):
    """Add the filter's section before that of Nova's application."""
    config = _parse(text)
    app = next(iter(_pipelines(config).values()))[-1]
    for match in _SECTION_LINE.finditer(text):
        if match['name'] == 'app:' + app:
            return text[:match.start()] + SECTION + '\n' + \
                text[match.start():]
    raise exception.InvalidPasteFile(reason='no section [app:%s]' % app)
