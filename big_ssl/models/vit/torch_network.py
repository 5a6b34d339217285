"""A ViT in PyTorch, which alone is needed; names are those of timm."""

import torch
from torch import nn
from torch.nn import functional

HEAD = 64


class Network(nn.Module):
    """Normalised images, float32 [n, 3, h, w], to the class token or, with outputs, to logits."""

    def __init__(self, outputs, depth, width, patch, registers, layer_scale, image_size):
        super().__init__()
        positions = (image_size // patch) ** 2 + (registers == 0)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.reg_token = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*(Block(width, layer_scale) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, outputs) if outputs else nn.Identity()

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(x.shape[0], -1, -1)
        if self.reg_token is None:
            x = torch.cat([first, x], 1) + self.pos_embed
        else:
            registers = self.reg_token.expand(x.shape[0], -1, -1)
            x = torch.cat([first, registers, x + self.pos_embed], 1)
        return self.head(self.norm(self.blocks(x)[:, 0]))


class Block(nn.Module):
    def __init__(self, width, layer_scale):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp = Attention(width), MLP(width)
        self.ls1 = LayerScale(width) if layer_scale else nn.Identity()
        self.ls2 = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        parts = self.qkv(x).view(n, tokens, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.proj(x.transpose(1, 2).reshape(n, tokens, width))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x):
        return x * self.gamma
