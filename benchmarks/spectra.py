"""What a head does to h: the spectrum of h under SimCLR with no head, a linear and an MLP head, and under DirectCLR.

    python benchmarks/spectra.py --data cifar10_jpeg.zip --items 10000 encoder=small epochs=30 batch_size=256 \\
        optimizer.lr=0.06                               # two cores: the picture in docs/images
    python benchmarks/spectra.py                        # two cores: the embedded digits
    python benchmarks/spectra.py --data cifar10_jpeg.zip    # a GPU: ResNet-18, 200 epochs

As Jing et al. 2021 (arXiv:2110.09348, figure 9) draw it: the eigenvalues of the covariance of the test items' h, each h
first made a unit vector, in order, on a log scale: https://github.com/facebookresearch/directclr/blob/main/spectrum.py
The four see the same photos in the same views for the same number of steps. A call that was stopped goes on.
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from twoviews import calls
from twoviews.build import find_device, readers, sources
from twoviews.cli import pairs
from twoviews.data.image import photos
from twoviews.diagnostics import effective_rank, spectrum
from twoviews.evaluate.embed import features, model
from twoviews.evaluate.table import H
from twoviews.fit import fit
from twoviews.heads import unit
from twoviews.methods import DirectCLR, SimCLR
from twoviews.recipes.cifar10 import cifar10_simclr
from twoviews.recipes.demo import demo
from twoviews.run import Run

COLOURS = {"no head": "#c0392b", "linear head": "#d68910", "MLP head": "#1f618d", "DirectCLR": "#239b56"}


def kinds(run: Run) -> dict[str, partial]:
    """The four, at the recipe's temperature and width."""
    now = calls.knobs(run.method)
    t, hidden = now["temperature"], now["hidden"]
    return {
        "no head": partial(SimCLR, dim=0, temperature=t),
        "linear head": partial(SimCLR, hidden=0, temperature=t),
        "MLP head": partial(SimCLR, hidden=hidden, temperature=t),
        "DirectCLR": partial(DirectCLR, temperature=t),
    }


def part(data: str, split: str, items: int):
    """Evenly spaced photos of a split."""
    source = photos(data, split=split)
    return source.subset(range(0, len(source), len(source) // items))


def draw(spectra: dict[str, torch.Tensor], title: str, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "spectra"  # equal figures give equal files
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, values in spectra.items():
        axes.semilogy(range(1, len(values) + 1), values.clamp_min(1e-12), label=name, color=COLOURS[name], linewidth=2)
    axes.set(xlabel="rank", ylabel="eigenvalue of the covariance of h / |h|", title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE for all four")
    parser.add_argument("--data", help="CIFAR-10 with splits train and test; default: the embedded digits")
    parser.add_argument("--items", type=int, help="train on so many photos and measure on a fifth as many")
    parser.add_argument("--runs", type=Path, default=Path("runs/spectra"), help="a folder for the runs")
    parser.add_argument("--out", type=Path, default=Path("spectra.svg"), help="the picture, .svg or .png")
    args = parser.parse_intermixed_args()

    settings = pairs(args.settings)
    if args.items:
        settings["data"] = partial(part, data=args.data, split="train", items=args.items)
        settings["test"] = partial(part, data=args.data, split="test", items=args.items // 5)
    base = (cifar10_simclr(args.data) if args.data else demo()).override(settings)
    device = find_device(None)
    _, test = sources(base)

    spectra, lines = {}, []
    for name, method in kinds(base).items():
        result = fit(base.with_part("method", method), args.runs / name.replace(" ", "-"))
        view = base.test_view()
        h = features(model(result.method.encoder), test, view, device=device, workers=readers(test)).h
        spectra[name] = spectrum(unit(h)).square()
        scores = result.table.rows[H]
        flat = int((spectra[name] < spectra[name][0] / 1e4).sum())
        cells = [scores["knn"], scores["linear"], f"{effective_rank(h):.1f} of {h.shape[1]}", flat]
        lines.append(" | ".join(map(str, ["", name, *cells, ""])).strip())
    print("\n| | kNN | linear probe | effective rank of h | eigenvalues below 1e-4 of the largest |")
    print("|---|---:|---:|---:|---:|")
    print("\n".join(lines))
    draw(spectra, f"{test.name}, encoder {calls.name(base.encoder)}, {base.epochs} epochs", args.out)
    print(f"\n{args.out}")


if __name__ == "__main__":
    main()
