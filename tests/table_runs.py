"""A small typed graph with communities, a text, and the folder of a run on either, for tests of report and doctor."""

import json
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from twoviews import Run, photos
from twoviews.data import entries
from twoviews.data.graph import Graph, Relation
from twoviews.data.nodelabels import NodeLabels
from twoviews.encoders.table import Table
from twoviews.folder import write_json
from twoviews.report.lengths import degrees
from twoviews.types import Method, Tokens

TYPES = ("author", "paper", "venue")
SIZES = (60, 90, 6)


class Skip(Method):
    def __init__(self, rows, dim=16, window=3):
        super().__init__()
        self.encoder, self.window = Table(rows, dim), window
        self.contexts = torch.nn.Parameter(torch.zeros(rows, dim))
        self.bias = None


@dataclass(frozen=True)
class Walks:
    """Walks by meta-path as a view: those that are given, whoever asks."""

    length: int = 9
    metapaths: str = "author-paper-venue-paper-author"
    keep: tuple[str, ...] = ()
    lines: tuple = field(default=(), compare=False)

    def over(self, source, size, seed):
        return self

    def block(self, epoch, index):
        bounds = np.cumsum([0, *map(len, self.lines)])
        return Tokens(np.concatenate(self.lines).astype(np.int32), bounds)


def relation(source, name, target, edges, rows, reverse=None):
    """Edges (E, 2) of numbers through all types."""
    first = {kind: sum(SIZES[: TYPES.index(kind)]) for kind in TYPES}[source]
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    starts = np.searchsorted(edges[:, 0] - first, np.arange(rows + 1)).astype(np.int32)
    return Relation(source, name, target, starts, edges[:, 1].astype(np.int32), reverse=reverse)


def a_graph(seed=0, name="papers", ids="{}"):
    """Three communities of authors, papers and venues; two authors and no paper stand alone."""
    random = np.random.default_rng(seed)
    a, p, v = SIZES
    papers = np.arange(p)
    wrote = [(i, a + paper) for paper in papers for i in set(random.integers(0, (a - 2) // 3, 2) * 3 + paper % 3)]
    shown = [(a + paper, a + p + paper % 3 + 3 * int(random.integers(2))) for paper in papers]
    wrote, shown = np.array(wrote), np.array(shown)
    relations = (
        relation("paper", "written_by", "author", wrote[:, ::-1], p),
        relation("author", "rev_written_by", "paper", wrote, a, "written_by"),
        relation("paper", "published_in", "venue", shown, p),
        relation("venue", "rev_published_in", "paper", shown[:, ::-1], v, "published_in"),
    )
    names = {"venue": pa.array([f"Journal {i}" for i in range(v)])}
    own = tuple(pa.array([ids.format(f"{kind[0]}{i}") for i in range(n)]) for kind, n in zip(TYPES, SIZES, strict=True))
    return Graph(name, TYPES, np.cumsum([0, *SIZES]), own, relations, names)


def community(graph):
    """(V,) the community of each node."""
    return np.concatenate([np.arange(n) % 3 for n in SIZES])


def entries_of(graph, counts=None):
    """Each node as often as it has edges, or each row as often as is said."""
    return entries.entries_of(graph, degrees(graph) if counts is None else counts)


def labels_of(graph):
    nodes = np.arange(30)
    return [NodeLabels("author", nodes, ["red", "green", "blue"], np.eye(3, dtype=bool)[community(graph)[:30]], False)]


def trained(graph, dim=16, noise=0.5, seed=0):
    """A method whose vectors lie by community and type, and those of isolated nodes where a table begins."""
    torch.manual_seed(seed)
    method = Skip(len(graph), dim)
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(3, dim))[community(graph)] + 0.7 * random.normal(size=(3, dim))[graph.kinds]
    vectors = vectors + noise * random.normal(size=(len(graph), dim))
    met = torch.from_numpy(entries_of(graph).counts > 0)
    with torch.no_grad():
        method.encoder.weight[met] = torch.from_numpy(vectors).float()[met]
    return method


def some_walks(graph, many=40, length=9, seed=0):
    """Walks author-paper-venue-paper-author by hand."""
    random = np.random.default_rng(seed)
    steps = [graph.relations[i] for i in (1, 2, 3, 0)]
    out = []
    for _ in range(many):
        walk = [int(random.integers(SIZES[0]))]
        while len(walk) < length:
            step = steps[(len(walk) - 1) % 4]
            row = walk[-1] - graph.between(step.source).start
            found = step.targets[step.starts[row] : step.starts[row + 1]]
            if not len(found):
                break
            walk.append(int(random.choice(found)))
        out.append(np.array(walk))
    return tuple(out)


def a_run(views):
    return Run(data=partial(photos, data="papers"), encoder=partial(Table, rows=1), method=partial(Skip), views=views)


def folder_of(folder, run, source, rows, **files):
    """The folder of a run, as far as report and doctor read it."""
    folder.mkdir(parents=True)
    settings = {
        "method": {"call": "twoviews.methods.metapath2vec:metapath2vec", "window": 3},
        "encoder": {"call": "twoviews.encoders.table:table", "dim": 16},
        "optimizer": {"call": "twoviews.optim:sgd", "lr": 0.025},
        "views": {"call": "twoviews.data.walks:walks"},
        "epochs": 4,
        "batch_size": 1024,
        "seed": 0,
    }
    data = {"name": source.name, "items": rows, "rows": rows, "fingerprint": "0"}
    write_json(folder / "run.json", {"run": settings, "data": data, "command": "twoviews train papers"})
    rate = {"items_per_second": 250_000.0, "data_wait": 0.02}
    lines = [{"step": i, "loss": 4.2 - i / 40, "lr": 0.025 * (1 - i / 60), **rate} for i in range(1, 50)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, value in files.items():
        write_json(folder / f"{name}.json", value)
    return folder
