"""The network as a PyTorch module; PyTorch alone is needed.

Names are those of torchvision and timm (ResNet) or of timm (BiT).
"""

import torch
from torch import nn
from torch.nn import functional

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3),
          152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}  # fmt: skip


class Network(nn.Module):
    """Images, float32 [n, 3, h, w] in [0, 1], to features or, with classes, to logits.

    Normalises the images itself: leave that out where these weights are loaded into a network of
    timm's, which expects images that are normalised already.
    """

    def __init__(self, backbone, depth, width, stem, padding, mean, deviation, outputs):
        super().__init__()
        self.register_buffer('image_mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            'image_deviation', torch.tensor(deviation).view(1, 3, 1, 1), persistent=False
        )
        if backbone == 'bit':
            self.body = BiT(depth, width, outputs)
        else:
            self.body = ResNet(depth, width, stem, padding, outputs)

    def forward(self, images):
        return self.body((images - self.image_mean) / self.image_deviation)


class ResNet(nn.Module):
    """`padding`: torch (k // 2 on both sides), same (TensorFlow's), simclr (pooling alone)."""

    def __init__(self, depth, width, stem, padding, outputs):
        super().__init__()
        channels, small = round(64 * width), stem == 'small_images'
        same = padding == 'same'
        self.conv1 = conv(3, channels, 3 if small else 7, 1 if small else 2, same)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pool = nn.Identity() if small else MaxPool(padding != 'torch')
        block = Bottleneck if depth >= 50 else Basic
        size = channels
        for index, count in enumerate(BLOCKS[depth]):
            layers = []
            for number in range(count):
                stride = 2 if index and not number else 1
                layers.append(block(size, channels * 2**index, stride, same))
                size = channels * 2**index * block.expansion
            setattr(self, f'layer{index + 1}', nn.Sequential(*layers))
        self.fc = nn.Linear(size, outputs) if outputs else nn.Identity()

    def forward(self, x):
        x = self.pool(functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


class Basic(nn.Module):
    expansion = 1

    def __init__(self, size, channels, stride, same):
        super().__init__()
        self.conv1, self.bn1 = conv(size, channels, 3, stride, same), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3, 1, same), nn.BatchNorm2d(channels)
        self.downsample = shortcut(size, channels, stride, same)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, size, channels, stride, same):
        super().__init__()
        out = 4 * channels
        self.conv1, self.bn1 = conv(size, channels, 1, 1, same), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3, stride, same), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = conv(channels, out, 1, 1, same), nn.BatchNorm2d(out)
        self.downsample = shortcut(size, out, stride, same)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(size, out, stride, same):
    if stride == 1 and size == out:
        return nn.Identity()
    return nn.Sequential(conv(size, out, 1, stride, same), nn.BatchNorm2d(out))


def conv(size, out, kernel, stride, same):
    kind = SameConv if same and stride > 1 and kernel > 1 else nn.Conv2d
    return kind(size, out, kernel, stride, padding=kernel // 2, bias=False)


class SameConv(nn.Conv2d):
    """Padded as TensorFlow does: what is odd of the padding comes at the end."""

    def forward(self, x):
        x = functional.pad(x, same_padding(x, self.kernel_size[0], self.stride[0]))
        return functional.conv2d(x, self.weight, None, self.stride)


class MaxPool(nn.Module):
    def __init__(self, same):
        super().__init__()
        self.same = same

    def forward(self, x):
        if not self.same:
            return functional.max_pool2d(x, 3, 2, 1)
        x = functional.pad(x, same_padding(x, 3, 2), value=float('-inf'))
        return functional.max_pool2d(x, 3, 2)


def same_padding(x, kernel, stride):
    """left, right, top, bottom"""
    padding = []
    for length in (x.shape[3], x.shape[2]):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        padding += [total // 2, total - total // 2]
    return padding


class BiT(nn.Module):
    """ResNet-v2 with group normalisation and weight standardisation (arXiv:1912.11370)."""

    def __init__(self, depth, width, outputs):
        super().__init__()
        channels = size = round(64 * width)
        self.stem = nn.Module()
        self.stem.conv = StandardizedConv(3, channels, 7, 2)
        self.stages = nn.ModuleList()
        for index, count in enumerate(BLOCKS[depth]):
            stage = nn.Module()
            stage.blocks = nn.Sequential()
            for number in range(count):
                stride = 2 if index and not number else 1
                stage.blocks.append(Preact(size, channels * 2**index, stride))
                size = 4 * channels * 2**index
            self.stages.append(stage)
        self.norm = nn.GroupNorm(32, size)
        self.head = nn.Module()
        self.head.fc = nn.Conv2d(size, outputs, 1) if outputs else nn.Identity()

    def forward(self, x):
        x = functional.max_pool2d(functional.pad(self.stem.conv(x), (1, 1, 1, 1)), 3, 2)
        for stage in self.stages:
            x = stage.blocks(x)
        x = functional.relu(self.norm(x)).mean(dim=(2, 3), keepdim=True)
        return self.head.fc(x).flatten(1)


class Preact(nn.Module):
    def __init__(self, size, channels, stride):
        super().__init__()
        out = 4 * channels
        self.norm1, self.conv1 = nn.GroupNorm(32, size), StandardizedConv(size, channels, 1, 1)
        self.norm2 = nn.GroupNorm(32, channels)
        self.conv2 = StandardizedConv(channels, channels, 3, stride)
        self.norm3, self.conv3 = nn.GroupNorm(32, channels), StandardizedConv(channels, out, 1, 1)
        self.downsample = None
        if stride != 1 or size != out:
            self.downsample = nn.Module()
            self.downsample.conv = StandardizedConv(size, out, 1, stride)

    def forward(self, x):
        y = functional.relu(self.norm1(x))
        if self.downsample is not None:
            x = self.downsample.conv(y)
        y = self.conv2(functional.relu(self.norm2(self.conv1(y))))
        return x + self.conv3(functional.relu(self.norm3(y)))


class StandardizedConv(nn.Conv2d):
    def __init__(self, size, out, kernel, stride):
        super().__init__(size, out, kernel, stride, padding=kernel // 2, bias=False)

    def forward(self, x):
        axes = (1, 2, 3)
        centred = self.weight - self.weight.mean(axes, keepdim=True)
        variance = centred.square().mean(axes, keepdim=True)
        weight = centred / torch.sqrt(variance + 1e-10)
        return functional.conv2d(x, weight, None, self.stride, self.padding)
