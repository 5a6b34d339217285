"""A BiT in PyTorch, which alone is needed; names are those of timm."""

import torch
from torch import nn
from torch.nn import functional

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Network(nn.Module):
    """Normalised images, float32 [n, 3, h, w], to features or, with outputs, to logits.

    ResNet-v2 with group normalisation and weight standardisation (arXiv:1912.11370).
    """

    def __init__(self, outputs, depth, width):
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
