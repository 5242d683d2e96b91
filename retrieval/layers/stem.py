"""The first layers: from pixels to the feature map that the stages take over."""

import torch
from torch import nn

from retrieval.layers.norm import BatchNormAct


class ConvStem(nn.Module):
    """Two 3×3 convolutions, the first of stride 2 (stage S0 of CoAtNet)."""

    stride = 2

    def __init__(self, channels: tuple[int, int], activation: str):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, stride=2, padding=1, bias=False)
        self.norm1 = BatchNormAct(channels[0], activation)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1, bias=False)

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.norm1(_first_conv(self.conv1, pixels_B3HW)))


def _first_conv(conv: nn.Conv2d, pixels_B3HW: torch.Tensor) -> torch.Tensor:
    # On a CPU the bfloat16 gradient of a strided convolution over 3 channels took 28 times float32's (torch 2.13).
    if pixels_B3HW.device.type == "cpu" and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):
            return conv(pixels_B3HW.to(conv.weight.dtype))
    return conv(pixels_B3HW)


class Conv16Stem(nn.Module):
    """Four 3×3 convolutions of stride 2 and one 1×1, stride 16 in all: the convolutional stem of ViT-REL."""

    stride = 16

    def __init__(self, channels: tuple[int, int], activation: str):
        super().__init__()
        layers, in_channels = [], 3
        for out_channels in (channels[0], channels[0], channels[1], channels[1]):
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
                BatchNormAct(out_channels, activation),
            ]
            in_channels = out_channels
        self.layers = nn.Sequential(*layers)
        self.project = nn.Conv2d(in_channels, channels[1], 1)

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return self.project(self.layers(pixels_B3HW))


class PatchStem(nn.Module):
    """Each P×P patch flattened to a vector v and mapped once, e = Wv + b (P = 16)."""

    stride = 16

    def __init__(self, num_channels: int):
        super().__init__()
        self.project = nn.Linear(3 * self.stride**2, num_channels)

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = pixels_B3HW.shape
        rows, columns, side = height // self.stride, width // self.stride, self.stride
        patches = pixels_B3HW.reshape(batch, 3, rows, side, columns, side)
        patches_BhwV = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows, columns, -1)
        return self.project(patches_BhwV).permute(0, 3, 1, 2)
