"""The model card of an export to Hugging Face: what it is, how to use it, how good it is, what it is not."""

from __future__ import annotations

from typing import Any

from .. import __version__
from ..errors import UserError
from .subject import MODES, Subject
from .weights import resnet_name

CARD = """\
---
license: unknown  # choose one before you push; that of the photos may bind you
library_name: twoviews
pipeline_tag: image-feature-extraction
tags:
- twoviews
- self-supervised-learning
- {method_tag}
- {encoder_tag}
---

# {encoder} by {method} on {data}

{encoder}, trained with {method} on {data} ({items:,} photos) by
[twoviews](https://github.com/twoviews/twoviews) {version}. It maps a photo to {outputs}.

## Prepare photos

{steps}

The same with torchvision for photos without transparency, equal to 1e-5:

```python
{code}
```

{remark}`preprocessor_config.json` lets transformers' `AutoImageProcessor` do nearly the same. It resizes first, rounds
to 8 bits and crops after, which shifts the picture by up to half a pixel: on two photos that were tried at 32, 96 and
224 pixels, values differed by 0.1 in the mean, where their spread was about 1.

## Load

{load}

## Figures

{figures}

## Training

{training}

## Limits

- It has seen {data} and nothing else. On other photos measure first: `twoviews evaluate RUN PHOTOS`.
- What its random views change (colours, place, size, ...: see `views` above), it has learned to tell less well.
- It encodes what its photos show, with their biases. No figure above measures those.
- `transformers.AutoModel` does not load it: there is no modelling code in this folder, and none to trust.
"""


def card(it: Subject) -> str:
    run, data = it.about["run"], it.about["data"]
    shapes = it.facts["outputs"]
    says = {"h": "an embedding h of {} numbers", "z": "its projection z of {}"}
    return CARD.format(
        method=it.method_name,
        encoder=it.encoder_name,
        method_tag=it.method_name.lower(),
        encoder_tag=it.encoder_name.lower().removeprefix("timm:"),
        data=data["name"],
        items=data["items"],
        version=__version__,
        outputs=" and ".join(says[k].format(shape[-1]) for k, shape in shapes.items()),
        steps="\n".join(f"{i}. {step}" for i, step in enumerate(it.prepare.steps(), 1)),
        code=it.prepare.code(),
        remark=f"{it.prepare.remark()}.\n\n" if it.prepare.remark() else "",
        load="\n\n".join(f"```python\n{block}\n```" for block in loading(it)),
        figures=figures(it.figures),
        training="\n".join(f"- {k}: {shown(run[k])}" for k in TRAINING),
    )


TRAINING = ("method", "encoder", "views", "optimizer", "schedule", "epochs", "batch_size", "precision", "seed")


def loading(it: Subject) -> list[str]:
    """Python blocks that load the folder from beside it and embed a photo."""
    c, s, head = it.prepare.channels, it.prepare.size, it.head
    mine = "" if it.ours else f", encoder={it.encoder_name}()"  # the reader has that code
    where = f'"{it.name}"{mine}'
    photo = 'Image.open("photo.jpg")' if c in MODES else f"torch.zeros({c}, 100, 80, dtype=torch.uint8)"
    lines = [
        "from twoviews.export import load_network" if head else "import twoviews",
        "",
        "# the folder, or what huggingface_hub.snapshot_download gives",
        f"network = load_network({where})" if head else f"encoder = twoviews.load_encoder({where})",
        f"photo = {photo}",
        f"{'h, z = network' if head else 'h = encoder'}(prepare(photo)[None])  # of (1, {c}, {s}, {s})",
    ]
    blocks = ["\n".join(lines)]
    if not head and torchvision_takes(it):
        lines = [
            "from safetensors.torch import load_file  # without twoviews",
            f"from torchvision.models import {resnet_name(it, 'torchvision')}",
            "",
            f"encoder = {resnet_name(it, 'torchvision')}()",
            "encoder.fc = torch.nn.Identity()",
            f'encoder.load_state_dict(load_file("{it.name}/model.safetensors"))',
            "h = encoder.eval()(prepare(photo)[None])",
        ]
        blocks.append("\n".join(lines))
    return blocks


def torchvision_takes(it: Subject) -> bool:
    try:
        return bool(resnet_name(it, "torchvision")) and it.prepare.channels == 3
    except UserError:
        return False


def figures(table: dict[str, Any] | None) -> str:
    """evaluation.json as Markdown, "82.1 % [80.0, 84.1]" in each cell; or why nothing was measured."""
    if not table or not table.get("rows"):  # nothing to measure by, and the verdict may say why
        return (table or {}).get("verdict") or "Not measured."
    probes = list(next(iter(table["rows"].values())))
    lines = [["", *probes], ["---", *("---:" for _ in probes)]]
    lines += [[row, *(percent(scores[p]) for p in probes)] for row, scores in table["rows"].items()]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {note}" for note in table["notes"])
    return "\n\n".join(filter(None, [f"**{table['title']}**", table["verdict"], rows, notes]))


def percent(score: dict[str, Any]) -> str:
    return f"{100 * score['value']:.1f} % [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def shown(setting: Any) -> str:
    """A setting of run.json in one line, as Python would call it."""
    if not isinstance(setting, dict):
        return f"`{setting}`"
    values = ", ".join(f"{k}={v}" for k, v in setting.items() if k != "call" and not isinstance(v, dict))
    return f"`{str(setting.get('call')).split(':')[-1]}({values})`"
