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


"""Training on images of the shape of CIFAR-10, in images a second."""

import contextlib
import functools

import numpy

from perf.gpu.backends import nvml
from perf.gpu import case
from perf.gpu.groups import cifar10
from perf.gpu.groups import resnet
from perf.gpu.groups import timing

_HIDDEN = 64
_RATE = 0.01


@contextlib.contextmanager
def _resnet(backend, batch, folder, bf16):
    """ResNet-20 on the GPU, which is watched for how busy it is."""
    torch = backend.torch
    torch.backends.cudnn.benchmark = True
    training = resnet.Training(torch, 'cuda', cifar10.load(folder), batch,
                               bf16)
    run = timing.by_host(training.step, torch.cuda.synchronize)
    load = nvml.Load(backend.nvml)
    load.start()

    def stop():
        busy = load.stop()
        return {} if busy is None else {'gpu_busy_percent': round(busy, 1)}
    run.extra = stop
    try:
        yield run
    finally:
        load.stop()


class Perceptron:
    """A network of one hidden layer in NumPy: training without a GPU.

    :param data: images and labels.
    :param batch: images of a step.
    """

    def __init__(self, data, batch):
        images, labels = data
        self.images = images.reshape(len(images), -1)
        self.targets = numpy.eye(cifar10.CLASSES,
                                 dtype=numpy.float32)[labels]
        self.batch = batch
        random = numpy.random.default_rng(1)
        inside = self.images.shape[1]
        self.first = random.normal(
            0, inside ** -0.5, (inside, _HIDDEN)).astype(numpy.float32)
        self.second = random.normal(
            0, _HIDDEN ** -0.5,
            (_HIDDEN, cifar10.CLASSES)).astype(numpy.float32)
        self.start = 0

    def step(self):
        """One step of gradient descent on the cross entropy.

        :returns: the loss before it.
        """
        if self.start + self.batch > len(self.images):
            self.start = 0
        here = slice(self.start, self.start + self.batch)
        self.start += self.batch
        images, targets = self.images[here], self.targets[here]
        hidden = numpy.maximum(images @ self.first, 0)
        scores = hidden @ self.second
        scores -= scores.max(axis=1, keepdims=True)
        shares = numpy.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        loss = -numpy.log((shares * targets).sum(axis=1)).mean()
        back = (shares - targets) / len(images)
        hidden_back = (back @ self.second.T) * (hidden > 0)
        self.second -= _RATE * (hidden.T @ back)
        self.first -= _RATE * (images.T @ hidden_back)
        return loss


@contextlib.contextmanager
def _perceptron(_backend, batch, folder):
    yield timing.by_host(Perceptron(cifar10.load(folder), batch).step)


def cases(sizes, cifar10=None):
    """The cases of this group.

    :param cifar10: the folder of the set, None for synthetic images.
    """
    batch = sizes.batch
    data = _data(cifar10)
    for kind in ('fp32', 'bf16'):
        yield case.Case(
            name='training/resnet20/%s/%d' % (kind, batch), unit='images/s',
            better='higher', scale=batch,
            method='ResNet-20 by PyTorch in %s, batches of %d, %s, copied '
            'from page-locked memory; by the host\'s clock' % (
                kind, batch, data),
            open=functools.partial(_resnet, batch=batch, folder=cifar10,
                                   bf16=kind == 'bf16'),
            needs=('torch',), host_bytes=1 << 30, device_bytes=1 << 30,
            min_sample=0.1)
    yield case.Case(
        name='training/numpy/%d' % batch, unit='images/s', better='higher',
        scale=batch, method='a network of one hidden layer by NumPy, batches '
        'of %d, %s; by the host\'s clock' % (batch, data),
        open=functools.partial(_perceptron, batch=batch, folder=cifar10),
        host_bytes=1 << 28)


def _data(folder):
    return cifar10.named(folder)
