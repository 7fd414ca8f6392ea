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


"""Images of the shape of CIFAR-10: the set itself, or made up.

The set is read from its binary version (Krizhevsky, Learning Multiple Layers
of Features from Tiny Images, 2009): records of one byte of label and 3072
bytes of image. The version made with Python's pickle is not read, since
reading it runs whatever is in it.
"""

import pathlib

import numpy

from perf.gpu import errors

SHAPE = (3, 32, 32)
CLASSES = 10
_RECORD = 1 + 3 * 32 * 32
# As many synthetic images as make ten batches of 128; more would only take
# longer to make, as their values do not matter for the speed.
_SYNTHETIC = 1280


def load(folder, seed=1):
    """Images and labels.

    :param folder: where ``data_batch_1.bin`` lies, None for synthetic images.
    :param seed: of the synthetic images.
    :returns: (float32 images between -1 and 1, int64 labels).
    :raises: PerfError if the file is not what it should be.
    """
    if folder is None:
        random = numpy.random.default_rng(seed)
        images = random.uniform(-1, 1, (_SYNTHETIC, *SHAPE))
        labels = random.integers(0, CLASSES, _SYNTHETIC)
        return images.astype(numpy.float32), labels
    path = pathlib.Path(folder) / 'data_batch_1.bin'
    try:
        raw = numpy.fromfile(path, dtype=numpy.uint8)
    except OSError as error:
        raise errors.PerfError(
            'The CIFAR-10 set cannot be read: %s. --cifar10 takes the folder '
            'of its binary version, with data_batch_1.bin.' % error)
    if not raw.size or raw.size % _RECORD:
        raise errors.PerfError(
            '%s is no file of the binary version of CIFAR-10: %d bytes are no '
            'records of %d.' % (path, raw.size, _RECORD))
    records = raw.reshape(-1, _RECORD)
    images = records[:, 1:].reshape(-1, *SHAPE).astype(numpy.float32)
    return images / 127.5 - 1, records[:, 0].astype(numpy.int64)


def named(folder):
    """What a report says of the data."""
    return 'synthetic images' if folder is None else 'CIFAR-10'
