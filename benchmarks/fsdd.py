"""Spoken digits (FSDD): what CPC knows of digit and speaker, beside MFCC, loudness and the same encoder untrained.

    python benchmarks/fsdd.py --floors                              # a minute: no training, takes 5-49 to learn from
    python benchmarks/fsdd.py                                       # seeds 0 1 2 of the recipe, takes 10-49
    python benchmarks/fsdd.py epochs=50 encoder.width=64 --seeds 0  # settings as on the command line, first
    python benchmarks/fsdd.py --seeds 0 --horizons 2 4 8 12 16      # table 2 of the paper, upper part
    python benchmarks/fsdd.py --seeds 0 --negatives                 # table 2 of the paper, lower part

Every run is `twoviews.train` with recipe cpc_sounds, judged on takes 0-4 by twoviews.evaluate.sounds. Figures are means
and standard deviations over seeds, of CPU seconds (all threads, training and measuring) means. Table 2 of van den Oord
et al. 2018, arXiv:1807.03748, is of phones in 100 hours of LibriSpeech: its figures stand beside ours for the order of
the rows, not for their size. Data lies in the folder `audio` of TWOVIEWS_DATA.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import twoviews
from twoviews.cli import pairs
from twoviews.data.sounds import sounds
from twoviews.data.soundviews import whole
from twoviews.evaluate.heard import LOUDNESS, MFCC, cepstra, hear
from twoviews.evaluate.soundprobes import UNHEARD_LABEL, known, probed
from twoviews.evaluate.table import UNTRAINED, H

AUDIO = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "audio"
DATA = {"labels": AUDIO / "fsdd_index.csv", "label": "digit"}
PAPER = {2: 28.5, 4: 57.6, 8: 63.6, 12: 64.6, 16: 63.8}  # phone accuracy by steps predicted
NEGATIVES: dict[str, tuple[dict[str, Any], float]] = {  # the same by negatives, as the paper names them
    "mixed speaker": ({"views.together": 0}, 64.6),
    "same speaker": ({"views.together": 8}, 65.5),
    "mixed speaker, current sequence excluded": ({"views.together": 0, "method.negatives": "others"}, 57.3),
    "same speaker, current sequence excluded": ({"views.together": 8, "method.negatives": "others"}, 64.6),
    "current sequence only": ({"views.together": 0, "method.negatives": "current"}, 65.2),
}
HARD = ("label, frames", "speaker, frames", *(f"{UNHEARD_LABEL}, {by}" for by in ("mean and deviation", "4 segments")))
Shares = dict[str, dict[str, float]]  # row -> column -> accuracy


def floors() -> Shares:
    """MFCC and loudness, learned from takes 5-49 as those of shared/references/cpc.md."""
    source = sounds(AUDIO / "fsdd_flac.zip", **DATA)
    held = source.split == list(source.splits).index("test")
    train, test = source.subset(~held), source.subset(held)
    a, b = (hear({MFCC: cepstra(side.rate)}, side, whole()) for side in (train, test))
    found = probed(known(train, test), a, b, True, torch.device("cpu"), 0)
    return {row: {", ".join(column): one.share for column, one in found[row].items()} for row in (MFCC, LOUDNESS)}


def trained(settings: Mapping[str, Any], seed: int) -> tuple[Shares, float]:
    """The rows of a run's table, and its CPU seconds."""
    before = cpu()
    with tempfile.TemporaryDirectory() as folder:
        result = twoviews.train(
            AUDIO / "fsdd_flac.zip",
            recipe="cpc_sounds",
            out=Path(folder) / "run",
            labels=DATA["labels"],
            quiet=True,
            settings={"data.label": DATA["label"], **settings, "seed": seed},
        )
    assert result.table  # the digits are labelled
    return {
        row: {by: one.value for by, one in cells.items()} for row, cells in result.table.rows.items()
    }, cpu() - before


def seeds_of(name: str, settings: Mapping[str, Any], seeds: list[int]) -> tuple[list[Shares], float]:
    runs = []
    for seed in seeds:
        runs.append(trained(settings, seed))
        print(
            f"{name}, seed {seed}: {shown([runs[-1][0]], H, HARD)}, {runs[-1][1]:,.0f} CPU s",
            file=sys.stderr,
            flush=True,
        )
    return [shares for shares, _ in runs], mean(seconds for _, seconds in runs)


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def shown(runs: list[Shares], row: str, columns: Any) -> str:
    """Cells of a row over the seeds."""
    cells = []
    for column in columns:
        of = [100 * run[row][column] for run in runs if column in run.get(row, {})]
        spread = f" ± {stdev(of):.1f}" if len(of) > 1 else ""
        cells.append(f"{mean(of):.1f}{spread}" if of else "")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE", metavar="KEY=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--floors", action="store_true")
    parser.add_argument("--horizons", nargs="+", type=int)
    parser.add_argument("--negatives", action="store_true")
    args = parser.parse_intermixed_args()
    settings = pairs(args.settings)
    if args.floors:
        found = floors()
        columns = list(found[MFCC])
        table(columns, {row: shown([found], row, columns) for row in found})
    elif args.horizons or args.negatives:
        wanted = {f"{k} steps": ({"method.steps": k}, PAPER.get(k, "")) for k in args.horizons or ()}
        wanted |= NEGATIVES if args.negatives else {}
        rows = {}
        for name, (more, paper) in wanted.items():
            runs, seconds = seeds_of(name, settings | more, args.seeds)
            rows[name] = f"{paper} | {shown(runs, H, HARD)} | {seconds:,.0f}"
        table(["phones, the paper", *HARD, "CPU s"], rows)
    else:
        runs, seconds = seeds_of("ours", settings, args.seeds)
        columns = list(runs[0][H])
        table(columns, {row: shown(runs, row, columns) for row in (LOUDNESS, MFCC, UNTRAINED, H)})
        print(f"\nSeeds {args.seeds}, {seconds:,.0f} CPU s a run.")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nAccuracy in %. Settings: {' '.join(args.settings) or 'of the recipe'}. Peak memory {peak:,.0f} MiB.")


def table(columns: list[str], rows: Mapping[str, str]) -> None:
    print("| | " + " | ".join(columns) + " |\n|---" + "|---:" * len(columns) + "|")
    for name, cells in rows.items():
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
