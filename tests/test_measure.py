"""The table: its rows, its figures, what it says in a sentence, and how it is made from an encoder."""

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from twoviews.data.dice import Dice
from twoviews.data.image import photos
from twoviews.data.views import center, two_crops
from twoviews.errors import BrokenItem, DataError, UserError
from twoviews.evaluate import PROBES
from twoviews.evaluate.embed import model, raw_pixels
from twoviews.evaluate.knn import knn
from twoviews.evaluate.linear import linear
from twoviews.evaluate.measure import evaluate, measure
from twoviews.evaluate.retrieval import retrieval, retrieval_table
from twoviews.evaluate.score import score
from twoviews.evaluate.table import CHANCE, RAW, UNTRAINED, H, Table, Z
from twoviews.types import Features

SIDE = 16
VIEW = center(SIDE)


class Stripes:
    """Noisy photos told apart by the direction of faint stripes: 0 across, 1 down. A few cannot be read."""

    name, classes = "stripes", ["across", "down"]

    def __init__(self, items=200, seed=0, labels=True, broken=()):
        self.items, self.seed, self.broken = items, seed, set(broken)
        self.labels = np.arange(items) % 3 % 2 if labels else None  # two thirds across

    def __len__(self):
        return self.items

    def key(self, index):
        return f"{self.seed}/{index}.png"

    def read(self, index):
        if index in self.broken:
            raise BrokenItem("cut short")
        g = torch.Generator().manual_seed(10_000 * self.seed + index)
        image = 60 * torch.randn(3, SIDE, SIDE, generator=g) + 128
        stripes = 25 * torch.randn(SIDE, generator=g).sign()  # never the same twice, so raw pixels do badly
        image += stripes if index % 3 % 2 else stripes[:, None]
        return image.clamp(0, 255).byte()


class Direction(nn.Module):
    """Knows what to look for: how much neighbours across and down are alike."""

    dim = 2

    def forward(self, x):
        across, down = (x[..., 1:] * x[..., :-1]).mean((1, 2, 3)), (x[..., 1:, :] * x[..., :-1, :]).mean((1, 2, 3))
        return torch.stack([across, down], 1)


class Fresh(nn.Module):
    dim = 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * SIDE * SIDE, 2)

    def forward(self, x):
        return self.layer(x.flatten(1))


def halved(h):
    """A projection that keeps one of the two numbers and a constant."""
    return torch.stack([h[:, 0], torch.ones(len(h))], 1)


@pytest.fixture(scope="module")
def table():
    return evaluate(Direction(), Fresh(), halved, Stripes(90), Stripes(200, seed=1), VIEW)


def test_the_table_always_holds_chance_and_both_baselines(table):
    assert list(table.rows) == [CHANCE, RAW, UNTRAINED, H, Z]
    assert table.probes == ["knn", "linear"]
    assert table.probes == list(PROBES)
    assert all(list(scores) == table.probes for scores in table.rows.values())
    assert all(s.n == 200 and s.low <= s.value <= s.high for row in table.rows.values() for s in row.values())


def test_chance_is_the_share_of_the_largest_class_of_the_test_set(table):
    across = np.mean(Stripes(200).labels == 0)
    assert across == pytest.approx(2 / 3, abs=0.01)
    assert all(s.value == across for s in table.rows[CHANCE].values())
    assert "largest class among the 200 labelled test items" in table.notes[0]


def test_figures_are_those_of_the_probes_on_the_features(table):
    def by_hand(run, source, which):
        outputs = [run(VIEW(source.read(i)[None], torch.tensor([[SIDE, SIDE]]))[0]) for i in range(len(source))]
        h = torch.cat([out[which] for out in outputs])
        return Features(h, [source.key(i) for i in range(len(source))], torch.from_numpy(source.labels))

    runs = {RAW: (raw_pixels, 0), UNTRAINED: (model(Fresh()), 0), H: (model(Direction(), halved), 0)}
    runs[Z] = (runs[H][0], 1)
    for row, (run, which) in runs.items():
        pair = by_hand(run, Stripes(90), which), by_hand(run, Stripes(200, seed=1), which)
        assert table.rows[row]["knn"].value == pytest.approx(knn(*pair).value, abs=0.011), row
        assert table.rows[row]["linear"].value == pytest.approx(linear(*pair).value, abs=0.011), row
    assert table.rows[H]["knn"].value > 0.95
    assert table.rows[RAW]["knn"].value < 0.8


def test_verdict_says_by_how_much_it_has_learned(table):
    h, raw, fresh = (table.rows[row]["knn"].value for row in (H, RAW, UNTRAINED))
    assert table.verdict == (
        f"By knn, h is better than raw pixels by {100 * (h - raw):.0f} points and than the untrained encoder by "
        f"{100 * (h - fresh):.0f}: it has learned."
    )


def test_an_encoder_that_learned_nothing_is_told_so():
    table = evaluate(Fresh(), Fresh(), None, Stripes(90), Stripes(200, seed=1), VIEW)
    assert Z not in table.rows
    assert table.rows[H] == table.rows[UNTRAINED]
    assert "is not clearly better than raw pixels (" in table.verdict
    assert " nor than the untrained encoder (" in table.verdict
    assert table.verdict.endswith("on 200 test items: train longer, on more items or with other views.")


def shares(**rows):
    """A table of knn shares of n test items."""
    names = {"chance": CHANCE, "raw": RAW, "fresh": UNTRAINED, "h": H}
    return Table("", {names[row]: {"knn": score(*right)} for row, right in rows.items()})


def test_verdict_asks_for_a_margin_beyond_the_error_of_the_test_set():
    assert "it has learned" in shares(raw=(300, 1000), fresh=(200, 1000), h=(400, 1000)).verdict
    assert "not clearly better than raw pixels (30.0 %) on 10" in shares(raw=(3, 10), fresh=(0, 10), h=(6, 10)).verdict
    assert "than the untrained encoder (50.0 %)" in shares(raw=(30, 100), fresh=(50, 100), h=(48, 100)).verdict
    assert shares(h=(40, 100)).verdict == ""  # nothing to compare with
    assert shares(raw=(40, 100), fresh=(30, 100)).verdict == ""


def test_the_table_as_text_markdown_and_json(table):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table.rich())
    text, markdown, value = console.export_text(), table.markdown(), json.loads(json.dumps(table.to_json()))
    for row, scores in table.rows.items():
        for probe, s in scores.items():
            cell = f"{100 * s.value:.1f} % [{100 * s.low:.1f}, {100 * s.high:.1f}]"
            assert table.cells()[row][probe] == cell
            assert any(row in line and cell in line for line in text.splitlines())
            assert any(line.startswith(f"| {row} |") and cell in line for line in markdown.splitlines())
            assert value["rows"][row][probe]["value"] == s.value
    assert table.verdict in markdown
    assert value["verdict"] == table.verdict
    assert value["rows"][H]["linear"]["detail"]["strength"] > 0
    assert all(note in markdown for note in table.notes)


def test_without_a_test_set_items_are_held_out_once_for_all_rows():
    table = evaluate(Direction(), Fresh(), None, Stripes(200), None, VIEW, share=0.25)
    assert all(s.n == 50 for row in table.rows.values() for s in row.values())
    assert table.rows[H]["knn"].detail["train"] == 150
    assert table.rows[H]["knn"].value > 0.9
    assert "25% of the items, kept from the probes but not from the encoder" in table.notes[0]


def test_a_set_is_never_tested_on_itself():
    source = Stripes(100)
    assert evaluate(Direction(), Fresh(), None, source, source, VIEW).rows[RAW]["knn"].n == 20


def test_progress_and_skipped_cover_train_and_test():
    skipped, steps = {}, []
    evaluate(
        Direction(),
        Fresh(),
        None,
        Stripes(90, broken=[4]),
        Stripes(60, seed=1, broken=[0, 1]),
        VIEW,
        batch_size=30,
        skipped=skipped,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(30, 150), (60, 150), (90, 150), (120, 150), (150, 150)]
    assert skipped == dict.fromkeys(["0/4.png", "1/0.png", "1/1.png"], "cut short")


def test_settings_reach_their_probe():
    how = {"probes": ["knn"], "settings": {"knn": {"k": 3, "temperature": 0.5}}}
    table = evaluate(Direction(), Fresh(), None, Stripes(60), None, VIEW, **how)
    assert table.probes == ["knn"]
    assert table.rows[H]["knn"].detail == {"k": 3, "temperature": 0.5, "train": 48}
    with pytest.raises(UserError, match="cannot vote among 48"):
        evaluate(Direction(), Fresh(), None, Stripes(60), None, VIEW, settings={"knn": {"k": 49}})


def some(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Features(torch.randn(n, 3, generator=g), [f"{seed}/{i}" for i in range(n)], torch.arange(n) % 2)


def test_an_unknown_probe_is_named():
    pair = {"a": (some(40), some(40, 1))}
    with pytest.raises(UserError, match="unknown probe 'liner', did you mean 'linear'"):
        measure(pair, probes=["liner"])
    with pytest.raises(UserError, match="unknown probe 'kmn', did you mean 'knn'"):
        measure(pair, settings={"kmn": {}})


def test_rows_of_other_items_are_refused():
    with pytest.raises(UserError, match="the row 'b' is of other items than the first"):
        measure({"a": (some(40), some(40, 1)), "b": (some(40), some(40, 2))})


def test_unlabelled_test_items_are_not_in_chance():
    train, test = some(40), some(40, 1)
    test.labels[:30] = -1
    table = measure({"a": (train, test)}, probes=["knn"])
    assert (table.rows[CHANCE]["knn"].value, table.rows[CHANCE]["knn"].n) == (0.5, 10)


PAIR = two_crops(SIDE, scale=(0.6, 1.0), blur=0.0)


@pytest.mark.parametrize("labels", [None, np.zeros(60, np.int64), np.arange(60), np.full(60, -1)])
def test_without_two_classes_the_table_is_of_retrieval(labels):
    source = Stripes(60)
    source.labels = labels
    table = evaluate(Direction(), Fresh(), halved, source, None, VIEW, pair=PAIR, batch_size=16)
    assert list(table.rows) == [CHANCE, RAW, UNTRAINED, H, Z]
    assert table.probes == ["retrieval"]
    chance = table.rows[CHANCE]["retrieval"]
    assert (chance.value, chance.n) == (1 / 60, 60)
    assert table.verdict.startswith("By retrieval, h")
    with pytest.raises(UserError, match="stripes has no two labelled classes .* give labels, or pair"):
        evaluate(Direction(), Fresh(), None, source, None, VIEW)


def test_retrieval_rows_are_those_of_the_views_of_each_item():
    source = Stripes(40, labels=False, broken=[7])
    steps, skipped = [], {}
    table = retrieval_table(
        {RAW: raw_pixels},
        source,
        PAIR,
        seed=3,
        batch_size=16,
        skipped=skipped,
        progress=lambda *at: steps.append(at),
    )
    kept = [i for i in range(40) if i != 7]
    images = torch.stack([source.read(i) for i in kept])
    a, b = PAIR(images, torch.full((39, 2), SIDE), Dice(3, 0, torch.tensor(kept)))
    expected = retrieval(a.flatten(1), b.flatten(1))
    assert table.rows[RAW]["retrieval"] == expected
    assert 0.1 < expected.value < 1
    assert skipped == {"0/7.png": "cut short"}
    assert steps == [(16, 40), (32, 40), (40, 40)]


def test_retrieval_takes_at_most_two_thousand_items():
    class Many(Stripes):
        def read(self, index):
            return torch.full((1, 4, 4), index % 251, dtype=torch.uint8)

    table = retrieval_table({RAW: raw_pixels}, Many(2500, labels=False), lambda x, *_: [x.float(), x.float()])
    assert table.rows[RAW]["retrieval"].n == 2000


def test_nothing_readable_is_an_error():
    for labels in (True, False):
        source = Stripes(10, labels=labels, broken=range(10))
        with pytest.raises(DataError, match="none of the 10 items of stripes could be read"):
            evaluate(Direction(), Fresh(), None, source, None, VIEW, pair=PAIR)


def test_real_photos(cifar):
    """Raw pixels of CIFAR-10 reach about a third: a baseline that a random one (chance .1) would hide."""
    train, test = (photos(str(cifar), split=split) for split in ("train", "test"))
    train, test = train.subset(np.arange(0, 50_000, 25)), test.subset(np.arange(0, 10_000, 10))
    table = evaluate(Fresh(), Fresh(), None, train, test, VIEW)
    assert table.rows[CHANCE]["knn"].value == 0.1
    assert 0.2 < table.rows[RAW]["knn"].value < 0.4
    assert 0.2 < table.rows[RAW]["linear"].value < 0.4
