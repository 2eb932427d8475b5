"""Formats of names and numbers: the code that reads them knows the architecture.

safetensors   the encoder's own names; with a head encoder.* and projection.*
torchvision   what torchvision.models.resnet18 ... load, the classifier left out
timm          what timm.create_model loads, from a folder or from the Hub
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from ..checkpoint import fill, tensors
from ..encoders.resnet import Basic, Bottleneck, ResNet
from ..encoders.timm import TimmEncoder
from ..errors import UserError
from .subject import Subject

WEIGHTS = "encoder.safetensors"
ANY = "safetensors, onnx, torch-export and huggingface take any encoder"
RESNETS: dict[tuple[type[nn.Module], tuple[int, ...]], str] = {
    (Basic, (2, 2, 2, 2)): "resnet18",
    (Basic, (3, 4, 6, 3)): "resnet34",
    (Bottleneck, (3, 4, 6, 3)): "resnet50",
    (Bottleneck, (3, 4, 23, 3)): "resnet101",
}


def write_safetensors(it: Subject, folder: Path) -> None:
    facts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in it.facts.items()}
    save_file(tensors(it.plain), folder / WEIGHTS, metadata={"format": "pt", **facts})


def load_safetensors(it: Subject, folder: Path) -> nn.Module:
    network = blank(it.network)
    fill(network if it.head else network.encoder, load_file(folder / WEIGHTS), str(folder))
    return network


def write_torchvision(it: Subject, folder: Path) -> None:
    name = resnet_name(it, "torchvision")
    if it.prepare.channels != 3:
        raise UserError(f"torchvision's {name} reads 3 channels, this encoder {it.prepare.channels}: {ANY}")
    save_file(tensors(it.encoder), folder / WEIGHTS, metadata={"format": "pt", "torchvision": name})


def load_torchvision(it: Subject, folder: Path) -> nn.Module:
    from torchvision.models import get_model

    model = get_model(resnet_name(it, "torchvision"), weights=None)
    model.fc = nn.Identity()
    fill(model, load_file(folder / WEIGHTS), str(folder))
    return model.eval()


def write_timm(it: Subject, folder: Path) -> None:
    """timm's own folder: model.safetensors, and a config.json that holds architecture and preprocessing."""
    import timm
    from timm.models import save_for_hf

    if isinstance(it.encoder, TimmEncoder):
        model = it.encoder.model
    else:
        name = resnet_name(it, "timm")
        model = timm.create_model(name, num_classes=0, in_chans=it.prepare.channels)
        fill(model, tensors(it.encoder), f"the {name}")
    size, facts = it.prepare.size, it.prepare.facts()
    data: dict[str, Any] = {"interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
    data |= {"input_size": (it.prepare.channels, size, size), "mean": facts["mean"], "std": facts["std"]}
    save_for_hf(model, str(folder), safe_serialization=True, data_config=data)
    config = json.loads((folder / "config.json").read_text())
    for key in ("tag", "license", "origin_url", "paper_ids"):  # of weights that timm would have fetched
        config["pretrained_cfg"].pop(key, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_timm(it: Subject, folder: Path) -> nn.Module:
    import timm

    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def resnet_name(it: Subject, library: str) -> str:
    """The name under which torchvision and timm know this encoder. Raises UserError where they do not."""
    encoder = it.encoder
    if not isinstance(encoder, ResNet):
        takes = "ResNets and timm:NAME encoders" if library == "timm" else "ResNets"
        raise UserError(f"{library} takes {takes}, not {it.encoder_name}: {ANY}")
    stages = [encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4]
    name = RESNETS.get((type(stages[0][0]), tuple(map(len, stages))))
    if isinstance(encoder.maxpool, nn.Identity):
        raise UserError(f"{library}'s ResNets have no stem for small images, as stem='cifar' is: {ANY}")
    if name is None or encoder.conv1.out_channels != 64:
        raise UserError(f"{library} has no ResNet of these blocks and this width: {ANY}")
    return name


def blank(module: nn.Module) -> Any:
    """A copy with every weight 0, so that what is not loaded shows."""
    copy = deepcopy(module)
    for tensor in copy.state_dict().values():
        tensor.zero_()
    return copy
