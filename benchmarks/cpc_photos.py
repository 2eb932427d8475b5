"""Photos by prediction: CIFAR-10 in a 5 x 5 grid of patches, beside raw pixels and the untrained encoder.

    python benchmarks/cpc_photos.py                                                  # a GPU, or two cores for long
    python benchmarks/cpc_photos.py --items 10000 epochs=30                          # two cores, about half an hour
    python benchmarks/cpc_photos.py --items 3000 epochs=4 --vary method.first=1 views.drop=0 views.light=0

The recipe cpc_photos, and with --vary the same run with one setting changed at a time. Accuracy on the test photos
under kNN (k = 20) and a linear probe; of the first horizon that is predicted, the share of patches found and what the
loss lies below log N. Memory is the process's peak until then. JPEG files of quality 75, which costs a little against
the lossless originals.
"""

import argparse
import json
import resource
import time
from functools import partial
from pathlib import Path

from twoviews.build import find_device
from twoviews.cli import pairs
from twoviews.data.image import photos
from twoviews.evaluate.table import RAW, UNTRAINED, H
from twoviews.fit import fit
from twoviews.recipes.predicted import cpc_photos


def part(data: str, split: str, items: int):
    """Evenly spaced photos of a split."""
    source = photos(data, split=split)
    return source.subset(range(0, len(source), max(1, len(source) // items)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE of every run")
    parser.add_argument("--vary", nargs="*", default=[], metavar="KEY=VALUE", help="one more run for each")
    parser.add_argument("--data", default="../shared/data/images/cifar10_jpeg.zip")
    parser.add_argument("--items", type=int, help="train on so many photos and measure on a fifth as many")
    parser.add_argument("--out", default="runs/benchmark-cpc_photos")
    args = parser.parse_intermixed_args()

    run = cpc_photos(args.data, device=str(find_device(None)))
    if args.items:
        run = run.override({
            "data": partial(part, data=args.data, split="train", items=args.items),
            "test": partial(part, data=args.data, split="test", items=args.items // 5),
        })  # fmt: skip
    run = run.override(pairs(args.settings))
    print("| run | kNN | linear | patches found | bound, nats | CPU s | peak GiB |\n|---|---|---|---|---|---|---|")
    for number, changed in enumerate(["", *args.vary]):
        begun = time.process_time()
        other = run.override(pairs([changed] if changed else []))
        result = fit(other, Path(f"{args.out}-{number}"), fresh=True, quiet=True)
        seconds = time.process_time() - begun
        assert result.table is not None
        floors = [("raw pixels", RAW), ("the encoder untrained", UNTRAINED)] if not number else []
        for name, row in [*floors, (changed or "cpc_photos", H)]:
            line = [f"{result.table.rows[row][probe].value:.3f}" for probe in ("knn", "linear")]
            if row == H:
                first = result.method.first
                line += [f"{last(result.folder, f'{what}_{first}'):.3f}" for what in ("accuracy", "bound")]
                line += [f"{seconds:,.0f}", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f}"]
            print(f"| {' | '.join([name, *line, *[''] * (6 - len(line))])} |", flush=True)


def last(folder: Path, name: str) -> float:
    """A logged value at the last step that has it."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return next(line[name] for line in reversed(lines) if name in line)


if __name__ == "__main__":
    main()
