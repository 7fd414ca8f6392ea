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


"""A result as a file: its form, and that it is checked on the way in."""

import json
import os
import pathlib
import tempfile

import jsonschema

from perf.gpu import errors

NAME = 'nova-gpu-lease/perf-gpu'
# Raised when an older version of this program would misread a new file.
VERSION = 1

_NUMBER = {'type': 'number', 'exclusiveMinimum': 0}
_TEXTS = {'type': 'object', 'additionalProperties': {'type': 'string'}}
_ROUND = {
    'type': 'object',
    # Clocks and the like differ from GPU to GPU.
    'required': ['round', 'samples', 'loops', 'value', 'low', 'high',
                 'tight'],
    'properties': {
        'round': {'type': 'integer', 'minimum': 0},
        'samples': {'type': 'integer', 'minimum': 1},
        'loops': {'type': 'integer', 'minimum': 1},
        'value': _NUMBER, 'low': _NUMBER, 'high': _NUMBER,
        'tight': {'type': 'boolean'},
        'throttled': {'type': 'array', 'items': {'type': 'string'}},
        'gpu_busy_percent': {'type': 'number'},
    },
}
_TEST = {
    'type': 'object',
    'required': ['unit', 'better', 'method', 'rounds'],
    'additionalProperties': False,
    'properties': {
        'unit': {'type': 'string'},
        'better': {'enum': ['higher', 'lower']},
        'method': {'type': 'string'},
        'rounds': {'type': 'array', 'items': _ROUND, 'minItems': 1},
    },
}
SCHEMA = {
    'type': 'object',
    'required': ['schema', 'version', 'label', 'started', 'ended',
                 'interrupted', 'backend', 'sizes', 'settings', 'machine',
                 'tests', 'skipped', 'failed'],
    'additionalProperties': False,
    'properties': {
        'schema': {'const': NAME},
        'version': {'const': VERSION},
        'label': {'type': 'string'},
        'started': {'type': 'string'},
        'ended': {'type': 'string'},
        'interrupted': {'type': 'boolean'},
        'backend': {'enum': ['cpu', 'gpu']},
        'sizes': {'type': 'string'},
        'settings': {'type': 'object'},
        'machine': {'type': 'object'},
        'tests': {'type': 'object', 'additionalProperties': _TEST},
        'skipped': _TEXTS,
        'failed': _TEXTS,
    },
}
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def _reject(constant):
    """NaN and infinities are no JSON, though Python reads them."""
    raise ValueError('%s is no number' % constant)


def parse(text, source):
    """A result from its text.

    :param source: what the text came from, for the error.
    :raises: PerfError that names the place and what is wrong with it.
    """
    try:
        result = json.loads(text, parse_constant=_reject)
    except ValueError as error:
        raise errors.PerfError('%s holds no JSON: %s. It should be what '
                               '"python -m perf.gpu run" wrote.' % (
                                   source, error))
    if not isinstance(result, dict) or result.get('schema') != NAME:
        raise errors.PerfError(
            '%s is no result of this benchmark: it does not say "schema": '
            '"%s".' % (source, NAME))
    if result.get('version') != VERSION:
        raise errors.PerfError(
            '%s has version %r of the format, this program reads version %d. '
            'Compare with the program that measured, or measure again.' % (
                source, result.get('version'), VERSION))
    problem = next(iter(sorted(_VALIDATOR.iter_errors(result),
                               key=lambda error: list(error.path))), None)
    if problem is not None:
        raise errors.PerfError('%s is damaged at %s: %s' % (
            source, '/'.join(map(str, problem.path)) or 'the top',
            problem.message[:200]))
    return result


def load(path):
    """A result from a file.

    :raises: PerfError if it cannot be read or used.
    """
    try:
        text = pathlib.Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise errors.PerfError('%s cannot be read: %s' % (path, error))
    return parse(text, path)


def write_text(path, text):
    """Replace a file as a whole: whoever reads it never sees half of it.

    :raises: PerfError if it cannot be written.
    """
    path = pathlib.Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, 'w', encoding='utf-8') as file:
                file.write(text)
            # As any new file; mkstemp's are for their owner only.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise errors.PerfError('%s cannot be written: %s' % (path, error))


def dump(result):
    """The text of a result, one line for each round."""
    return json.dumps(result, indent=1, sort_keys=True) + '\n'
