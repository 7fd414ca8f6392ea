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

"""How the content of a file comes about: whole, or a part of another's.

A file that is ours is replaced. In a file that others write too, ours is a
block between two comments, or some words of a line; all else stays, and what
is ours can be taken out again whatever was changed since.
"""

import dataclasses

HEADER = '# Written by gpu-host-prep: its next "apply" replaces changes.'
_BEGIN = '# BEGIN gpu-host-prep'
_END = '# END gpu-host-prep'
OWNED, BLOCK, WORDS = 'owned', 'block', 'words'


@dataclasses.dataclass(frozen=True)
class File:
    """What a file should say.

    :param how: ``owned``, ``block`` or ``words``
    :param ours: the lines, or the words
    :param base: what a file of words has if there is none yet
    """

    path: str
    how: str
    ours: tuple[str, ...]
    mode: int = 0o644
    base: str = ''

    def content(self, old):
        """The bytes that the file should have.

        :param old: the bytes that it has, or None
        """
        if self.how == OWNED:
            return _lines(self.ours)
        text = (old or b'').decode('utf-8', 'surrogateescape')
        if self.how == WORDS:
            text = _with_words(text if old is not None else self.base,
                               self.ours)
        elif self.ours:
            text = _without_block(text)
            if text and not text.endswith('\n'):
                text += '\n'
            text += _lines((_BEGIN, *self.ours, _END)).decode()
        return text.encode('utf-8', 'surrogateescape')


def owned(path, lines, mode=0o644):
    return File(path, OWNED, tuple(lines), mode)


def block(path, lines):
    return File(path, BLOCK, tuple(lines))


def words(path, ours, base):
    return File(path, WORDS, tuple(ours), base=base)


def without_ours(how, ours, content, original):
    """Take our part out of a shared file.

    :param how: ``block`` or ``words``
    :param ours: the words that were put in
    :param content: the bytes that it has now
    :param original: the bytes that it had before us, or None
    """
    text = content.decode('utf-8', 'surrogateescape')
    if how == BLOCK:
        text = _without_block(text)
    else:
        before = (original or b'').decode('utf-8', 'surrogateescape').split()
        text = ' '.join(word for word in text.split()
                        if word in before or word not in ours) + '\n'
    return text.encode('utf-8', 'surrogateescape')


def _lines(lines):
    return ''.join(f'{line}\n' for line in lines).encode()


def _without_block(text):
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if line.strip() == _BEGIN:
            inside = True
        elif inside and line.strip() == _END:
            inside = False
        elif not inside:
            kept.append(line)
    return ''.join(kept)


def _with_words(text, ours):
    """Put words at the end, in the place of others with the same name."""
    names = {word.partition('=')[0] for word in ours}
    kept = [word for word in text.split()
            if word.partition('=')[0] not in names]
    return ' '.join([*kept, *ours]) + '\n'
