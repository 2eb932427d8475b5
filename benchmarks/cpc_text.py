"""Sentences by prediction on 25,556 Wikipedia articles: order, topic, next sentence and kind of article, beside floors.

    python benchmarks/cpc_text.py                                        # all articles, three seeds
    python benchmarks/cpc_text.py --documents 4000 --seeds 0 --set epochs=3

Reads TWOVIEWS_DATA/text/enwiki_sample (default: ../shared/data beside the repository), where a line is an article in
small letters without marks, so sentences are runs of words. What kind of thing an article is of is told from its text:
the noun before the first preposition behind "is a", one of the 20 commonest; the first 40 words are then left out of
every article, so that none can be read off. Prints Markdown: mean and range over seeds, CPU time and peak memory.
"""

from __future__ import annotations

import argparse
import lzma
import os
import re
import resource
import tempfile
import time
from ast import literal_eval
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twoviews import fit
from twoviews.recipes.predicted_text import cpc_text

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data"))
HEAD, KINDS = 40, 20  # words that are left out of each article, and kinds that are told apart
BEHIND = """in of for from who which that by at on with located based known and or to the as near directed written
native born played produced competed released held"""
KIND = re.compile(rf"\b(?:is|was|are|were) (?:a|an|the) ((?:\S+ )*?)(?:{'|'.join(BEHIND.split())})\b")


def articles(most: int | None) -> tuple[list[str], list[str]]:
    """The articles without their beginning, and the kind of each, "" for none."""
    with lzma.open(DATA / "text" / "enwiki_sample" / "enwiki.txt.xz", "rt") as file:
        lines = [line.split() for line in file][:most]
    heads = (KIND.search(" ".join(line[:HEAD])) for line in lines)
    nouns = [found[1].split()[-1] if found and found[1] else "" for found in heads]
    common = {noun for noun, _ in Counter(filter(None, nouns)).most_common(KINDS)}
    return [" ".join(line[HEAD:]) for line in lines], [noun if noun in common else "" for noun in nouns]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--documents", type=int, help="read so many articles alone")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the run")
    options.add_argument("--device", default="cpu")
    given = options.parse_args()
    torch.set_num_threads(1)
    texts, kinds = articles(given.documents)
    print(f"{len(texts):,} articles, {sum(map(bool, kinds)):,} of {len(set(kinds) - {''})} kinds")
    settings = {name: literal_eval(value) for name, value in (pair.split("=", 1) for pair in given.set)}
    found: list[dict[str, dict[str, float]]] = []
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "articles.txt"
        file.write_text("\n".join(texts))
        run = cpc_text(str(file), labels=kinds, device=given.device).override(settings)
        for seed in given.seeds:
            before = time.process_time()
            result = fit(run.with_part("seed", seed), Path(folder) / f"seed{seed}", device=given.device, quiet=True)
            spent.append(time.process_time() - before)
            if result.table is None:
                raise SystemExit("too few articles to measure by: give more")
            found.append({row: {p: s.value for p, s in cells.items()} for row, cells in result.table.rows.items()})
            print(f"seed {seed}: {result.table.verdict}", flush=True)
    print(table(found))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{run.epochs} epochs, {np.median(spent):,.0f} CPU-s a seed with all measures, peak memory {peak:.1f} GiB")


def table(found: list[dict[str, dict[str, Any]]]) -> str:
    """Rows and probes as Markdown, per cent over the seeds."""
    probes = list(found[0][next(iter(found[0]))])
    lines = ["| | " + " | ".join(probes) + " |", "|---|" + "---:|" * len(probes)]
    for row in found[0]:
        values = [100 * np.array([each[row][probe] for each in found]) for probe in probes]
        cells = [f"{v.mean():.1f} ({v.min():.1f} to {v.max():.1f})" for v in values]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
