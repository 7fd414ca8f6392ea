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


"""ResNet-20 for images of 32 by 32.

He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR
2016, section 4.2: a convolution, three stages of three blocks with 16, 32 and
64 channels, shortcuts without parameters (their option A), 0.27 million
parameters. Functions that take the module, for PyTorch is not everywhere.
"""

from perf.gpu.groups import cifar10

_BLOCKS = 3
_CHANNELS = (16, 32, 64)


def build(torch):
    """The network on the CPU."""
    nn = torch.nn

    class Block(nn.Module):
        """Two convolutions and the way past them."""

        def __init__(self, inside, outside):
            super().__init__()
            stride = outside // inside
            self.grows = outside - inside
            self.stride = stride
            self.path = nn.Sequential(
                nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outside), nn.ReLU(inplace=True),
                nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
                nn.BatchNorm2d(outside))

        def forward(self, images):
            past = images
            if self.grows:
                past = nn.functional.pad(
                    images[:, :, ::self.stride, ::self.stride],
                    (0, 0, 0, 0, 0, self.grows))
            return nn.functional.relu(self.path(images) + past)

    layers = [nn.Conv2d(cifar10.SHAPE[0], _CHANNELS[0], 3, 1, 1, bias=False),
              nn.BatchNorm2d(_CHANNELS[0]), nn.ReLU(inplace=True)]
    inside = _CHANNELS[0]
    for channels in _CHANNELS:
        for _ in range(_BLOCKS):
            layers.append(Block(inside, channels))
            inside = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(),
               nn.Linear(inside, cifar10.CLASSES)]
    return nn.Sequential(*layers)


class Training:
    """Steps of training, with batches that come from the host each time.

    :param torch: PyTorch.
    :param device: ``cuda`` or ``cpu``.
    :param data: images and labels as NumPy arrays.
    :param batch: images of a step.
    :param bf16: whether to compute in bfloat16 where PyTorch's autocast does.
    """

    def __init__(self, torch, device, data, batch, bf16):
        self.torch = torch
        self.device = device
        self.bf16 = bf16
        torch.manual_seed(1)
        self.model = build(torch).to(device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        images, labels = (torch.from_numpy(part) for part in data)
        self.batches = [
            (self._held(images[start:start + batch]),
             self._held(labels[start:start + batch]))
            for start in range(0, len(images) - batch + 1, batch)]
        self.next = 0

    def _held(self, tensor):
        """Page-locked where a GPU is to fetch it."""
        return tensor.pin_memory() if self.device != 'cpu' else tensor

    def step(self):
        """One step.

        :returns: the loss, still on its way on a GPU.
        """
        torch = self.torch
        images, labels = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        images = images.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, dtype=torch.bfloat16,
                            enabled=self.bf16):
            loss = torch.nn.functional.cross_entropy(
                self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss
