"""Skip-gram on text: words a second of one core and quality after each epoch, ours beside gensim's, on the same tokens.

    python benchmarks/skipgram.py [--words 10_000_000] [--epochs 5] [--shared 16 32 64] [--dim 100] [--threads 1]
                                  [--sides twoviews gensim]

Needs gensim, and enwiki_sample and eval in the folder text of TWOVIEWS_DATA (default: ../shared/data). Both sides take
window 5, 5 negatives, sample 1e-3, words of 5 or more occurrences, and count words before any is left out. CPU-s is the
time of all cores, compiling and reading left out; `words/CPU-s` its inverse for the words read until then.
"""

import argparse
import lzma
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch

from twoviews import skipgram
from twoviews.data.sentences import sentences
from twoviews.data.text import text
from twoviews.encoders.table import Table
from twoviews.methods.word2vec import SkipGram
from twoviews.optim import linear

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "text"


def lines(most):
    out, count = [], 0
    with lzma.open(DATA / "enwiki_sample" / "enwiki.txt.xz", "rt") as file:
        for line in file:
            out.append(line.split())
            count += len(out[-1])
            if count >= most:
                break
    return out, count


def rho(unit, place, path):
    from scipy.stats import spearmanr

    rows = [line.lower().split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = [(place[a], place[b], float(score)) for a, b, score in rows if a in place and b in place]
    a, b, scores = (np.array(column) for column in zip(*rows, strict=True))
    return spearmanr((unit[a] * unit[b]).sum(1), scores).statistic


def analogies(unit, place, path):
    """3CosAdd over the 30,000 most frequent words, percent."""
    questions = [line.lower().split() for line in path.read_text().splitlines() if not line.startswith(":")]
    known = np.array([[place[w] for w in q] for q in questions if all(place.get(w, 30_000) < 30_000 for w in q)])
    near, right = unit[:30_000], 0
    for q in np.array_split(known, max(1, len(known) // 500)):
        scores = (near[q[:, 1]] - near[q[:, 0]] + near[q[:, 2]]) @ near.T
        np.put_along_axis(scores, q[:, :3], -9, 1)
        right += (scores.argmax(1) == q[:, 3]).sum()
    return 100 * right / len(known)


class Rows:
    """One line of the table after each epoch."""

    def __init__(self, side, names, words):
        self.side, self.words, self.place = side, words, {w: i for i, w in enumerate(names)}
        self.taken, self.begun = 0.0, time.process_time()

    def add(self, epoch, vectors):
        self.taken += time.process_time() - self.begun
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
        likes = [rho(unit, self.place, DATA / "eval" / name) for name in ("wordsim353.tsv", "simlex999.txt")]
        found = analogies(unit, self.place, DATA / "eval" / "questions-words.txt")
        rate, peak = self.words * epoch / self.taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        cells = f"{self.taken:.1f} | {rate:,.0f} | {likes[0]:.3f} | {likes[1]:.3f} | {found:.2f} | {peak:.2f}"
        print(f"| {self.side} | {epoch} | {cells} |", flush=True)
        self.begun = time.process_time()


def ours(corpus, names, words, shared, args):
    how = {"lr": args.lr, "schedule": linear, "threads": args.threads, "seed": 1}

    def learn(corpus, epochs, look=None):
        torch.manual_seed(1)
        method = SkipGram(Table(corpus.rows, args.dim), shared=shared)
        stream = sentences().over(corpus, size=2**16, seed=1)
        seen = look and (lambda epoch: look(epoch, method.encoder.weight.detach().numpy()))
        skipgram.learn(method, stream, **how, epochs=epochs, every_epoch=seen)

    learn(text([["a", "b"] * 50] * 4, least=1), 1)  # compiles
    learn(corpus, args.epochs, Rows(f"twoviews, {shared} shared", names, words).add)


def theirs(sequences, names, words, args):
    from gensim.models import Word2Vec
    from gensim.models.callbacks import CallbackAny2Vec

    how = {"sg": 1, "negative": 5, "window": 5, "min_count": 5, "sample": 1e-3, "seed": 1}
    model = Word2Vec(vector_size=args.dim, workers=args.threads, **how)
    cut = [line[i : i + 10_000] for line in sequences for i in range(0, len(line), 10_000)]
    model.build_vocab(cut)
    rows, done = Rows("gensim", names, words), iter(range(1, args.epochs + 1))

    class Look(CallbackAny2Vec):
        def on_epoch_end(self, model):
            rows.add(next(done), model.wv[names])

    model.train(cut, total_examples=len(cut), epochs=args.epochs, callbacks=[Look()])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--words", type=int, default=10_000_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--shared", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.025)
    parser.add_argument("--sides", nargs="+", default=["twoviews", "gensim"])
    args = parser.parse_args()
    sequences, words = lines(args.words)
    corpus = text(sequences, least=5)
    names = corpus.vocabulary.to_pylist()
    print("| side | epoch | CPU-s | words/CPU-s | WordSim-353 | SimLex-999 | analogies % | peak GB |")
    print("|---|---|---|---|---|---|---|---|")
    for shared in args.shared if "twoviews" in args.sides else ():
        ours(corpus, names, words, shared, args)
    if "gensim" in args.sides:
        theirs(sequences, names, words, args)


if __name__ == "__main__":
    main()
