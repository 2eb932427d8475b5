"""The page of a run on a graph or a text: what it says, that names from data stay text, and that a browser shows it."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from table_runs import (
    Skip,
    Walks,
    a_graph,
    a_run,
    community,
    entries_of,
    folder_of,
    labels_of,
    some_walks,
    trained,
)
from test_report import DRAWN, EVIL, POINT, Read, seen, wide

from twoviews.data.entries import Entries
from twoviews.data.graph import Graph, Relation
from twoviews.data.nodelabels import NodeLabels
from twoviews.data.sentences import sentences
from twoviews.data.text import text
from twoviews.data.walks import walks
from twoviews.doctor.tables import checkup_tables
from twoviews.evaluate import alike
from twoviews.evaluate.nodes import node_table
from twoviews.report.lengths import degrees
from twoviews.report.schema import drawn, metapaths, places, schema
from twoviews.report.shares import asked, part_of
from twoviews.report.tablemap import by_label, chosen, colourings
from twoviews.report.tables import write_table_report
from twoviews.report.walked import walked
from twoviews.types import Tokens

GRAPH = a_graph()
CHOSEN = {
    "paths": ["author-paper-venue-paper-author"],
    "said": "The best of 2 candidates.",
    "tried": [
        {"paths": ["author-paper-author"], "round": 1, "score": {"value": 0.71}, "seconds": 1.0, "fate": "dropped"},
    ],
}


def measured(graph, method):
    """A table of three rows."""
    vectors = method.encoder.weight.detach().numpy()
    random = np.random.default_rng(0)
    noise = random.normal(size=vectors.shape)
    rows = {"untrained": noise, "ProNE": vectors + 2 * noise, "metapath2vec": vectors}
    return node_table(rows, labels_of(graph), fractions=(0.2, 0.5, 0.8), repeats=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    method = trained(GRAPH)
    table = measured(GRAPH, method)
    view = partial(Walks, lines=some_walks(GRAPH))
    checkup = checkup_tables(method, entries_of(GRAPH), GRAPH, views=view(), table=table)
    files = {"checkup": checkup, "evaluation": table.to_json(), "metapaths": CHOSEN}
    folder = folder_of(tmp_path_factory.mktemp("report") / "run", None, GRAPH, len(GRAPH), **files)
    write_table_report(folder, a_run(view), method, GRAPH, entries_of(GRAPH), labels_of(GRAPH))
    return folder


@pytest.fixture
def page(folder):
    return (folder / "index.html").read_text()


def page_of(folder, method=None, graph=GRAPH, entries=None, labels=(), views=walks, **files):
    folder = folder_of(folder, None, graph, len(graph), **files)
    method = trained(graph) if method is None else method
    entries = entries_of(graph) if entries is None else entries
    return write_table_report(folder, a_run(views), method, graph, entries, labels).read_text()


def test_every_section_stands_in_its_place(page):
    read = Read(page)
    order = [
        "metapath2vec on papers",
        "156 nodes of 3 types",
        "By macro-F1 at 20 %",
        "How good is it?",
        "macro-F1 at 20 %",
    ]
    order += ["chance", "untrained", "ProNE", "metapath2vec", "Macro-F1", "Micro-F1", "What is alike", "✓", "The map"]
    order += ["by type", "by label", "author", "paper", "venue", "red", "no or another label", "What the method saw"]
    order += ["8 of 40 walks", "Training", "Directions in use", "each once: effective rank", "as often as it is met"]
    order += ["ended before their 9 nodes", "How long vectors are", "The graph", "written_by", "Each relation can be"]
    order += ["Meta-paths", "author-paper-venue-paper-author", "The best of 2", "71.0 %", "Never met"]
    alone = int((entries_of(GRAPH).counts == 0).sum())
    order += [
        f"{alone} of 156 rows are never met: {alone} of type author",
        "How to do it again",
        "twoviews similar run",
    ]
    at = 0
    for part in order:
        assert part in read.text[at:], part
        at = read.text.index(part, at)
    for tag, given in read.elements:
        if tag == "a":
            assert any(other.get("id") == given["href"][1:] for _, other in read.elements)
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert given.get(name, "data:").startswith(("data:", "#")), (tag, given)
    plots = [given for _, given in read.elements if given.get("class") == "plot"]
    assert len(plots) >= 8
    assert all(len(given["aria-label"]) > 20 for given in plots)
    assert len(page.encode()) < 8e6


def test_names_from_data_are_text(tmp_path):
    graph = a_graph(name=EVIL, ids=f"<b onclick=x>{EVIL}{{}}")
    graph = replace(graph, names={"venue": pa.array([f"<i>{EVIL}"] * 6)})
    labels = [replace(labels_of(graph)[0], classes=[f"<u>{EVIL}{i}" for i in range(3)])]
    run = {"paths": [EVIL], "round": 1, "score": {"value": 0.7}, "seconds": 1.0, "fate": EVIL}
    chosen = {"paths": [EVIL], "said": EVIL, "tried": [run]}
    read = Read(page_of(tmp_path / "run", graph=graph, labels=labels, metapaths=chosen))
    assert not [given for _, given in read.elements if "onclick" in given]
    assert sum(tag == "script" for tag, _ in read.elements) == len(read.scripts)
    assert not [tag for tag, _ in read.elements if tag == "u"]
    assert "<b onclick=x>" in read.text
    assert EVIL in read.text
    for figure in (each for each in read.json() if "data" in each):
        for trace in figure["data"]:
            assert not [text for text in trace.get("text") or () if "<" in text]


def test_a_run_that_was_not_measured_or_has_diverged_still_has_a_page(tmp_path):
    method = trained(GRAPH)
    with torch.no_grad():
        method.encoder.weight.fill_(math.nan)
    read = Read(page_of(tmp_path / "a", method, views=partial(walks, metapaths="auto")))
    assert read.text.count("Not measured.") == 2
    assert read.text.count("the vectors are not finite") == 3
    assert "views.metapaths=auto" in read.text
    assert "What to do with it" in read.text
    nothing = entries_of(GRAPH, np.zeros(len(GRAPH), np.int64))
    assert "Too few rows were met" in Read(page_of(tmp_path / "b", entries=nothing)).text


def test_a_text_has_words_and_sentences(tmp_path):
    random = np.random.default_rng(0)
    corpus = text([[f"word{i}" for i in random.zipf(1.5, 10).clip(1, 40)] for _ in range(90)], least=1)
    rows = len(corpus)
    entries = entries_of(corpus, corpus.counts())
    method = Skip(rows)
    with torch.no_grad():
        method.encoder.weight.copy_(torch.from_numpy(random.normal(size=(rows, 16))))
    checkup = checkup_tables(method, entries, corpus, views=sentences())
    folder = folder_of(tmp_path / "run", None, corpus, rows, checkup=checkup)
    read = Read(write_table_report(folder, a_run(partial(sentences, sample=0.0)), method, corpus, entries).read_text())
    for part in (f"{rows} words, 900 tokens", "8 of 90 pieces of text", "to 20 %", "Sentences", "The text", "lines 90"):
        assert part in read.text, part
    assert "by type" not in read.text
    assert "Every row was met" in read.text
    assert "What to do with it" in read.text


# Parts


def test_the_nearest_are_those_of_brute_force(monkeypatch):
    random = np.random.default_rng(0)
    weight = torch.from_numpy(random.normal(size=(300, 8))).float()
    known = np.sort(random.permutation(300)[:200])
    queries = known[[0, 50, 199]]
    unit = weight.double() / weight.double().norm(dim=1, keepdim=True)
    for block in (64, 10_000):
        monkeypatch.setattr(alike, "BLOCK", block)
        scores, found = alike.others(weight, queries, np.zeros(3, int), {0: torch.from_numpy(known)}, 10)
        for row, near, cosines in zip(queries, found.tolist(), scores.tolist(), strict=True):
            score = (unit[known] @ unit[row]).numpy()
            order = [i for i in known[np.argsort(-score)].tolist() if i != row][:10]
            assert near == order
            assert cosines == pytest.approx(sorted(score[known != row], reverse=True)[:10], abs=1e-6)


def test_the_map_holds_of_each_type_alike():
    entries = entries_of(GRAPH)
    rows = chosen(entries, (), 0)
    assert np.array_equal(rows, np.flatnonzero(entries.counts))
    many = Entries(("a", "b"), np.repeat([0, 1], [5000, 100]).astype(np.uint8), None, np.arange(5100)[::-1] + 1)
    labels = [NodeLabels("a", np.arange(4000, 4600), ["x"], np.ones((600, 1), bool), False)]
    rows = chosen(many, labels, 0)
    assert len(rows) == len(np.unique(rows)) == 2000
    assert np.bincount(many.kinds[rows]).tolist() == [1900, 100]
    assert set(range(634)) <= set(rows.tolist())  # the most frequent third
    assert set(range(4000, 4600)) <= set(rows.tolist())  # those with a label before those without


def test_colours_are_of_labels_that_are_known():
    rows = np.array([2, 5, 7, 9, 11])
    matrix = np.array([[1, 0], [0, 1], [1, 1], [0, 1]], bool)
    way = by_label(rows, [NodeLabels("a", np.array([5, 3, 7, 11]), ["x", "y"], matrix, True)])
    assert [way.names[g] for g in way.of] == [
        "no or another label",
        "x",
        "no or another label",
        "no or another label",
        "y",
    ]
    assert way.rest
    entries = entries_of(GRAPH)
    ways = colourings(np.arange(len(GRAPH)), entries, labels_of(GRAPH))
    assert [way.by for way in ways] == ["type", "label"]
    assert np.array_equal(ways[0].of, GRAPH.kinds)
    named = np.array(ways[1].names, object)[ways[1].of]
    assert named[:30].tolist() == [["red", "green", "blue"][c] for c in community(GRAPH)[:30]]
    assert set(named[30:]) == {"no or another label"}
    (often,) = colourings(np.arange(3), Entries(None, None, None, np.array([9, 5, 1])), ())
    assert often.names == ["to 20 %", "to half", "the rest"]


def test_degrees_count_both_directions():
    found = degrees(GRAPH)
    a, p = 60, 90
    wrote = GRAPH.relations[0]
    assert found[:a].sum() == len(wrote)
    assert found[a : a + p].sum() == len(wrote) + len(GRAPH.relations[2])
    assert found[a + p :].sum() == len(GRAPH.relations[2])


def test_the_schema_stands_inside_its_drawing():
    given = [relation for relation in GRAPH.relations if not relation.reverse]
    at, height = places(GRAPH, given)
    assert at["author"][0] < at["paper"][0] < at["venue"][0]  # what joins the others is in the middle
    svg = drawn(GRAPH, given)
    for part in ("author", "paper", "venue", "written_by 1", "published_in 90", ">90<", "marker-end"):
        assert part in svg
    types = tuple(f"t{i}" for i in range(7))
    loop = replace(given[0], source="t0", target="t0", name="cites")
    cross = replace(given[0], source="t1", target="t2", name="x")
    ring = Graph("g", types, np.arange(8), (), (loop, cross))
    at, height = places(ring, ring.relations)
    assert len(set(at.values())) == 7
    assert all(50 < x < 700 and 50 < y < height - 50 for x, y in at.values())
    assert "cites" in drawn(ring, ring.relations)
    alone = Graph("g", ("t0",), np.array([0, 4]), (), (loop,))
    assert "C" in drawn(alone, alone.relations)


def test_an_edge_that_has_no_direction_counts_once():
    pairs = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
    plain = Graph(
        "g",
        ("t",),
        np.array([0, 3]),
        (),
        (Relation("t", "e", "t", np.array([0, 1, 3, 4], np.int32), pairs[1].astype(np.int32), directed=False),),
    )
    html = schema(plain)
    assert "2 edges" in html
    assert "e 2</text>" in html
    assert "<td>2</td>" in html


def test_meta_paths_are_said_with_their_story():
    assert "any edge" in metapaths(None, [""])
    assert "a-b-a" in metapaths(None, ["a-b-a"])
    assert "best of 2" in metapaths(CHOSEN, ["auto"])
    assert "auto" not in metapaths(CHOSEN, ["auto"])
    learned = metapaths({"chosen": ["a -to-> b"], "lines": ["channel 1: 71% a -to-> b"], "channels": []}, [""])
    assert "channel 1: 71% a -to-&gt; b" in learned
    assert "any edge" not in learned


def test_a_walk_shows_what_stands_near():
    block = Tokens(np.array([0, 60, 150, 61, 1, 0, 60], np.int32), np.array([0, 5, 6, 7]))
    html, lead = walked(block, entries_of(GRAPH), 1, 0)
    assert html.count("<li>") == 1  # the others have one token
    assert "<b><i" in html
    assert html.index("p0") < html.index("<b>") < html.index("Journal 0") < html.index("p1")
    assert html.count("class=near") == 2
    assert "3 walks" in lead
    lonely = Tokens(np.arange(3, dtype=np.int32), np.arange(4))
    assert "nothing to learn" in walked(lonely, entries_of(GRAPH), 1, 0)[0]


def test_measures_have_a_table_for_each_thing_that_was_asked():
    def row(value):
        cell = {"low": value - 0.1, "high": value + 0.1, "n": 9}
        curve = {"fractions": [0.1, 0.9], "macro": [value, 0.5], "micro": [0.4, 0.6]}
        return {
            "author, macro-F1 at 20 %": {"value": value, **cell, "detail": {"values": [0.1, 0.2], "curve": curve}},
            "author, NMI": {"value": value, "low": value, "high": value, "n": 9, "detail": {}},
            "venue, NMI": {"value": value, "low": value, "high": value, "n": 9, "detail": {}},
            "link AUC, uniform": {"value": value, **cell, "detail": {}},
        }

    told = asked({"rows": {"untrained": row(0.2), "ours": row(0.7)}, "ours": "ours", "notes": [EVIL]})
    text = Read(told).text
    for title in ("Labels of author", "Labels of venue", "Held-out links"):
        assert text.count(title) == 1
    assert "70.0 %" in text
    assert "± 10.0" in text
    assert "[60.0, 80.0]" in text
    assert told.count('class="plot"') == 2
    assert told.count('<tr class="ours">') == 3
    assert EVIL not in told
    assert part_of("wordsim353, rho") == part_of("analogies") == ""
    rho = {"value": 0.62, "low": 0.5, "high": 0.7, "n": 340, "detail": {"of": 353}}
    solved = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 99, "detail": {"sections": {"gram1": {"value": 0.25}}}}
    words = Read(asked({"rows": {"us": {"wordsim353, rho": rho, "analogies": solved}}, "ours": "us"})).text
    for part in ("0.620", "[0.500, 0.700]", "40.0 %", "gram1", "25.0 %"):
        assert part in words


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_it(tab, folder, page, width, dark):
    path = folder / "index.html"
    tab.open(path, width, 800, dark=dark, touch=width < 500)
    assert min(tab.run(DRAWN)) >= 1
    assert not wide(tab)
    told = next(each for each in Read(page).json() if "keys" in each)
    x, y = tab.run(POINT.replace("ITEM", "3"))
    tab.tap(x, y) if width < 500 else tab.point(x, y)
    tip = seen(tab, "false")
    assert (tip["name"], tip["key"]) in list(zip(told["names"], told["keys"], strict=True))
    left, right, top, bottom = tip["box"]
    assert 0 <= left < right <= width
    shown = "document.getElementById('atlas').figure.data.map(t => t.visible)"
    legends = "[...document.querySelectorAll('.legend')].map(l => l.offsetHeight > 0)"
    assert tab.run(shown) == [True] * 3 + [False] * 4
    tab.run("document.querySelectorAll('.choose button')[1].click()")
    assert tab.run(shown) == [False] * 3 + [True] * 4
    assert tab.run(legends) == [False, True]
    alone = "document.querySelectorAll('.legend button')[4].dispatchEvent(new Event('dblclick'))"
    tab.run(alone)
    assert tab.run(shown) == [False] * 4 + [True] + [False] * 2
    tab.run(alone)
    assert tab.run(shown) == [False] * 3 + [True] * 4
    assert not tab.complaints
    assert set(tab.requests) == {path.resolve().as_uri()}
