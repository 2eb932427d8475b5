"""What is exported: a network, and the facts that a reader elsewhere needs."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..calls import PACKAGE, knobs
from ..data.ops import normalize
from ..data.views import center
from ..errors import UserError
from ..types import Method

CENTER = f"{center.__module__}:{center.__qualname__}"
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's names


class Network(nn.Module):
    """image (B, C, S, S) -> h (B, D), or (h, z) with the projection of a method."""

    def __init__(self, encoder: nn.Module, projection: Method | None = None):
        super().__init__()
        self.encoder, self.projection = encoder, projection

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = self.encoder(image)
        return h if self.projection is None else (h, self.projection.project(h))


def network(encoder: nn.Module, method: Method | None = None) -> Network:
    """A copy on the CPU in eval mode, with what `method.project` needs and nothing else of the method."""
    encoder = (
        deepcopy(encoder).cpu().to(memory_format=torch.contiguous_format)
    )  # after training on a GPU: channels last
    return Network(encoder, None if method is None else projection(deepcopy(method).cpu().eval())).eval()


def projection(method: Method) -> Method:
    """The method without the parts that `project` can do without: encoder, queue, slow weights. In eval mode.

    Raises UserError for a method that has no projection.
    """
    if type(method).project is Method.project:
        raise UserError(f"{type(method).__name__} has no projection: leave --head out")
    h = torch.zeros(2, int(method.encoder.dim))  # type: ignore[arg-type]
    slim, needed = copy(method), dict(method._modules)
    for name in method._modules:
        slim._modules = {k: m for k, m in needed.items() if k != name}
        try:
            with torch.no_grad():
                slim.project(h)
            del needed[name]
        except AttributeError:  # how a module says that it lacks a part
            continue
    slim._modules = needed
    return slim


@dataclass(frozen=True)
class Preparation:
    """From a photo to what an encoder reads: what `center(size)` does, for readers without twoviews.

    max_side: the shorter side to which the run's own photos were reduced while decoding, or None.
    """

    size: int
    channels: int
    max_side: int | None = None
    mean: float = knobs(normalize)["mean"]
    std: float = knobs(normalize)["std"]

    def __str__(self) -> str:
        s = self.size
        return f"the central square, {s} x {s} pixels (bilinear, antialiased), / 255, (x - {self.mean}) / {self.std}"

    def steps(self) -> list[str]:
        order = MODES.get(self.channels, f"{self.channels} channels in the order of the data")
        alpha = "; what is transparent on white" if self.channels in (1, 3) else ""
        return [
            f"decode to 8 bits, {order}, upright (EXIF){alpha}",
            "crop the central square, as large as the photo allows; an odd pixel is left at the bottom or right",
            f"resize it to {self.size} x {self.size} pixels, bilinear with antialiasing, in floating point",
            "divide by 255",
            f"subtract {self.mean} and divide by {self.std} in each channel",
        ]

    def code(self) -> str:
        """The same as a function `prepare(photo)`, with torchvision; equal to 1e-5 for photos without transparency."""
        mode, s = MODES.get(self.channels), self.size
        photo = "photo: torch.Tensor" if mode is None else "photo: Image.Image"
        read = "photo" if mode is None else f'F.pil_to_tensor(ImageOps.exif_transpose(photo).convert("{mode}"))'
        imports = ["import torch", "from torchvision.transforms.v2 import functional as F", "", ""]
        if mode is not None:
            imports[1:1] = ["from PIL import Image, ImageOps"]
        lines = [
            f"def prepare({photo}) -> torch.Tensor:  # ({self.channels}, {s}, {s})",
            f"    x = {read}.float() / 255",
            "    side = min(x.shape[1:])",
            "    top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2",
            f"    x = F.resized_crop(x, top, left, side, side, [{s}, {s}], antialias=True)",
            f"    return (x - {self.mean}) / {self.std}",
        ]
        return "\n".join(imports + lines)

    def remark(self) -> str:
        if self.max_side is None:
            return ""
        return (
            f"twoviews itself reads photos whose shorter side is over {self.max_side} pixels reduced to that, which is "
            f"faster and gives nearly the same"
        )

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "size": self.size,
            "channels": MODES.get(self.channels, self.channels),
            "mean": [self.mean] * self.channels,
            "std": [self.std] * self.channels,
            "steps": self.steps(),
            "torchvision": self.code().splitlines(),
            "remark": self.remark(),
        }


@dataclass(frozen=True)
class Subject:
    """What is exported.

    about: what run.json holds.  figures: what evaluation.json holds, or None.  name: of the new folder, for its card.
    """

    network: Network
    prepare: Preparation
    about: dict[str, Any]
    figures: dict[str, Any] | None
    name: str

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    @property
    def head(self) -> bool:
        return self.network.projection is not None

    @property
    def plain(self) -> nn.Module:
        """What a file of weights holds: the encoder with its own names, or encoder.* and projection.*"""
        return self.network if self.head else self.encoder

    @property
    def ours(self) -> bool:
        """Is the encoder one of twoviews, which a file may name?"""
        return is_ours(self.about["run"]["encoder"])

    @property
    def encoder_name(self) -> str:
        about = self.about["run"]["encoder"]
        if not self.ours:
            return type(self.encoder).__name__
        return f"timm:{about['name']}" if about["call"].endswith(":timm_encoder") else about["call"].split(":")[1]

    @property
    def method_name(self) -> str:
        return self.about["run"]["method"]["call"].split(":")[1]

    def random(self, items: int, seed: int = 0) -> Tensor:
        """(items, C, S, S) from the standard normal distribution: about the range of what an encoder reads."""
        shape = (items, self.prepare.channels, self.prepare.size, self.prepare.size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What stands in preprocessing.json, and inside the files of formats that have room for it."""
        with torch.no_grad():
            out = outputs(self.network(self.random(2)))
        return {
            "twoviews": __version__,
            "encoder": self.encoder_name,
            "method": self.method_name,
            "input": {"image": ["B", *self.random(1).shape[1:]]},
            "outputs": {k: ["B", *v.shape[1:]] for k, v in zip("hz", out, strict=False)},
            **self.prepare.facts(),
        }


def subject(
    encoder: nn.Module, method: Method | None, about: dict[str, Any], figures: dict[str, Any] | None, name: str
) -> Subject:
    """Raises UserError when the run's view for embedding is not `center`, or the encoder does not read photos."""
    view, described = about["run"]["test_view"], about["run"]["encoder"]
    if view["call"] != CENTER:
        raise UserError(f"test_view is {view['call']}: export can state the preprocessing of {CENTER} alone")
    net = network(encoder, method)
    channels = described.get("channels") or _channels(net.encoder, view["size"])
    prepare = Preparation(view["size"], channels, about["run"]["data"].get("max_side"))
    return Subject(net, prepare, about, figures, name)


def _channels(encoder: nn.Module, size: int) -> int:
    """What an encoder from elsewhere reads, by trying."""
    for channels in (3, 1, 2, 4):
        try:
            with torch.no_grad():
                encoder(torch.zeros(1, channels, size, size))
            return channels
        except Exception:  # whatever a user's module raises on the wrong shape
            continue
    name = type(encoder).__name__
    raise UserError(
        f"{name} reads no photos of {size} x {size} pixels with 1 to 4 channels: export knows no other data"
    )


def is_ours(description: dict[str, Any]) -> bool:
    return description["call"].startswith(f"{PACKAGE}.")


def outputs(value: Any) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value)
