"""metapaths=auto: short runs along each meta-path of a schema, judged on links that none of them has seen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from . import skipgram
from .data.graph import Graph, held_out
from .data.schema import MetaPath, candidates
from .data.walks import walks
from .encoders.table import Table
from .errors import unknown
from .evaluate.links import auc, pairs, placements
from .evaluate.metapaths import Choice, choose
from .evaluate.score import Score
from .log import Log
from .measure_tables import vectors
from .methods.word2vec import SkipGram
from .optim import linear
from .types import Stream, Tokens

DIM, LR, BLOCK = 64, 0.05, 2**14
TOKENS = 2_000_000  # of a short run in the first round
WALKS = 20  # from each node, at most, in it: a small graph says no more
JUDGES = 5_000  # links that judge


@dataclass(frozen=True)
class Begun:
    """The first blocks of a stream."""

    stream: Stream
    blocks: int

    @property
    def items(self) -> int:
        return self.stream.items * self.blocks // max(1, self.stream.blocks)

    def block(self, epoch: int, index: int) -> Tokens:
        return self.stream.block(epoch, index)

    def counts(self) -> np.ndarray:
        return self.stream.counts()


def choose_metapaths(graph: Graph, length: int, keep: tuple[str, ...], seed: int, log: Log) -> Choice[MetaPath]:
    """What to walk on a typed graph. length, keep: of its walks.

    Raises UserError where the schema has no meta-path that leads back to where it starts, and meets all of `keep`.
    """
    for kind in set(keep).difference(graph.types):
        raise unknown("type in views.keep", kind, graph.types)
    found = [path for path in candidates(graph) if set(path.types).issuperset(keep)]
    rest, held = held_out(graph, 0.1, JUDGES, seed + 1)
    judges = pairs(rest, held, "by degree", seed)

    with log.progress("choosing meta-paths", 2 * len(found) + 6, brief=True) as bar:
        runs = count(1)

        def trial(paths: tuple[MetaPath, ...], budget: float) -> tuple[Score, float]:
            begun = time.process_time()
            stream = walks(tuple(map(str, paths)), length, keep).over(rest, size=BLOCK, seed=seed)
            share = budget * min(WALKS, TOKENS / max(1, stream.items))  # of an epoch
            epochs = max(1, round(share))
            part = Begun(stream, int(np.clip(round(stream.blocks * share / epochs), 1, stream.blocks)))
            torch.manual_seed(seed)
            method = SkipGram(Table(len(graph), DIM))
            skipgram.learn(method, part, lr=LR, schedule=linear, epochs=epochs, threads=1, seed=seed)
            score = auc(placements(vectors(method), judges), judges)
            bar(next(runs), note=f"link AUC {100 * score.value:.1f} %")
            return score, time.process_time() - begun

        return choose(found, trial, reach=lambda path: set(path.types))
