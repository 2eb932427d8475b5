"""Files of weights, read without running anything: .safetensors, .pth and its like, and flax's msgpack.

Flax writes a tree of maps whose arrays are of msgpack's extension type 1: (shape, name of the dtype, bytes); arrays
beyond 1 GiB lie in chunks (github.com/google/flax, flax/serialization.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError

PICKLED = (".pth", ".pt", ".pyth", ".bin")
INSIDE = ("model_state", "model_state_dict", "state_dict", "model", "module", "target", "params")
MAPS = (*range(0x80, 0x90), 0xDE, 0xDF)  # what a file of msgpack that holds a map begins with
CHUNKED = "__msgpack_chunked_array__"


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU. Names of nested maps are joined by dots.

    Raises UserError where the file is missing, cut off, of another kind or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in PICKLED:
            return flat(torch.load(path, map_location="cpu", weights_only=True))
        return flat(_msgpack(path))
    except UnpicklingError:
        raise UserError(
            f"{path} is cut off, or holds Python objects beside tensors, which nothing here will run; save its "
            "state_dict() alone, best as .safetensors"
        ) from None
    except UserError:
        raise
    except Exception as error:  # of bytes that only look like a file, these readers raise whatever they come upon
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())[:200] or 'it is empty'})") from None


def flat(tree: Any) -> dict[str, Tensor]:
    """The tensors of nested maps; all else (settings, an optimizer's steps) is passed over."""
    if not isinstance(tree, Mapping):
        raise ValueError(f"it holds a {type(tree).__name__}, no map of names to tensors")
    for name in INSIDE:  # the weights alone, where an optimizer's tensors lie beside them
        if isinstance(tree.get(name), Mapping):
            return flat(tree[name])
    out: dict[str, Tensor] = {}
    for name, value in tree.items():
        name = str(name).replace("/", ".")
        if isinstance(value, Mapping):
            out |= {f"{name}.{k}": v for k, v in flat(value).items()}
        elif isinstance(value, Tensor):
            out[name] = value
        elif hasattr(value, "__array__"):
            out[name] = torch.as_tensor(value)
    return out


def _msgpack(path: Path) -> Any:
    data = path.read_bytes()
    if not data or data[0] not in MAPS:
        raise ValueError(f"weights are .safetensors, {', '.join(PICKLED)} or flax's msgpack; it is none of them")
    try:
        import msgpack
    except ModuleNotFoundError:
        raise UserError(f"{path} looks like flax's msgpack; to read it: pip install msgpack") from None
    try:
        tree = msgpack.unpackb(data, ext_hook=_array, raw=False, strict_map_key=False)
    except (msgpack.UnpackException, msgpack.ExtraData) as error:
        raise ValueError(f"no whole msgpack: {error or type(error).__name__}") from None
    return _whole(tree)


def _array(code: int, data: bytes) -> Tensor | None:
    """Of flax's extension types, arrays (1) and single numbers (3); a complex number (2) is no weight."""
    import msgpack

    if code not in (1, 3):
        return None
    shape, name, buffer = msgpack.unpackb(data, raw=True)
    dtype = getattr(torch, {b"bool": "bool"}.get(name, name.decode()), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"an array of dtype {name.decode()}")
    row = torch.frombuffer(bytearray(buffer), dtype=dtype) if buffer else torch.zeros(0, dtype=dtype)
    return row.reshape(shape)


def _whole(tree: Any) -> Any:
    """Arrays in chunks put together."""
    if not isinstance(tree, dict):
        return tree
    if CHUNKED not in tree:
        return {k: _whole(v) for k, v in tree.items()}
    shape, chunks = (_row(tree[x]) for x in ("shape", "chunks"))
    return torch.cat(chunks).reshape([int(n) for n in shape])


def _row(value: Any) -> list[Any]:
    """A tuple, which flax writes as a map from "0", "1", ..."""
    return [value[str(i)] for i in range(len(value))] if isinstance(value, dict) else list(value)
