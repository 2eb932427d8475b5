"""Embeddings as a file that other programs read.

X.parquet      columns key, label and class where there are labels, embedding: fixed_size_list<float32>
X.npy          float32 (N, D); X.npy.keys.csv beside it has a line of key, label, class for each row
X.safetensors  h float32 (N, D), labels int64 (N,) with -1 for none; X.safetensors.keys.csv beside it
"""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors.torch import save

from ..checkpoint import writing
from ..errors import UserError
from ..types import Features

Writer = Callable[[Path, tuple[int, int], Iterable[Features]], None]  # path, shape of h, its rows in parts


def save_embeddings(path: str | Path, features: Features) -> None:
    """Write features.h with keys and labels to a .parquet, .npy or .safetensors file.

    Raises UserError on another ending, a full disk or a place that cannot be written.
    """
    path = Path(path)
    write = writer(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, (len(features), features.h.shape[1]), [features])


def writer(path: Path) -> Writer:
    """What writes such a file. Raises UserError when the ending names no format or the path is a folder."""
    if path.suffix not in WRITERS:
        raise UserError(f"embeddings cannot be written as '{path.name}': end the name in {' or '.join(WRITERS)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    return WRITERS[path.suffix]


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


def _with_keys(path: Path, parts: Iterable[Features]) -> Iterator[Features]:
    """The parts as they are; on the way a line for each row goes to PATH.keys.csv."""
    with whole(path.with_name(path.name + ".keys.csv")) as f:
        line = csv.writer(codecs.getwriter("utf-8")(f), lineterminator="\n").writerow
        for number, part in enumerate(parts):
            columns = {"key": part.keys, **_labels(part)}
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
    return np.ascontiguousarray(part.h.float().cpu().numpy(), "<f4")


WRITERS: dict[str, Writer] = {".parquet": _parquet, ".npy": _npy, ".safetensors": _safetensors}
