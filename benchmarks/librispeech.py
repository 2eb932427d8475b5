"""Who speaks? CPC on 32 minutes of LibriSpeech, beside MFCC and the same encoder untrained.

    python benchmarks/librispeech.py                        # the recipe
    python benchmarks/librispeech.py epochs=3 encoder.width=64

251 speakers with one utterance of at most 10 s each. CPC and the probes learn from all of it but the last 2.5 s, the
probes are judged on the last 2 s: the same session, so this is easier than van den Oord et al. 2018, arXiv:1807.03748,
whose 97.4 % of 251 speakers are of utterances apart, after 300,000 steps on 100 hours. The second table has 10 other
speakers with 10 utterances each, 7 to learn from and 3 to be judged on. Data lies in `audio` of TWOVIEWS_DATA.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import resource
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import soundfile

import twoviews
from twoviews.cli import pairs

AUDIO = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "audio"
RATE, HELD, GAP = 16_000, 2.0, 0.5  # seconds at the end that are judged on, and between the two
LEARNED = 7  # utterances of each of the 10 speakers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE", metavar="KEY=VALUE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many", Path(folder) / "few"
        written(many, few)
        settings = {"data.label": "voice", **pairs(args.settings)}
        run = twoviews.train(many, recipe="cpc_sounds", labels="{voice}", out=Path(folder) / "run", settings=settings)
        assert run.table  # voices are labels
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(f"\n## 251 speakers, one session each\n\n{run.table.markdown()}")
        others = twoviews.evaluate(run, few, labels="{voice}_{_}", quiet=True)
        print(f"\n## 10 other speakers, utterances apart\n\n{others.markdown()}")
        seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        print(f"\n{seconds:,.0f} CPU s for training and the first table, {peak:,.0f} MiB.")


def written(many: Path, few: Path) -> None:
    """The recordings as folders train and test."""
    seen: Counter[str] = Counter()
    rows = csv.DictReader((AUDIO / "librispeech_mini_index.csv").read_text().splitlines())
    with zipfile.ZipFile(AUDIO / "librispeech_mini.zip") as archive:
        for row in rows:
            samples, rate = soundfile.read(io.BytesIO(archive.read(row["file"])), dtype="int16")
            assert rate == RATE
            speaker = row["speaker"]
            if row["subset"] == "train-clean-100":
                cut = len(samples) - round(HELD * RATE)
                write(many / "train" / f"{speaker}.flac", samples[: cut - round(GAP * RATE)])
                write(many / "test" / f"{speaker}.flac", samples[cut:])
            else:
                seen[speaker] += 1
                side = "train" if seen[speaker] <= LEARNED else "test"
                write(few / side / f"{speaker}_{seen[speaker]}.flac", samples)


def write(path: Path, samples: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


if __name__ == "__main__":
    main()
