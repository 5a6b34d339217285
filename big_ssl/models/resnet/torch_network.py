"""A ResNet in PyTorch, which alone is needed; names are those of torchvision and timm."""

from torch import nn
from torch.nn import functional

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3),
          152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}  # fmt: skip


class Network(nn.Module):
    """Normalised images, float32 [n, 3, h, w], to features or, with outputs, to logits.

    `padding`: torch (k // 2 on both sides), same (TensorFlow's), simclr (pooling alone).
    """

    def __init__(self, outputs, depth, width, stem, padding):
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
