"""ResNet-C4: a stem, res2, res3 and res4 make features of 1/16 of a picture's size; res5 belongs to the heads."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.extract.frcnn.config import BLOCKS, FrcnnConfig

STRIDE = 16
"""Pixels a side of a cell of res4."""


class NormedConv(nn.Conv2d):
    """A convolution without bias, then batch norm of stored statistics, which `fold` multiplies into its weights."""

    def __init__(
        self, channels: int, out: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(channels, out, kernel, stride, padding, dilation=dilation, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out, eps=1e-5).eval()

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(x))
        return normed

    def fold(self) -> None:
        """Put the norm's factor and shift into weight and bias of the convolution."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            return
        # In double precision, so that single precision is rounded once.
        factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * factor
        dtype = self.weight.dtype
        self.weight = nn.Parameter((self.weight.double() * factor[:, None, None, None]).to(dtype), requires_grad=False)
        self.bias = nn.Parameter(shift.to(dtype), requires_grad=False)
        self.norm = nn.Identity()


class Stem(nn.Module):
    """7×7 of stride 2, ReLU, maximum over 3×3 of stride 2."""

    def __init__(self, config: FrcnnConfig) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, config.stem_channels, 7, stride=2)
        self.caffe_pool = config.max_pool

    def forward(self, pixels: Tensor) -> Tensor:
        x = functional.relu(self.conv1(pixels), inplace=True)
        if self.caffe_pool:
            return functional.max_pool2d(x, 3, 2, padding=0, ceil_mode=True)
        return functional.max_pool2d(x, 3, 2, padding=1)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 beside a shortcut.

    Args:
        channels, inner, out: of the input, between the convolutions, of the output.
        stride_in_1x1: whether the first 1×1 carries the stride; otherwise the 3×3.
    """

    def __init__(
        self, channels: int, inner: int, out: int, *, stride: int, dilation: int, groups: int, stride_in_1x1: bool
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = NormedConv(channels, inner, 1, stride=first)
        self.conv2 = NormedConv(inner, inner, 3, stride=second, dilation=dilation, groups=groups)
        self.conv3 = NormedConv(inner, out, 1)
        # F4: numbers of channels decide, not the stride.
        self.shortcut = NormedConv(channels, out, 1, stride=stride) if channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.conv1(x), inplace=True)
        inner = functional.relu(self.conv2(inner), inplace=True)
        short = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(self.conv3(inner).add_(short), inplace=True)


def stage(config: FrcnnConfig, number: int, *, stride: int, dilation: int = 1) -> nn.Sequential:
    """Make res`number`, 2 to 5; its first block has the stride."""
    out = config.res2_channels * 2 ** (number - 2)
    inner = config.groups * config.group_width * 2 ** (number - 2)
    before = config.stem_channels if number == 2 else out // 2
    return nn.Sequential(
        *(
            Bottleneck(
                before if block == 0 else out,
                inner,
                out,
                stride=stride if block == 0 else 1,
                dilation=dilation,
                groups=config.groups,
                stride_in_1x1=config.stride_in_1x1,
            )
            for block in range(BLOCKS[config.depth][number - 2])
        )
    )


class Backbone(nn.Module):
    """Pixels (1, 3, H, W) to res4 (1, 4 · res2_channels, ~H/16, ~W/16)."""

    def __init__(self, config: FrcnnConfig) -> None:
        super().__init__()
        self.stem = Stem(config)
        self.res2 = stage(config, 2, stride=1)
        self.res3 = stage(config, 3, stride=2)
        self.res4 = stage(config, 4, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.stem(pixels)
        for each in (self.res2, self.res3, self.res4):
            x = each(x)
        return x
