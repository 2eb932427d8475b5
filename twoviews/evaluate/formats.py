"""Embeddings as a file that other programs read.

X.parquet      columns key, label and class where there are labels, embedding: fixed_size_list<float32>
X.npy          float32 (N, D); X.npy.keys.csv beside it has a line of key, label, class for each row
X.safetensors  h float32 (N, D), labels int64 (N,) with -1 for none; X.safetensors.keys.csv beside it
X.txt, X.vec   word2vec's text: a line of N and D, then one of key and numbers a row; white space in a key becomes _
X.bin          word2vec's binary form of the same, numbers as float32

gensim reads the last two: KeyedVectors.load_word2vec_format("X.bin", binary=True).
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save

from ..checkpoint import writing
from ..errors import UserError
from ..types import Features

if TYPE_CHECKING:
    import pyarrow as pa

Writer = Callable[[Path, tuple[int, int], Iterable[Features]], None]  # path, shape of h, its rows in parts
LINES = 4096  # of word2vec's text made at once


@dataclass
class Entered(Features):
    """Features with columns of their own beside h, in the place of key, label and class."""

    columns: dict[str, pa.Array] = field(default_factory=dict)


def save_embeddings(path: str | Path, features: Features) -> None:
    """Write features.h with keys and labels to a .parquet, .npy or .safetensors file, with keys alone to a .txt, .vec
    or .bin file.

    Raises UserError on another ending, a full disk or a place that cannot be written.
    """
    path = Path(path)
    write = writer(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, (len(features), features.h.shape[1]), [features])


def writer(path: Path) -> Writer:
    """What writes such a file. Raises UserError when the ending names no format or the path is a folder."""
    known = WRITERS | WORD2VEC
    if path.suffix not in known:
        raise UserError(f"embeddings cannot be written as '{path.name}': end the name in {' or '.join(known)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    return known[path.suffix]


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name only when it is complete and on the disk."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _parquet(path: Path, shape: tuple[int, int], parts: Iterable[Features]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole(path) as f:
        file = None
        for part in parts:
            columns: dict[str, Any] = {"key": pa.array(part.keys, pa.string())}
            for name, values in _labels(part).items():
                columns[name] = pa.array(values, pa.int64() if name == "label" else pa.string())
            if isinstance(part, Entered):
                columns = dict(part.columns)
            flat = pa.array(_rows(part).reshape(-1))
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, shape[1])
            table = pa.table(columns)
            file = file or pq.ParquetWriter(f, table.schema, use_dictionary=False)
            file.write_table(table)
        if file:
            file.close()


def _npy(path: Path, shape: tuple[int, int], parts: Iterable[Features]) -> None:
    with whole(path) as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for part in _with_keys(path, parts):
            f.write(_rows(part).data)


def _safetensors(path: Path, shape: tuple[int, int], parts: Iterable[Features]) -> None:
    kept = list(_with_keys(path, parts))
    tensors = {"h": torch.cat([part.h.float().cpu() for part in kept])}
    if labels := [part.labels for part in kept if part.labels is not None]:
        tensors["labels"] = torch.cat(labels).cpu()
    with whole(path) as f:
        f.write(save(tensors))


def as_word(key: str) -> str:
    """A key as word2vec's files can hold it: a blank ends a word there."""
    return re.sub(r"\s", "_", key) or "_"


def _text(path: Path, shape: tuple[int, int], parts: Iterable[Features]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    with whole(path) as f:
        f.write(f"{shape[0]} {shape[1]}\n".encode())
        for part in parts:
            for begin in range(0, len(part), LINES):
                some = slice(begin, begin + LINES)
                numbers = pa.array(_float32(part.h[some]).reshape(-1))
                cells = numbers.cast(pa.string())  # the shortest that reads as the same number
                ends: Any = pa.array(np.arange(0, len(cells) + 1, shape[1]), pa.int32())
                rows: Any = pc.binary_join(pa.ListArray.from_arrays(ends, cells), " ")
                lines = zip(map(as_word, part.keys[some]), rows.to_pylist(), strict=True)
                f.write("".join(f"{word} {row}\n" for word, row in lines).encode())


def _binary(path: Path, shape: tuple[int, int], parts: Iterable[Features]) -> None:
    with whole(path) as f:
        f.write(f"{shape[0]} {shape[1]}\n".encode())
        for part in parts:
            for key, row in zip(part.keys, _rows(part), strict=True):
                f.write(as_word(key).encode() + b" " + row.tobytes() + b"\n")


def _with_keys(path: Path, parts: Iterable[Features]) -> Iterator[Features]:
    """The parts as they are; on the way a line for each row goes to PATH.keys.csv."""
    with whole(path.with_name(path.name + ".keys.csv")) as f:
        line = csv.writer(codecs.getwriter("utf-8")(f), lineterminator="\n").writerow
        for number, part in enumerate(parts):
            columns = {"key": part.keys, **_labels(part)}
            if isinstance(part, Entered):
                columns = {name: column.to_pylist() for name, column in part.columns.items()}
            if number == 0:
                line(columns)
            for cells in zip(*columns.values(), strict=True):
                line(cells)
            yield part


def _labels(part: Features) -> dict[str, list]:
    """The columns label and class, as far as there are any; None where an item has none."""
    if part.labels is None:
        return {}
    labels = [i if i >= 0 else None for i in part.labels.tolist()]
    names = part.classes
    return {"label": labels} | ({"class": [None if i is None else names[i] for i in labels]} if names else {})


def _rows(part: Features) -> np.ndarray:
    return _float32(part.h)


def _float32(h: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(h.float().cpu().numpy(), "<f4")


WRITERS: dict[str, Writer] = {".parquet": _parquet, ".npy": _npy, ".safetensors": _safetensors}
WORD2VEC: dict[str, Writer] = {".txt": _text, ".vec": _text, ".bin": _binary}
