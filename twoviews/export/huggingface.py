"""A folder to push to the Hugging Face Hub: weights, config, preprocessing and a model card; no code to trust.

model.safetensors          the encoder's own names; with a head encoder.* and projection.*
config.json                what `twoviews.load_encoder` builds the encoder from
preprocessor_config.json   for transformers.AutoImageProcessor, nearly the same preprocessing (see the card)
README.md                  the model card
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from .. import __version__
from ..calls import PACKAGE, rebuild
from ..checkpoint import exported, fill, load_encoder, tensors, weights
from ..errors import UserError
from .card import card
from .subject import Network, Preparation, Subject, is_ours, projection
from .weights import blank

BILINEAR = 2  # Pillow's number


def write_huggingface(it: Subject, folder: Path) -> None:
    described = {"encoder": it.about["run"]["encoder"]}
    if it.head:
        described["method"] = it.about["run"]["method"]
        if not is_ours(described["method"]):
            raise UserError(
                f"the projection of {it.method_name} is your own code, which a folder cannot hold: "
                "leave --head out, or use onnx or torch-export"
            )
    save_file(tensors(it.plain), folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "library_name": PACKAGE,
        "model_type": PACKAGE,
        "twoviews_version": __version__,
        **described,
        "outputs": {k: shape[-1] for k, shape in it.facts["outputs"].items()},
        "image_size": it.prepare.size,
        "num_channels": it.prepare.channels,
    }
    for name, value in (("config.json", config), ("preprocessor_config.json", processor(it.prepare))):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    (folder / "README.md").write_text(card(it))


def load_huggingface(it: Subject, folder: Path) -> Network:
    return load_network(folder, None if it.ours else blank(it.encoder))


def load_network(folder: str | Path, encoder: nn.Module | None = None) -> Network:
    """What `--to huggingface` wrote, in eval mode: image (B, C, S, S) -> h (B, D), or (h, z) with a head.

    encoder: the module to fill, for one of your own.
    Raises UserError when the folder is not such an export.
    """
    folder = Path(folder)
    config = exported(folder)
    if config is None:
        raise UserError(f"{folder} was not written by `twoviews export --to huggingface`: it has no config.json")
    encoder = load_encoder(folder, encoder=encoder)
    if "method" not in config:
        return Network(encoder).eval()
    network = Network(encoder, projection(rebuild(config["method"])(encoder).eval())).eval()
    fill(network, weights(folder / "model.safetensors"), str(folder))
    return network


def processor(prepare: Preparation) -> dict[str, Any]:
    """As BitImageProcessor reads it: the shorter side to `size`, then the central square."""
    size, facts = prepare.size, prepare.facts()
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": prepare.channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": facts["mean"],
        "image_std": facts["std"],
    }
