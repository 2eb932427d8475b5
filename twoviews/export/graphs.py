"""Formats of names, numbers and operators: whoever runs them needs no code of ours.

    torch-export   encoder.pt2, an ExportedProgram: torch.export.load(path).module()
    onnx           encoder.onnx, from the same program: onnxruntime, TensorRT, OpenVINO, CoreML tools, browsers

Both take batches of any size. Input `image`; outputs `h` and, with a head, `z`.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .subject import Subject

FACTS = "preprocessing.json"
TORCH = str(Path(torch.__file__).parent)
OURS = str(Path(__file__).parent)


def trace(it: Subject) -> torch.export.ExportedProgram:
    """Raises UserError with the operator, or the line of code, that torch.export cannot take."""
    batch = {"image": {0: torch.export.Dim("batch")}}
    try:
        return torch.export.export(it.network, (it.random(2),), dynamic_shapes=batch, strict=False)
    except Exception as error:  # torch, and the encoder's own code, raise what they like here
        place = code_line(error)
        raise UserError(
            f"torch.export cannot take {it.encoder_name}: {first_line(error)}{f' at `{place}`' if place else ''}; "
            "use safetensors or huggingface, which hold weights alone"
        ) from None


def write_torch_export(it: Subject, folder: Path) -> None:
    torch.export.save(trace(it), folder / "encoder.pt2", extra_files={FACTS: json.dumps(it.facts)})


def load_torch_export(it: Subject, folder: Path) -> Callable[[Tensor], Any]:
    return torch.export.load(folder / "encoder.pt2").module()  # which may unpickle: only what was written just now


def write_onnx(it: Subject, folder: Path) -> None:
    names = ["h", "z"] if it.head else ["h"]
    traced = trace(it)
    try:
        program: Any = torch.onnx.export(
            traced,
            (),
            dynamo=True,  # torch before 2.9 has another default
            input_names=["image"],
            output_names=names,
            dynamic_shapes={"image": {0: "batch"}},
            verbose=False,
        )
    except Exception as error:  # the exporter's own classes are private
        raise UserError(
            f"ONNX cannot take {it.encoder_name}: {operator(error)}; use torch-export, safetensors or huggingface"
        ) from None
    program.model.metadata_props.update({k: v if isinstance(v, str) else json.dumps(v) for k, v in it.facts.items()})
    program.save(str(folder / "encoder.onnx"), external_data=False)


def load_onnx(it: Subject, folder: Path) -> Callable[[Tensor], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(
            str(folder / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # an operator or an opset that this version does not know
        raise UserError(
            f"onnxruntime cannot run {it.encoder_name}: {first_line(error)}; try a newer onnxruntime"
        ) from None
    return lambda x: tuple(torch.from_numpy(y) for y in session.run(None, {"image": x.numpy()}))


def operator(error: BaseException) -> str:
    """What an exporter's error is about: "the operator aten.histc.default (why)"."""
    causes = list(chain(error))
    found = re.search(r"torch\.ops\.([\w.]+)", " ".join(map(str, causes)))
    why = first_line(causes[-1])
    return f"the operator {found[1]} ({why})" if found else why


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """What an error of torch says, without its advice to developers of torch."""
    line = str(error).strip().partition("\n")[0]
    return re.split(r" \(unhinted| For more information| for <", line)[0].rstrip(".") or type(error).__name__


def code_line(error: BaseException) -> str | None:
    """The deepest line of the encoder's own code under an error."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((TORCH, OURS))]
    return frames[-1].line if frames else None
