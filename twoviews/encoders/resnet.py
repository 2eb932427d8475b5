"""Residual networks with torchvision's names: weights go from one to the other with `load_state_dict`.

He et al. 2016, arXiv:1512.03385, with the stride in a bottleneck's 3x3 convolution as in torchvision.
Width multiplier and CIFAR stem: Chen et al. 2020 (SimCLR), arXiv:2002.05709, section 4.2 and appendix B.9.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import UserError


def conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)


def shortcut(channels: int, out: int, stride: int) -> nn.Sequential | None:
    """A strided 1x1 convolution where the shape changes, else None for the identity."""
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(conv(channels, out, 1, stride), nn.BatchNorm2d(out))


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up by four, and a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A residual network without its classifier.

    blocks:   how many in each of the four stages, which have 64, 128, 256 and 512 channels times `width`.
    stem:     "imagenet" (7x7 stride 2, max pool) or "cifar" (3x3 stride 1, no pool) for images below 64 pixels.
    zero_init_residual: start each block as its shortcut (Goyal et al. 2017), as SimCLR's code does; torchvision's
              and MoCo's default is not to.
    Raises UserError on an unknown stem or a width that leaves no channels.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        channels: int = 3,
        width: float = 1.0,
        stem: str = "imagenet",
        zero_init_residual: bool = False,
    ):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise UserError(f"stem must be 'imagenet' or 'cifar', got '{stem}'")
        widths = [round(64 * width * 2**stage) for stage in range(4)]
        if widths[0] < 1:
            raise UserError(f"width multiplies 64 channels and must leave at least one, got {width}")
        small = stem == "cifar"
        self.conv1 = conv(channels, widths[0], 3) if small else conv(channels, widths[0], 7, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.dim = widths[0]
        stages = []
        for stage, (count, out) in enumerate(zip(blocks, widths, strict=True)):
            stages.append(nn.Sequential())
            for i in range(count):
                stages[-1].append(block(self.dim, out, stride=2 if stage and not i else 1))
                self.dim = out * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, (Basic, Bottleneck)):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w)"""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, h * w, D): one token per place, row by row."""
        return self.maps(x).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): the mean over places."""
        return self.maps(x).mean((2, 3))


def resnet18(channels: int = 3, width: float = 1.0, stem: str = "imagenet", zero_init_residual: bool = False) -> ResNet:
    """D = 512 * width."""
    return ResNet(Basic, (2, 2, 2, 2), channels, width, stem, zero_init_residual)


def resnet34(channels: int = 3, width: float = 1.0, stem: str = "imagenet", zero_init_residual: bool = False) -> ResNet:
    """D = 512 * width."""
    return ResNet(Basic, (3, 4, 6, 3), channels, width, stem, zero_init_residual)


def resnet50(channels: int = 3, width: float = 1.0, stem: str = "imagenet", zero_init_residual: bool = False) -> ResNet:
    """D = 2048 * width."""
    return ResNet(Bottleneck, (3, 4, 6, 3), channels, width, stem, zero_init_residual)


def resnet101(
    channels: int = 3, width: float = 1.0, stem: str = "imagenet", zero_init_residual: bool = False
) -> ResNet:
    """D = 2048 * width."""
    return ResNet(Bottleneck, (3, 4, 23, 3), channels, width, stem, zero_init_residual)
