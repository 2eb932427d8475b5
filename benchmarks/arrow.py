"""Forward or backward? Real clips, without labels and with them, judged on videos that the judge has not seen.

    python benchmarks/arrow.py                                            # the recipes on videos
    python benchmarks/arrow.py views.flip=0 --recipes video_simclr        # settings as on the command line, first
    python benchmarks/arrow.py --recipes --encoders vivit2 --epochs 500   # with labels, about 140 clips a fold

23 videos: 20 gestures of about 2 seconds, 3 scenes of 30 to 140. Windows of 1.6 seconds at 10 frames a second begin
every 0.2 in gestures, every 3.2 in scenes. Without labels every run is `twoviews.train` on the list of windows: the
encoder sees all videos, never that there is a direction; the probe of its table (twoviews.evaluate.arrow) is judged on
videos not learned from. With labels, the windows and the same reversed, an encoder is trained from nothing five times,
without a fifth of the videos that it is then judged on; every video counts alike, and so does the interval.
The videos lie in the folder `video/intel_sample_videos` of TWOVIEWS_DATA.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import twoviews
from twoviews.build import build, learn, make_loader, make_optimizer
from twoviews.cli import pairs
from twoviews.data.videos import Videos, videos
from twoviews.evaluate.embed import features, model
from twoviews.evaluate.table import RAW, UNTRAINED, H
from twoviews.evaluate.videos import ARROW
from twoviews.log import Log
from twoviews.recipes import RECIPES

FOLDER = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "video"
RATE, FRAMES, SIDE = 10, 15, 85  # frames a second, of a clip (8, every other one), and pixels a side
SECONDS, SHORT = 1.6, 10  # of a window, and of what counts as a gesture
CLIP = {"views.frames": 8, "views.stride": 2, "test_view.frames": 8, "test_view.stride": 2}
FOLDS, WAYS = 5, ("forward", "backward")


def windows(out: Path) -> Path:
    """A list of stretches, dense in short videos and end to end, twice over, in long ones."""
    source = videos(FOLDER / "intel_sample_videos")
    with open(out, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "start", "end"])
        for i in range(len(source)):
            length = source.span(i)[1]
            for begin in np.arange(0, max(length - SECONDS, 0) + 1e-6, 0.2 if length < SHORT else 2 * SECONDS):
                path = FOLDER / "intel_sample_videos" / source.listing.key(int(source.file[i]))
                rows.writerow([path, f"{begin:.2f}", f"{begin + SECONDS:.2f}"])
    return out


def unlabelled(listed: Path, recipe: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Rows of a run's table: raw pixels, the encoder untrained and trained."""
    with tempfile.TemporaryDirectory() as folder:
        known = {"data.rate": RATE, "holdout": 0.0, **CLIP, **settings}
        result = twoviews.train(listed, recipe=recipe, out=Path(folder) / "run", quiet=True, settings=known)
    assert result.table is not None
    return {
        name: f"{100 * s.value:.1f} ({100 * s.low:.1f} to {100 * s.high:.1f})"
        for name, s in ((row, result.table.rows[row][ARROW]) for row in (RAW, UNTRAINED, H))
    }


def both_ways(source: Videos) -> np.ndarray:
    """(2, N, FRAMES, SIDE, SIDE, 3) uint8: the windows and the same reversed, the central square of each."""
    clips = np.empty((len(source), FRAMES, SIDE, SIDE, 3), np.uint8)
    for i in range(len(source)):
        x = source.frames(i)[:FRAMES]
        top, left = (x.shape[1] - SIDE) // 2, (x.shape[2] - SIDE) // 2
        clips[i] = x[:, top : top + SIDE, left : left + SIDE]
    return np.stack([clips, clips[:, ::-1]])


def labelled(listed: Path, encoder: str, settings: Mapping[str, Any]) -> str:
    """Share of windows of unseen videos whose direction an encoder tells that was trained to, a mean over videos."""
    source = videos(listed, rate=RATE, max_side=SIDE).hold()
    clips, group = both_ways(source), np.unique(source.file, return_inverse=True)[1]
    base = RECIPES["video_mae"](str(listed)).override({"method": "supervised", "encoder": encoder, **CLIP, **settings})
    fold = np.random.default_rng(0).permutation(group.max() + 1)[group] % FOLDS
    right = np.zeros((2, len(source)))
    for number in range(FOLDS):
        mine, held = (clips[:, rows].reshape(-1, *clips.shape[2:]) for rows in (fold != number, fold == number))
        train, test = videos((mine, np.repeat(WAYS, len(mine) // 2).tolist())), videos(held)
        run = base.resolved(train)
        views, view = run.views(), run.test_view()
        device = torch.device("cpu")
        loader = make_loader(run, train.sampled(views.moments, run.seed), device, Log(quiet=True))
        method = build(run)
        learn(run, method, loader, make_optimizer(run, method), device=device)
        found = features(model(method.encoder, method.project), test.sampled(view.moments), view, batch_size=64)
        assert found.z is not None
        assert train.classes is not None
        said = np.array(train.classes)[found.z.argmax(1).numpy()].reshape(2, -1)
        right[:, fold == number] = said == np.array(WAYS)[:, None]
        print(f"{encoder}, fold {number + 1}: {right[:, fold == number].mean():.3f}", file=sys.stderr, flush=True)
    each = np.bincount(group, right.mean(0)) / np.bincount(group)
    spread = 1.96 * each.std(ddof=1) / np.sqrt(len(each))
    return f"{100 * each.mean():.1f} ({100 * (each.mean() - spread):.1f} to {100 * (each.mean() + spread):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE", metavar="KEY=VALUE")
    parser.add_argument("--recipes", nargs="*", default=["video_simclr", "video_cpc", "video_mae"])
    parser.add_argument("--encoders", nargs="*", default=[], help="of the runs with labels")
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_intermixed_args()
    settings: dict[str, Any] = {"epochs": args.epochs, **pairs(args.settings)}
    with tempfile.TemporaryDirectory() as folder:
        listed = windows(Path(folder) / "windows.csv")
        print(f"| | {RAW} | {UNTRAINED} | trained | CPU s |\n|---|---:|---:|---:|---:|", flush=True)
        for recipe in args.recipes:
            begun = time.process_time()
            rows = unlabelled(listed, recipe, settings)
            print(f"| {recipe} | {' | '.join(rows.values())} | {time.process_time() - begun:,.0f} |", flush=True)
        for encoder in args.encoders:
            begun = time.process_time()
            cell = labelled(listed, encoder, settings)
            print(f"| {encoder}, with labels | | | {cell} | {time.process_time() - begun:,.0f} |", flush=True)
    print("\nForward told from backward in % of the windows, chance 50; brackets: 95 % intervals over videos.")


if __name__ == "__main__":
    main()
