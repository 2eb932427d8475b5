"""What a company does with a run on a graph or a text: find what is alike, take its vectors elsewhere.

Every search is exact: all rows of a type are compared, a block of them at a time. PyTorch users take the table itself:

    nn.Embedding.from_pretrained(load_file("RUN/encoder.safetensors")["weight"])    # rows as in RUN/entries.parquet
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from . import __version__
from .after import warn_unfinished
from .build import find_device, of_tables
from .checkpoint import part, read_run, steps, weights, writing
from .data.entries import FILE, Entries, read_entries, read_texts
from .errors import UserError, unknown
from .evaluate.alike import check_k, nearest, others
from .evaluate.formats import WORD2VEC, Entered, as_word, writer
from .evaluate.recommend import blocks, write_tables
from .evaluate.search import Found
from .export.graphs import FACTS
from .export.write import placing, refuse_another
from .fit import Result
from .log import Log

if TYPE_CHECKING:
    import pyarrow as pa

PART = 2**14  # queries answered, or rows written, at once
TERM = re.compile(r"\s+([+-])\s+")  # of "king - man + woman"
FORMATS = {"safetensors": "vectors.safetensors", "word2vec": "vectors.txt", "word2vec-binary": "vectors.bin"}


@dataclass(frozen=True, eq=False)
class Lookup:
    """A run on a graph or a text, ready to answer. vectors: (V, D) float32, mapped from its file."""

    folder: Path
    entries: Entries
    vectors: Tensor

    def met(self, kind: int) -> Tensor:
        """The rows of a type, by its number, that training has met, ascending."""
        return torch.from_numpy(np.flatnonzero((self.entries.numbers == kind) & (self.entries.counts > 0)))

    def trained(self, row: int) -> int:
        """The row. Raises UserError when training has not met it."""
        if self.entries.counts[row]:
            return row
        key = self.entries.key(row)
        raise UserError(
            f"'{key}' was never met in training and keeps the vector it began with: nothing is known to be alike"
        )


def opened(run: str | Path | Result, log: Log | None = None) -> Lookup:
    """Open a run on a graph or a text, finished or not. run: its folder, or what `train` or `fit` returned.

    Raises UserError on a folder that is no such run or has no weights.
    """
    folder = run.folder if isinstance(run, Result) else Path(run)
    if not of_tables(read_run(folder)):
        raise UserError(f"{folder} is no run on a graph or a text")
    entries = read_entries(folder)
    if (file := folder / "encoder.safetensors").exists():
        state = weights(file)
    elif found := steps(folder):
        state = part(weights(found[-1] / "method.safetensors"), "encoder.")
    else:
        raise UserError(f"{folder} has no weights: it has not reached its first checkpoint, or diverged before")
    if list(state) != ["weight"]:
        raise UserError(f"the encoder of {folder} is no table of vectors: it holds {', '.join(sorted(state))}")
    vectors = state["weight"].float()
    if len(vectors) != len(entries):
        raise UserError(f"{folder} holds {len(vectors):,} vectors but {FILE} names {len(entries):,}: train it anew")
    if log:
        warn_unfinished(folder, log)
    return Lookup(folder, entries, vectors)


def similar(
    run: str | Path | Result, entry: Any, *, k: int = 10, kind: str | None = None, device: str | None = None
) -> Found:
    """The k entries most alike to one, by the cosine of their vectors.

    entry: a word, TYPE/ID, or an id or a name that is the only one of its kind; of words also "king - man + woman":
           the sum of their unit vectors, of which none is found (Mikolov et al. 2013, NAACL, 3CosAdd).
    kind:  the type of what is found; None is that of the entry.
    Raises UserError when the entry is not known, with near names, may be several, or was never met in training; and
    when k is too large.
    """
    where, it = find_device(device), opened(run)
    terms = sum_of(it.entries, str(entry))
    rows = [it.trained(row) for _, row in terms]
    signs = torch.tensor([[sign] for sign, _ in terms])
    query = (signs * normalize(it.vectors[rows].cpu(), dim=1)).sum(0, keepdim=True)  # (1, D)
    among = it.met(int(it.entries.numbers[rows[0]]) if kind is None else it.entries.number(kind))
    among = among[~torch.isin(among, torch.tensor(rows))]
    check_k(k, len(among))
    score, found = nearest(query, it.vectors, among, k, where)
    key, *keys = it.entries.keys(np.array([rows[0], *found[0].tolist()]))
    names = [it.entries.name(row) for row in (rows[0], *found[0].tolist())]
    alone = len(terms) == 1
    return Found(key if alone else str(entry), names[0] if alone else None, keys, score[0].tolist(), names[1:])


def sum_of(entries: Entries, text: str) -> list[tuple[float, int]]:
    """Signs and rows of what is asked for: one entry, or of words terms with + and - between them."""
    pieces = TERM.split(text.strip())
    if entries.types is not None or len(pieces) == 1 or entries.places([text])[0] >= 0:
        return [(1.0, entries.place(text))]
    signs = ["+", *pieces[1::2]]
    return [(1.0 if s == "+" else -1.0, entries.place(word)) for s, word in zip(signs, pieces[::2], strict=True)]


def search(
    run: str | Path | Result,
    query: Any,
    *,
    out: str | Path | None = None,
    k: int = 10,
    kind: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> pa.Table | Path:
    """The k entries most alike to each of many: a table query, rank, type, id, name, score, the best first.

    query: one entry, a list of them as `similar` takes them, or a file: an entry a line, or a table with a column `id`
           and maybe one `type`.
    out:   a .parquet or .csv file, written whole or not at all, for any number of queries; None returns the table.
    kind:  the type of what is found; None is for each query its own.
    Words have no type; without names in the data there is none. Unknown entries are left out and told.
    Raises UserError when k is too large, no entry is known, or the file cannot be written.
    """
    import pyarrow as pa

    log, where = Log(quiet=quiet), find_device(device)
    if out is not None and Path(out).suffix not in (".parquet", ".csv"):
        raise UserError(f"what is found cannot be written as '{Path(out).name}': end the name in .parquet or .csv")
    it = opened(run, log)
    texts, rows = trained_ones(it, *known(it, query, log), log)
    kinds = it.entries.numbers[rows]
    wanted = kinds if kind is None else np.full_like(kinds, it.entries.number(kind))  # (Q,)
    among = {number: it.met(number) for number in np.unique(wanted).tolist()}
    own = set(kinds[kinds == wanted].tolist())  # types of which a query is one itself
    check_k(k, min(len(each) - (number in own) for number, each in among.items()))

    def parts() -> Iterator[pa.Table]:
        for some in blocks(len(rows), PART):
            score, found = others(it.vectors, rows[some], wanted[some], among, k, where)
            yield found_table(it.entries, texts[some], found, score)
            bar(some.stop, len(rows))

    with log.progress("searching", len(rows)) as bar:
        if out is None:
            return pa.concat_tables(parts())
        write_tables(Path(out), parts())
    log.say(f"{k} for each of {len(rows):,} entries in {out}")
    return Path(out)


def trained_ones(it: Lookup, texts: list[str], rows: np.ndarray, log: Log) -> tuple[list[str], np.ndarray]:
    """Those that training met; the others are told. Raises UserError when none is left."""
    met = it.entries.counts[rows] > 0
    if met.all():
        return texts, rows
    lost = np.flatnonzero(~met)
    if len(lost) == len(rows):
        it.trained(int(rows[0]))
    log.say(f"left out: {len(lost):,} of {len(rows):,} entries that training never met, such as '{texts[lost[0]]}'")
    return [text for text, ok in zip(texts, met, strict=True) if ok], rows[met]


def found_table(entries: Entries, texts: list[str], found: Tensor, score: Tensor) -> pa.Table:
    """Lines of query, rank, type, id, name, score. found, score: (Q, k)."""
    import pyarrow as pa

    many, k = found.shape
    told = entries.columns(found.flatten().numpy())
    if "type" in told:
        told["type"] = told["type"].dictionary_decode()  # CSV holds no dictionary
    queries = pa.array(texts, pa.string()).take(np.repeat(np.arange(many), k))
    ranks = pa.array(np.tile(np.arange(1, k + 1, dtype=np.int32), many))
    return pa.table({"query": queries, "rank": ranks, **told, "score": score.flatten().numpy()})


def embed(
    run: str | Path | Result,
    data: Any = None,
    out: str | Path = "vectors.parquet",
    *,
    kind: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write one vector a node or a word, also of what training never met. Returns the file's path.

    data: None, all; a list of entries or a file of them, as in `search`.  kind: one type alone.
    out:  .parquet with columns type, id, name, embedding; .npy and .safetensors with these columns beside it in a .csv;
          .txt, .vec or .bin for gensim, by TYPE/ID and with _ for white space. Written whole or not at all.
    """
    out, log = Path(out), Log(quiet=quiet)
    write = writer(out)
    it = opened(run, log)
    rows = it.entries.of(kind) if data is None else known(it, data, log, kind)[1]
    if not len(rows):
        raise UserError(f"{it.folder} has no node of type {kind}")
    changed = save_rows(it, rows, out, write, log)
    what, never = "words" if it.entries.types is None else "nodes", int((it.entries.counts[rows] == 0).sum())
    notes = f"; {never:,} that training never met keep the vector they began with" if never else ""
    if changed and out.suffix in WORD2VEC:
        notes += f"; {changed:,} hold white space, written as _"
    log.say(f"{len(rows):,} {what} in {out}{notes}")
    return out


def save_rows(it: Lookup, rows: np.ndarray, out: Path, write: Callable, log: Log) -> int:
    """Write some rows block by block; how many of their keys word2vec's files cannot hold as they are."""
    changed = 0

    def parts() -> Iterator[Entered]:
        nonlocal changed
        for some in blocks(len(rows), PART):
            here = rows[some]
            keys = it.entries.keys(here)
            changed += sum(as_word(key) != key for key in keys)
            yield Entered(it.vectors[torch.from_numpy(here)], keys, columns=it.entries.columns(here))
            bar(some.stop, len(rows))

    with log.progress("writing", len(rows)) as bar, writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out, (len(rows), it.vectors.shape[1]), parts())
    return changed


def known(it: Lookup, data: Any, log: Log, kind: str | None = None) -> tuple[list[str], np.ndarray]:
    """The entries that `data` names and their rows, without those that are unknown or unclear, which are told.

    Raises UserError when none is left.
    """
    alone = isinstance(data, str | int | os.PathLike)
    texts = read_texts(str(data)) if alone else list(map(str, data))
    if not texts:
        raise UserError("there is nothing to look up: the list of entries is empty")
    rows = it.entries.places(texts, kind)
    lost = np.flatnonzero(rows < 0)
    if len(lost):
        why = it.entries.trouble(texts[lost[0]], kind)
        if len(lost) == len(texts):
            raise UserError(why)
        log.say(f"left out: {len(lost):,} of {len(texts):,} entries, the first because {why}")
    kept = rows >= 0
    return [text for text, ok in zip(texts, kept, strict=True) if ok], rows[kept]


def export_tables(folder: Path, to: str, *, out: Path | None = None, log: Log | None = None) -> Path:
    """Write the vectors of a run for use elsewhere, with entries.parquet. Returns the new folder.

    to:  safetensors (tensor `weight` (V, D)), word2vec (text) or word2vec-binary.  out: None is RUN/export-FORMAT.
    Raises UserError on another format and on a folder that holds something else.
    """
    if to not in FORMATS:
        raise unknown("format of a table of vectors", to, FORMATS)
    log, out, file = log or Log(quiet=True), out or folder / f"export-{to}", FORMATS[to]
    refuse_another(out, to, {file, FILE, FACTS})
    it = opened(folder)
    facts = {"format": to, "twoviews": __version__, "rows": len(it.entries), "dim": it.vectors.shape[1]}
    with placing(out) as temporary:
        path = temporary / file
        if to == "safetensors":
            save_file({"weight": it.vectors.contiguous()}, path)
        else:
            save_rows(it, np.arange(len(it.entries)), path, writer(path), Log(quiet=True))
        it.entries.write(temporary)
        facts["steps"] = [f"row i of {file} is that of row i of {FILE}"]
        (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    log.say(f"{len(it.entries):,} vectors of {it.vectors.shape[1]} numbers in {out / file}, named in {FILE}")
    return out
