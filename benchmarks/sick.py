"""Runs made sick on purpose, and healthy ones: does the doctor tell them apart?

    python benchmarks/sick.py --seeds 0 1 2            # trains what is not there yet, then prints the confusion table
    python benchmarks/sick.py --data cifar             # the same illnesses on CIFAR-10
    python benchmarks/sick.py --judge                  # only judges the runs that are there

Thresholds were set on seeds 0, 1 and 2 of the digits; other seeds and CIFAR-10 are the test of them.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from twoviews import Out, Run, fit, photos
from twoviews.data.views import center, two_crops
from twoviews.doctor.course import read_course
from twoviews.doctor.diagnosis import Diagnosis
from twoviews.doctor.rules import diagnose
from twoviews.encoders.small import small
from twoviews.errors import TrainingError
from twoviews.heads import mlp
from twoviews.methods import MoCo, SimCLR
from twoviews.methods.directclr import DirectCLR
from twoviews.optim import sgd
from twoviews.recipes.cifar10 import cifar10_simclr
from twoviews.types import Batch


class NoNegatives(SimCLR):
    """Views of one image attract and nothing repels."""

    def forward(self, batch: Batch) -> Out:
        out = super().forward(batch)
        assert out.contrast is not None
        out.loss = 2 - 2 * (out.z * out.contrast.positive).sum(1).mean()
        return out


class FrozenQueue(MoCo):
    """The queue keeps the random vectors it began with."""

    def after_batch(self, out: Out) -> None:
        pass


class SameQueue(MoCo):
    """Every key of the queue is the same: what a bank normalised along the wrong axis or left at its start gives."""

    def after_batch(self, out: Out) -> None:
        super().after_batch(out)
        assert self.queue is not None
        self.queue.memory[:] = self.queue.memory[:1]


class InOneGroup(MoCo):
    """End to end with BatchNorm in the head, both views of an item in the same group of four: four photos a device."""

    def __init__(self, encoder, dim: int = 64, temperature: float = 0.2):
        super().__init__(encoder, dim=dim, hidden=128, queue=0, temperature=temperature)
        self.head = mlp(encoder.dim, 128, dim, batchnorm=True)


class Peeking(SimCLR):
    """Photos of one label count as views of one thing: the labels come from the names of the folders."""

    def forward(self, batch: Batch) -> Out:
        order = batch.labels.argsort(stable=True)
        pairs = Batch([v[order] for v in batch.views], batch.ids, batch.labels[order])
        pairs.views[1] = pairs.views[1].roll(1, 0)
        return super().forward(pairs)


OFF = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)} | dict.fromkeys(
    ("flip", "jitter", "grey", "blur", "invert", "turn"), 0.0
)
STRONG = {
    "scale": (0.01, 0.05),
    "jitter": 1.0,
    "strength": 2.0,
    "grey": 0.5,
    "blur": 1.0,
    "solarize": 0.5,
    "cutout": 0.9,
}
MOCO = {"hidden": 0, "dim": 64, "queue": 1024, "temperature": 0.2, "momentum": 0.99}

Change = Callable[[Run], Run]


def views(**settings) -> Change:
    return lambda run: run.override({f"views.{k}": v for k, v in settings.items()})


def moco(method=MoCo, batchnorm: str | int = 8, **settings) -> Change:
    return lambda run: run.override({"method": partial(method, **{**MOCO, **settings}), "batchnorm": batchnorm})


def method(cls, **settings) -> Change:
    return lambda run: run.override({"method": partial(cls, **{**run.method.keywords, **settings})})


CASES: dict[str, tuple[str, Change]] = {  # case -> what the doctor should call it, how it is made
    "healthy SimCLR": ("", lambda run: run),
    "healthy MoCo": ("", moco()),
    "healthy DirectCLR": ("", lambda run: run.override({"method": partial(DirectCLR, temperature=0.2)})),
    "no negatives": ("complete collapse", method(NoNegatives)),
    "temperature 0.001": ("temperature too low", lambda run: run.override({"method.temperature": 0.001})),
    "augmentation off": ("views too alike", views(**OFF)),
    "augmentation far too strong": ("views too different", views(**STRONG)),
    "momentum 0": ("inconsistent keys", moco(momentum=0.0)),
    "learning rate x100": (
        "learning rate too high",
        lambda run: run.override({"optimizer.lr": 100 * run.optimizer.keywords["lr"]}),
    ),
    "queue never filled": ("queue not informative", moco(FrozenQueue)),
    "queue of one key": ("queue not informative", moco(SameQueue)),
    "BatchNorm leaks": (
        "BatchNorm leaks",
        lambda run: run.override({"method": InOneGroup, "batchnorm": run.batch_size // 4}),
    ),
    "labels in the loss": ("labels in training", method(Peeking)),
    "siblings by file name": ("test items known", lambda run: run),
}


def siblings(folder: Path, seed: int, originals: int = 600, cuts: int = 4) -> Path:
    """A folder of CIFAR-10 photos, each cut four times: NNNN_0.jpg ... NNNN_3.jpg, for a random split to tear apart."""
    place = folder / f"cuts-{seed}"
    if not place.exists():
        source, rng = photos(ARGS.cifar, split="train"), np.random.default_rng(seed)
        for i in rng.permutation(len(source))[:originals].tolist():
            kind = place / source.classes[source.labels[i]]
            kind.mkdir(parents=True, exist_ok=True)
            x = source.read(i)
            for cut, corner in enumerate(rng.permutation(25)[:cuts].tolist()):
                y, z = divmod(corner, 5)
                pixels = x[:, y : y + 28, z : z + 28].permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(kind / f"{Path(source.key(i)).stem}_{cut}.jpg", quality=90)
    return place


def part(split: str, items: int, seed: int):
    source = photos(ARGS.cifar, split=split)
    return source.subset(np.sort(np.random.default_rng(seed).permutation(len(source))[:items]))


def plain_digits(split: str, seed: int):
    """scikit-learn's digits as they are, 16 pixels: every sixth to measure on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    test = np.random.default_rng(seed).permutation(len(found.target)) % 6 == 0
    rows = test if split == "test" else ~test
    images = (found.images[rows] * 255 / 16).astype(np.uint8).repeat(2, 1).repeat(2, 2)
    return photos((images, found.target[rows].astype(np.int64)))


def digits(seed: int) -> Run:
    return Run(
        data=partial(plain_digits, "train", seed),
        test=partial(plain_digits, "test", seed),
        views=partial(two_crops, size=16, scale=(0.3, 1.0), flip=0.0, grey=0.0, blur=0.0, turn=20.0),
        test_view=partial(center, size=16),
        encoder=partial(small, width=16),
        method=partial(SimCLR, hidden=128, dim=64, temperature=0.2),
        optimizer=partial(sgd, lr=0.06, weight_decay=5e-4),
        batch_size=128,
    )


def base(case: str, seed: int, out: Path) -> Run:
    if case == "siblings by file name":
        read = partial(photos, data=str(siblings(out, seed)))
        run = cifar10_simclr("").override({"encoder": partial(small), "batch_size": 256, "optimizer.lr": 0.06})
        run = run.override({"data": read, "test": None, "test_view": partial(center, size=32)})
    elif ARGS.data == "cifar":
        run = cifar10_simclr("").override({"encoder": partial(small), "batch_size": 256, "optimizer.lr": 0.06})
        run = run.override({"data": partial(part, "train", 2000, seed), "test": partial(part, "test", 1000, seed)})
    else:
        run = digits(seed)
    epochs = ARGS.epochs or (30 if ARGS.data == "digits" and run.test else 20)
    return run.override({"epochs": epochs, "seed": seed})


def main() -> None:
    rows = []
    for case, (expected, change) in CASES.items():
        if ARGS.only and case not in ARGS.only:
            continue
        for seed in ARGS.seeds:
            folder = Path(ARGS.out) / ARGS.data / f"{case.replace(' ', '-')}-{seed}"
            begun = time.monotonic()
            if not ARGS.judge and not (folder / "done").exists():
                with contextlib.suppress(TrainingError):
                    fit(change(base(case, seed, Path(ARGS.out))), folder, fresh=True, quiet=True)
                (folder / "done").touch()
                print(f"{case}, seed {seed}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            if (folder / "done").exists():
                found = diagnose(read_course(folder))
                rows.append((case, seed, expected, found))
    report(rows)
    if ARGS.draw:
        draw(rows, Path(ARGS.draw))


def report(rows: list[tuple[str, int, str, Diagnosis]]) -> None:
    """Each verdict, and the confusion table: what the run is against what it was called."""
    for case, seed, _, found in rows:
        print(f"{case}, seed {seed}: {found.verdict}. {found.sentence}\n")
    called = sorted({f.findings[0].name if f.findings else "healthy" for _, _, _, f in rows})
    print("| made | " + " | ".join(called) + " | right |\n|---" + "|---:" * (len(called) + 1) + "|")
    right = 0
    for case in dict.fromkeys(case for case, *_ in rows):
        names = [f.findings[0].name if f.findings else "healthy" for c, _, _, f in rows if c == case]
        expected = CASES[case][0] or "healthy"
        hits = sum(n == expected for n in names)
        right += hits
        cells = [str(names.count(n)) if n in names else "" for n in called]
        print(f"| {case} | {' | '.join(cells)} | {hits} of {len(names)} |")
    print(f"\n{right} of {len(rows)} called by their right name; torch {torch.__version__}")


def draw(rows: list[tuple[str, int, str, Diagnosis]], path: Path) -> None:
    """One panel a case: the loss over that of knowing nothing, the share that find their view, the spread of z."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(case for case, *_ in rows))
    across = 4
    figure, axes = pyplot.subplots(-(-len(cases) // across), across, figsize=(12, 2.1 * -(-len(cases) // across)))
    for ax in axes.flat[len(cases) :]:
        ax.remove()
    for case, ax in zip(cases, axes.flat, strict=False):
        for _, seed, _, found in (row for row in rows if row[0] == case):
            looks = read_course(Path(ARGS.out) / ARGS.data / f"{case.replace(' ', '-')}-{seed}").looks
            steps = [look["step"] for look in looks]
            loss = [look["loss"] / look["chance"] for look in looks]
            for values, colour in ((loss, "#3572b0"), ([k["z_spread"] for k in looks], "#d9822b")):
                ax.plot(steps, values, color=colour, lw=1.2, alpha=0.8)
            ax.plot(steps, [look["matched"] for look in looks], color="#3a9a5b", lw=1.2, alpha=0.8)
            name = found.findings[0].name if found.findings else "healthy"
        ax.set_title(f"{case}\n→ {name}", fontsize=9, loc="left", color="#a33" if found.findings else "#373")
        ax.set_ylim(0, 1.5)
        ax.axhline(1, color="#888", lw=0.6, ls=":")
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    lines = [pyplot.Line2D([], [], color=c, lw=2) for c in ("#3572b0", "#d9822b", "#3a9a5b")]
    labels = [
        "loss / loss of knowing nothing",
        "spread of z (1: even, 0: one point)",
        "share that find their second view",
    ]
    figure.legend(lines, labels, loc="lower right", fontsize=9, frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", choices=["digits", "cifar"], default="digits")
    parser.add_argument("--cifar", default="../shared/data/images/cifar10_jpeg.zip")
    parser.add_argument("--epochs", type=int, help="default: 30 of the digits, 20 of CIFAR-10")
    parser.add_argument("--out", default="runs/sick")
    parser.add_argument("--only", nargs="+", choices=list(CASES))
    parser.add_argument("--draw", help="a picture of the runs, .png or .svg")
    parser.add_argument("--judge", action="store_true", help="train nothing")
    return parser.parse_args()


if __name__ == "__main__":
    ARGS = arguments()
    main()
