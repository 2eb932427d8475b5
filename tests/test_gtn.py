"""Graph Transformer Networks: both forms against dense float64, gradients, and a path that must be found."""

import json
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file

from twoviews import fit
from twoviews.data.graphs import graph
from twoviews.data.schema import parse
from twoviews.encoders.relational import Relational
from twoviews.errors import UserError
from twoviews.fit_gtn import GTNTask
from twoviews.methods.gtn import GTN, readable
from twoviews.optim import adamw, constant
from twoviews.run import Run
from twoviews.types import Batch


def matrix(rows, columns, nodes, weights=None):
    weights = np.ones(len(rows)) if weights is None else weights
    return sp.csr_matrix((weights, (rows, columns)), shape=(nodes, nodes))


def small():
    """Seven nodes; the third relation leads nowhere from most, node 6 is isolated."""
    random = np.random.default_rng(0)
    return [
        matrix([0, 0, 1, 2, 2], [3, 4, 4, 3, 5], 7, random.uniform(0.5, 2, 5)),
        matrix([3, 4, 4, 5, 5], [0, 0, 1, 2, 1], 7),
        matrix([1], [2], 7),
    ]


def encoder(multiply=False, features=None, seed=0, **settings):
    torch.manual_seed(seed)
    known = {"dim": 3, "paths": 2, "length": 3} | settings
    made = Relational(7, 3, 0 if features is None else features.shape[1], multiply=multiply, **known)
    with torch.no_grad():
        made.choice.normal_(std=0.1)
    return made.double().connect(small(), features)


def dense(made, features=None):
    """h of all nodes as the first paper writes it: products of adjacency matrices, each normalised."""
    relations = [torch.eye(7, dtype=torch.float64)]
    for one in small():
        one = torch.from_numpy(one.toarray())
        relations.append(one / one.sum(1, keepdim=True).clamp(min=1e-300))
    often = np.sqrt(np.array([2, 2, 2, 2, 2, 1, 0]))  # edges that lead to each node
    if features is None:
        x = made.weight * torch.from_numpy(often / often.mean())[:, None]
    else:
        x = torch.from_numpy(features) @ made.weight
    out = []
    for path in (10 * made.choice).softmax(2):
        q = [sum(w * a for w, a in zip(step, relations, strict=True)) for step in path]
        a = q[0]
        for step in q[1:]:
            a = a @ step
            a = a / a.sum(1, keepdim=True).clamp(min=1e-300)
        a = a / a.sum(1, keepdim=True).clamp(min=1e-300) + torch.eye(7, dtype=torch.float64)
        out.append((a / a.sum(1, keepdim=True) @ x).relu())
    return torch.cat(out, 1)


@pytest.mark.parametrize("multiply", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("length", [1, 3])
def test_both_forms_are_the_dense_one(multiply, given, length):
    features = np.random.default_rng(1).normal(size=(7, 4)) if given else None
    made = encoder(multiply, features, length=length).eval()
    torch.testing.assert_close(made(torch.arange(7)), dense(made, features), rtol=1e-12, atol=1e-13)
    factor = torch.randn(7, 6, dtype=torch.float64)
    ours = torch.autograd.grad((made(torch.arange(7)) * factor).sum(), list(made.parameters()))
    theirs = torch.autograd.grad((dense(made, features) * factor).sum(), list(made.parameters()))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def planted(seed=0, papers=240, authors=120, classes=3):
    """Papers, authors, venues and terms: the class of an author is readable along author-paper-venue alone.

    A venue is of one class. Papers get terms at random, so author-paper-term says nothing; co-authors are drawn at
    random too. Returns relations, matrices and labels of the authors, who come first.
    """
    random = np.random.default_rng(seed)
    venues, terms = 12, 30
    v = authors + papers + venues + terms
    paper = authors + np.arange(papers)
    label = random.integers(classes, size=authors)
    writer = random.integers(authors, size=papers)
    writer[:authors] = np.arange(authors)
    place = authors + papers + label[writer] + classes * random.integers(venues // classes, size=papers)
    words = np.repeat(paper, 3), authors + papers + venues + random.integers(terms, size=3 * papers)
    friends = random.integers(authors, size=(2, 300))
    pairs = {
        ("author", "writes", "paper"): (writer, paper),
        ("paper", "in", "venue"): (paper, place),
        ("paper", "has", "term"): words,
        ("author", "knows", "author"): friends,
    }
    pairs |= {(t, f"rev_{name}", s): (b, a) for (s, name, t), (a, b) in pairs.items()}
    relations = [SimpleNamespace(source=s, name=name, target=t) for s, name, t in pairs]
    return relations, [matrix(a, b, v) for a, b in pairs.values()], torch.from_numpy(label)


def learned(matrices, labels, train, steps=80, **settings):
    torch.manual_seed(0)
    known = {"dim": 16, "paths": 1, "length": 2} | settings
    made = Relational(matrices[0].shape[0], len(matrices), **known).connect(matrices)
    method = GTN(made, int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(method.parameters(), 0.02, weight_decay=0.01)
    batch = Batch([train], train, labels[train])
    for _ in range(steps):
        optimizer.zero_grad()
        method(batch).loss.backward()
        optimizer.step()
    method.eval()
    with torch.no_grad():
        guess = method.project(made(torch.arange(len(labels)))).argmax(1)
    rest = np.setdiff1d(np.arange(len(labels)), train)
    return method, (guess == labels)[rest].double().mean().item()


def test_the_path_that_tells_the_classes_is_found():
    relations, matrices, labels = planted()
    train = torch.arange(40)
    method, right = learned(matrices, labels, train)
    assert right > 0.95
    path, weight = readable(method, relations, "author")[0][0]
    assert path == "author -writes-> paper -in-> venue"
    assert weight > 0.9
    for k in range(4):  # a relation alone, with its reverse, says next to nothing
        assert learned([matrices[k], matrices[k + 4]], labels, train)[1] < 0.6


def test_readable_weights_are_products_over_paths_that_chain():
    relations, matrices, _ = planted()
    method = GTN(Relational(402, 8, dim=4, paths=2, length=3).connect(matrices), 3)
    with torch.no_grad():
        method.encoder.choice.normal_(std=0.1)
    for steps, found in zip(method.encoder.weights().tolist(), readable(method, relations, "paper"), strict=True):
        expected = {}
        for a, b, c in np.ndindex(9, 9, 9):
            taken = [relations[k - 1] for k in (a, b, c) if k]
            chained = all(x.target == y.source for x, y in zip(taken, taken[1:], strict=False))
            if chained and (not taken or taken[0].source == "paper"):
                names = tuple(r.name for r in taken)
                expected[names] = expected.get(names, 0) + steps[0][a] * steps[1][b] * steps[2][c]
        ours = {tuple(part.split("-> ")[0] for part in path.split(" -")[1:]): weight for path, weight in found}
        ours = {tuple(name.split("->")[0] for name in names): weight for names, weight in ours.items()}
        total = sum(expected.values())
        assert ours == pytest.approx({names: weight / total for names, weight in expected.items()})
        assert [w for _, w in found] == sorted((w for _, w in found), reverse=True)


def test_nodes_with_labels_are_not_learned_by_heart():
    """While training, a node that is asked for has no vector of its own to be known by; afterwards it has."""
    made = encoder()
    asked = torch.tensor([0, 3])
    made(asked).sum().backward()
    assert not made.weight.grad[asked].any()
    with torch.no_grad():
        assert not torch.equal(made(asked), made.eval()(asked))


def test_the_state_holds_no_edges():
    made = encoder()
    assert set(made.state_dict()) == {"choice", "weight"}
    again = Relational(7, 3, dim=3).double()
    again.load_state_dict(made.state_dict())
    again.connect(small())
    assert torch.equal(made.eval()(torch.arange(7)), again.eval()(torch.arange(7)))


def test_vectors_of_paths_side_by_side():
    made = encoder().eval()
    assert made.dim == 6
    assert torch.equal(made.tokens(torch.tensor([2, 0])).flatten(1), made(torch.tensor([2, 0])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Relational(7, 3, dim=0), "at least 1"),
        (lambda: Relational(7, 3)(torch.arange(7)), "no edges yet"),
        (lambda: Relational(7, 2).connect(small()), "2 of \\(7, 7\\)"),
        (lambda: Relational(7, 3, features=4).connect(small(), np.zeros((7, 5))), "4 features"),
        (lambda: Relational(7, 3, features=4).connect(small()), "4 features"),
        (lambda: Relational(7, 3).connect(small(), np.zeros((7, 5))), "0 features"),
        (lambda: GTN(encoder(), 2)(Batch([torch.arange(3)], torch.arange(3))), "needs labels"),
    ],
)
def test_what_does_not_fit(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the planted graph, read from files."""
    folder = tmp_path_factory.mktemp("planted")
    relations, matrices, labels = planted()
    for relation, one in zip(relations[:4], matrices, strict=False):
        pairs = np.stack(one.nonzero(), 1)
        name = f"edges.{relation.source}.{relation.name}.{relation.target}.tsv"
        np.savetxt(folder / name, pairs, "%d", "\t")
    np.savetxt(folder / "labels.author.tsv", np.stack([np.arange(len(labels)), labels], 1), "%d", "\t")
    return Run(
        data=partial(graph, str(folder)),
        encoder=partial(Relational, dim=8, paths=1, length=2),
        method=GTN,
        optimizer=partial(adamw, lr=0.02, weight_decay=0.01),
        schedule=constant,
        epochs=60,
        watch=5,
        holdout=0.6,
    )


def test_a_run_leaves_measures_paths_and_vectors(run, tmp_path, monkeypatch):
    rows = {}
    monkeypatch.setattr(sys.modules["twoviews.fit"], "open_task", lambda run: GTNTask(run, run.data(), rows=rows))
    rows["noise"] = np.random.default_rng(0).normal(size=(402, 8)).astype(np.float32)
    done = fit(run, tmp_path / "run", quiet=True)
    table = done.table.rows
    assert table["GTN"]["macro-F1"].value > 0.95
    assert max(table[who]["macro-F1"].value for who in ("chance", "untrained", "noise")) < 0.6
    assert "by more than the error" in done.table.verdict
    assert done.table.rows["GTN"]["macro-F1"].n == 72
    found = json.loads((tmp_path / "run" / "metapaths.json").read_text())
    assert found["chosen"] == ["author -writes-> paper -in-> venue"]
    assert str(parse(run.data(), found["chosen"][0])) == found["chosen"][0]  # a walk can be sent along it
    vectors = load_file(tmp_path / "run" / "encoder.safetensors")["weight"]
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert vectors.shape == (402, 8)
    assert best["macro"] > 0.95
    assert best["epoch"] % 5 == 0
    assert (tmp_path / "run" / "index.html").exists()
