"""A text into word vectors and their scores: ours beside gensim's Word2Vec, each in a process of its own, in turn.

    python benchmarks/words.py                                        # enwiki_sample, 100-d, 5 epochs, seeds 0 1 2
    python benchmarks/words.py --lines 3000 --epochs 1 --seeds 0      # a small part of it
    python benchmarks/words.py --threads 2 --dim 128 method.shared=16 # settings of SkipGram

Both read the same unpacked file, count words before any is thinned out, keep those that occur 5 times, and train
skip-gram with 5 negatives, window 5, sample 1e-3 and the rate .025 down to 0. gensim reads by `corpus_file`, its
faster way. Scores are by twoviews.evaluate.words, whose rules are gensim's. CPU seconds are of all threads, of reading
and of training; neither they nor the growth of memory count the import of the libraries, nor compiling. Data lies in
the folder `text` of TWOVIEWS_DATA.
"""

from __future__ import annotations

import argparse
import ast
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "text"
LEAST, WINDOW, NEGATIVES, SAMPLE, RATE = 5, 5, 5, 1e-3, 0.025
SIDES = ("gensim", "twoviews")


class Clock:
    """CPU and wall seconds since the last look, and the peak of memory in MiB."""

    def __init__(self) -> None:
        self.peak = peak()
        self.look()

    def look(self) -> tuple[float, float]:
        before = getattr(self, "at", (0.0, 0.0))
        self.at = (time.process_time(), time.perf_counter())
        return self.at[0] - before[0], self.at[1] - before[1]


def peak() -> float:
    """Of this process alone: getrusage's peak is inherited from the one that started it. Linux."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def ours(path: str, dim: int, epochs: int, seed: int, threads: int, settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    from twoviews import skipgram
    from twoviews.data.sentences import sentences
    from twoviews.data.text import text
    from twoviews.encoders.table import table
    from twoviews.methods.word2vec import SkipGram
    from twoviews.optim import linear

    def trained(corpus: Any, epochs: int) -> Any:
        torch.manual_seed(seed)
        method = SkipGram(table(len(corpus), dim), window=WINDOW, negatives=NEGATIVES, **settings)
        stream = sentences(sample=SAMPLE).over(corpus, 2**16, seed)
        how = {"lr": RATE, "schedule": partial(linear), "epochs": epochs, "threads": threads, "seed": seed}
        skipgram.learn(method, stream, **how)
        return method

    trained(text(["a b c d e f g h"] * 100, least=1), 1)  # which compiles
    clock = Clock()
    corpus = text(path, least=LEAST)
    read = clock.look()
    method = trained(corpus, epochs)
    learned = clock.look()
    found = {"tokens": len(corpus.tokens), "read": read, "train": learned, "peak": peak(), "grown": peak() - clock.peak}
    return found | {"words": corpus.vocabulary.to_pylist(), "vectors": method.encoder.weight.detach().numpy()}


def gensim(path: str, dim: int, epochs: int, seed: int, threads: int, settings: dict[str, Any]) -> dict[str, Any]:
    from gensim.models import Word2Vec

    how = {"vector_size": dim, "window": WINDOW, "negative": NEGATIVES, "sample": SAMPLE, "alpha": RATE, "sg": 1}
    model = Word2Vec(min_count=LEAST, workers=threads, seed=seed + 1, epochs=epochs, **how)
    clock = Clock()
    model.build_vocab(corpus_file=path)
    read = clock.look()
    words = model.corpus_total_words
    model.train(corpus_file=path, total_words=words, total_examples=model.corpus_count, epochs=epochs)
    learned = clock.look()
    tokens = sum(int(model.wv.get_vecattr(word, "count")) for word in model.wv.index_to_key)
    found = {"tokens": tokens, "read": read, "train": learned, "peak": peak(), "grown": peak() - clock.peak}
    return found | {"words": model.wv.index_to_key, "vectors": model.wv.vectors}


def measured(words: list[str], vectors: np.ndarray, tests: Path) -> dict[str, float]:
    from twoviews.evaluate.words import word_table, word_tests

    counts = np.arange(len(words))[::-1]  # words come by frequency
    table = word_table({"vectors": vectors}, words, counts, word_tests(tests))
    return {probe: score.value for probe, score in table.rows["vectors"].items()}


def one(side: str, folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """A side in a process of its own, and its scores."""
    asked = [str(folder), str(args.dim), str(args.epochs), str(seed), str(args.threads), *args.settings]
    command = [sys.executable, __file__, "--side", side, *asked]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    about = json.loads((folder / "about.json").read_text())
    return about | {"scores": measured(about.pop("words"), np.load(folder / "vectors.npy"), args.tests)}


def child(side: str, folder: Path, dim: int, epochs: int, seed: int, threads: int, settings: list[str]) -> None:
    values = {}
    for setting in settings:
        name, value = setting.removeprefix("method.").split("=")
        values[name] = value if value.isidentifier() and value not in ("True", "False") else ast.literal_eval(value)
    found = {"gensim": gensim, "twoviews": ours}[side](str(folder / "text.txt"), dim, epochs, seed, threads, values)
    np.save(folder / "vectors.npy", found.pop("vectors"))
    (folder / "about.json").write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=DATA / "enwiki_sample" / "enwiki.txt.xz", help=".txt or .xz")
    parser.add_argument("--tests", type=Path, default=DATA / "eval")
    parser.add_argument("--lines", type=int, help="how many of its lines, None for all")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    args, args.settings = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        packed = lzma.open(args.file) if args.file.suffix == ".xz" else open(args.file, "rb")  # noqa: SIM115
        with packed, open(folder / "text.txt", "wb") as plain:
            plain.writelines(islice(packed, args.lines))
        runs = {side: [] for side in SIDES}
        for seed in args.seeds:
            for side in SIDES:
                runs[side].append(one(side, folder, args, seed))
                print(f"seed {seed}, {side}: {json.dumps(runs[side][-1])}", file=sys.stderr, flush=True)
    probes = list(runs["gensim"][0]["scores"])
    head = [*probes, "read, CPU s", "train, CPU s", "wall s", "words per CPU s", "peak MiB", "of it data, tables MiB"]
    print("| | " + " | ".join(head) + " |\n|---" + "|---:" * len(head) + "|")
    rows = {}
    for side, found in runs.items():
        scores = [median(run["scores"][probe] for run in found) for probe in probes]
        read, train = (median(run[part][0] for run in found) for part in ("read", "train"))
        wall = median(run["read"][1] + run["train"][1] for run in found)
        rate = found[0]["tokens"] * args.epochs / train
        rows[side] = [*scores, read, train, wall, rate, *(median(run[k] for run in found) for k in ("peak", "grown"))]
        shown = [f"{x:.3f}" for x in scores] + [f"{x:,.1f}" for x in (read, train, wall)]
        print(f"| {side} | " + " | ".join([*shown, *(f"{x:,.0f}" for x in rows[side][-3:])]) + " |")
    n = len(probes)
    gaps = [f"{b - a:+.3f}" for a, b in zip(rows["gensim"][:n], rows["twoviews"][:n], strict=True)]
    ratios = [f"{b / max(a, 1e-9):.2f}x" for a, b in zip(rows["gensim"][n:], rows["twoviews"][n:], strict=True)]
    print("| ours less theirs, ours over theirs | " + " | ".join(gaps + ratios) + " |")
    tokens, settings = runs["twoviews"][0]["tokens"], " ".join(args.settings) or "as SkipGram has them"
    how = f"{args.epochs} epochs, {args.dim}-d, {args.threads} threads"
    print(f"\nMedians of seeds {args.seeds}; {tokens:,} tokens, {how}.")
    print(f"Settings {settings}. Shares and rho from 0 to 1.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side, folder, *numbers = sys.argv[2:8]
        child(side, Path(folder), *map(int, numbers), settings=sys.argv[8:])
    else:
        main()
