"""A method that reads histories, for use elsewhere: from tokens to what comes next, with the vocabulary beside it.

    safetensors    model.safetensors, our names and numbers
    onnx           model.onnx, histories of any number and length: tokens (B, T) -> scores (B, V), h (B, D)
    torch-export   model.pt2, the same as an ExportedProgram
    huggingface    model.safetensors and config.json as transformers' BertForMaskedLM reads them (bert.py)

Each holds items.parquet, whose row i names token FIRST + i, and preprocessing.json, which says how a history is put.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import __version__
from ..checkpoint import fill, tensors
from ..errors import UserError, unknown
from ..log import Log
from ..types import FIRST, MASK, PAD, Method
from .bert import bert_config, bert_input, bert_state, left_padded
from .graphs import FACTS, code_line, first_line, operator
from .subject import network
from .weights import blank
from .write import BATCHES, TOLERANCE, needed, placing, refuse_another

ITEMS = "items.parquet"
CARD = """\
---
license: unknown  # choose one before you push; that of the log may bind you
library_name: transformers
tags:
- twoviews
- sequential-recommendation
---

# {method} of {items:,} items

Trained by [twoviews](https://github.com/twoviews/twoviews) {version}. It reads what a user met, oldest first, and
scores what comes next. `items.parquet` names the items: row i is token {first} + i.

```python
import pyarrow.parquet as pq
import torch
from transformers import BertForMaskedLM

names = pq.read_table("{folder}/items.parquet")["item"].to_pylist()
model = BertForMaskedLM.from_pretrained("{folder}").eval()

history = names[:3]
tokens = [{first} + names.index(item) for item in history][-{most}:] + [{mask}]
{pad}
logits = model(input_ids=x, attention_mask=(x != {none}).long()).logits[0, -1, {first}:]
print([names[i] for i in logits.topk(10).indices])
```
"""


class Scores(nn.Module):
    """Tokens (B, T) -> scores (B, V) of what the last token asks for, and its state h (B, D)."""

    def __init__(self, method: Any):
        super().__init__()
        self.method = method

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        h = self.method.encoder(tokens)
        vectors, biases, first = self.method.catalogue()
        scores = self.method.project(h) @ vectors[first:].T
        return scores if biases is None else scores + biases[first:], h


class Format(NamedTuple):
    write: Callable[[Scores, Path], None]
    load: Callable[[Scores, Path], Callable[[Tensor], Any]]
    files: tuple[str, ...]
    needs: tuple[str, ...] = ()


def export_histories(folder: Path, method: Method, to: str, *, out: Path | None = None, log: Log | None = None) -> Path:
    """Write a trained method of histories as HISTORY_FORMATS[to], with the vocabulary. Returns the new folder.

    folder: the run's, for its items.parquet.  out: None is RUN/export-FORMAT.
    It is loaded again by the target's own loader and compared, and only then kept. Raises UserError as
    `export_encoder` does, and where BERT cannot hold the network.
    """
    if to not in HISTORY_FORMATS:
        raise unknown("format of histories", to, HISTORY_FORMATS)
    kind, out = HISTORY_FORMATS[to], out or folder / f"export-{to}"
    needed(to, kind.needs)
    if not (folder / ITEMS).exists():
        raise UserError(f"{folder} has no {ITEMS}: its training has not finished")
    refuse_another(out, to, {*kind.files, ITEMS, FACTS})
    scores = Scores(network(method).encoder)
    with placing(out) as temporary:
        kind.write(scores, temporary)
        facts = {"format": to, **describe(scores), "compared": compare(scores, kind.load(scores, temporary), to)}
        if to == "huggingface":
            facts |= {"padding": "left, to `length`" if left_padded(method) else "right"}
            (temporary / "README.md").write_text(card(scores, out.name))
        shutil.copyfile(folder / ITEMS, temporary / ITEMS)
        (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    if log:
        gap = facts["compared"]["largest_difference"]
        same = f"equal to {gap:.0e}" if gap else "equal bit for bit"
        log.say(f"tokens (B, T) -> {', '.join(facts['outputs'])}; loaded again by its own loader and {same}")
        log.say(f"{ITEMS} names the tokens from {FIRST} on; see {FACTS}")
    return out


def describe(scores: Scores) -> dict[str, Any]:
    """What stands in preprocessing.json."""
    encoder = scores.method.encoder
    asks = f"token {MASK} stands behind it" if not encoder.causal else "nothing stands behind it"
    return {
        "twoviews": __version__,
        "method": type(scores.method).__name__,
        "input": {"tokens": ["B", "T"]},
        "outputs": {"scores": ["B", encoder.catalogue], "h": ["B", encoder.dim]},
        "length": encoder.length,
        "tokens": {"padding": PAD, "blank": MASK, "first_item": FIRST},
        "padding": "right",
        "steps": [
            f"look each item up in {ITEMS}: row i is token {FIRST} + i; leave out items that it lacks",
            f"oldest first, the last {encoder.length - (not encoder.causal)} items; {asks}",
            f"pad with token {PAD}",
            f"score v is that of row v of {ITEMS}",
        ],
    }


def card(scores: Scores, folder: str) -> str:
    encoder = scores.method.encoder
    pad = "x = torch.tensor([tokens])"
    if left_padded(scores.method):
        pad = f"x = torch.tensor([[{PAD}] * ({encoder.length} - len(tokens)) + tokens])  # places count from the end"
    tokens = {"none": PAD, "mask": MASK, "first": FIRST, "most": encoder.length - 1, "pad": pad}
    name = type(scores.method).__name__
    return CARD.format(method=name, items=encoder.catalogue, version=__version__, folder=folder, **tokens)


def compare(scores: Scores, loaded: Callable[[Tensor], Any], to: str) -> dict[str, Any]:
    """How far apart what was loaded and the original are. Raises UserError beyond TOLERANCE."""
    worst, length = 0.0, scores.method.encoder.length
    for rows in BATCHES:
        for steps in sorted({2, (length + 2) // 2, length}):
            x = random(scores, rows, steps)
            with torch.no_grad():
                pairs = zip(scores(x), loaded(x), strict=False)  # BERT gives scores alone
                for ours, theirs in pairs:
                    gap = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))
                    if ours.shape != theirs.shape or not gap <= TOLERANCE:
                        raise UserError(
                            f"--to {to}: loaded again, {type(scores.method).__name__} gives other values (off by "
                            f"{gap:.2g} of the largest, {TOLERANCE:.0e} is allowed), so nothing was kept"
                        )
                    worst = max(worst, gap)
    return {"batches": BATCHES, "largest_difference": worst, "allowed": TOLERANCE, "relative_to": "the largest value"}


def random(scores: Scores, rows: int, steps: int) -> Tensor:
    """(rows, steps) tokens, padded at the right in all rows but the first."""
    g, encoder = torch.Generator().manual_seed(rows), scores.method.encoder
    x = torch.randint(FIRST, FIRST + encoder.catalogue, (rows, steps), generator=g)
    sizes = torch.randint(1, steps + 1, (rows, 1), generator=g)
    sizes[0] = steps
    if not encoder.causal:
        x.scatter_(1, sizes - 1, MASK)
    return x.masked_fill(torch.arange(steps) >= sizes, PAD)


def trace(scores: Scores) -> torch.export.ExportedProgram:
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("steps", min=1, max=scores.method.encoder.length)}
    try:
        return torch.export.export(scores, (random(scores, 3, 2),), dynamic_shapes={"tokens": dims}, strict=False)
    except Exception as error:  # torch raises what it likes here
        place = code_line(error)
        raise UserError(
            f"torch.export cannot take {type(scores.method).__name__}: {first_line(error)}"
            f"{f' at `{place}`' if place else ''}; use safetensors"
        ) from None


def write_torch_export(scores: Scores, folder: Path) -> None:
    torch.export.save(trace(scores), folder / "model.pt2")


def load_torch_export(scores: Scores, folder: Path) -> Callable[[Tensor], Any]:
    return torch.export.load(folder / "model.pt2").module()  # only what was written just now


def write_onnx(scores: Scores, folder: Path) -> None:
    traced = trace(scores)
    try:
        program: Any = torch.onnx.export(
            traced,
            (),
            dynamo=True,  # torch before 2.9 has another default
            input_names=["tokens"],
            output_names=["scores", "h"],
            dynamic_shapes={"tokens": {0: "batch", 1: "steps"}},
            verbose=False,
        )
    except Exception as error:  # the exporter's own classes are private
        raise UserError(
            f"ONNX cannot take {type(scores.method).__name__}: {operator(error)}; use torch-export or safetensors"
        ) from None
    program.model.metadata_props.update({k: json.dumps(v) for k, v in describe(scores).items()})
    program.save(str(folder / "model.onnx"), external_data=False)


def load_onnx(scores: Scores, folder: Path) -> Callable[[Tensor], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda x: tuple(torch.from_numpy(y) for y in session.run(None, {"tokens": x.numpy()}))


def write_safetensors(scores: Scores, folder: Path) -> None:
    facts = {k: json.dumps(v) for k, v in describe(scores).items()}
    save_file(tensors(scores.method), folder / "model.safetensors", metadata={"format": "pt", **facts})


def load_safetensors(scores: Scores, folder: Path) -> nn.Module:
    copy = blank(scores)
    fill(copy.method, load_file(folder / "model.safetensors"), str(folder))
    return copy


def write_huggingface(scores: Scores, folder: Path) -> None:
    config = bert_config(scores.method)
    save_file(bert_state(scores.method), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_huggingface(scores: Scores, folder: Path) -> Callable[[Tensor], Any]:
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(str(folder)).eval()

    def read(x: Tensor) -> tuple[Tensor]:
        logits = model(**bert_input(scores.method, x)).logits
        last = scores.method.encoder.sizes(x) - 1
        last = torch.full_like(last, -1) if left_padded(scores.method) else last
        return (logits[torch.arange(len(x)), last, FIRST:],)

    return read


HISTORY_FORMATS = {
    "safetensors": Format(write_safetensors, load_safetensors, ("model.safetensors",)),
    "onnx": Format(write_onnx, load_onnx, ("model.onnx",), ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": Format(write_torch_export, load_torch_export, ("model.pt2",)),
    "huggingface": Format(
        write_huggingface, load_huggingface, ("model.safetensors", "config.json", "README.md"), ("transformers",)
    ),
}
