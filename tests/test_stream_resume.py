"""A streamed run that was interrupted equals one that was not, bit for bit; processes share its order, few or many."""

import json
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import STOP, stopping
from test_dist import launch
from test_shards import N, png, tables, tar, tars, write

from twoviews import Run, dist, fit, photos
from twoviews.data import image, stream
from twoviews.data.loader import Loader
from twoviews.data.views import center, two_crops
from twoviews.encoders.small import small
from twoviews.errors import UserError
from twoviews.evaluate import split
from twoviews.methods import MoCo
from twoviews.train import Interrupted


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_streamed_run_that_was_stopped_equals_one_that_was_not(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("TWOVIEWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image, "STREAMED", 100)
    monkeypatch.setattr(stream, "WINDOW", 3000)  # two or three windows a lane
    data = write(tmp_path / "shards", tars([30, 9, 41]) if kind == "tar" else tables([30, 9, 41]))
    run = Run(
        data=partial(photos, data=str(data)),
        views=partial(stopping, size=8),
        test_view=partial(center, size=8),
        encoder=partial(small, width=4),
        method=partial(MoCo, dim=4, hidden=8, queue=16),
        batchnorm=2,
        batch_size=8,
        epochs=2,
        memory=False,
        workers=1,
    )
    whole = fit(run, tmp_path / "whole", quiet=True)
    for after in (4, 9):  # in the first epoch and in the second
        STOP["after"] = after
        with pytest.raises(Interrupted):
            fit(run, tmp_path / "parts", quiet=True)
    STOP["after"] = None
    parts = fit(run, tmp_path / "parts", quiet=True)
    a, b = (result.method.state_dict() for result in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert whole.table.to_json() == parts.table.to_json()


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def seen(rank, world, folder, data):
    """The ids of each micro-batch: all, and those from step 2 on with one worker."""
    source = photos(data)
    loader, again = (Loader(source, two_crops(size=8), 8, seed=3, memory=False, workers=w) for w in (0, 1))
    assert (dist.rank(), dist.world()) == (rank, world)
    return [[b.ids for b in loader.epoch(1)], [b.ids for b in again.epoch(1, start=2)]]


def test_processes_share_one_order_and_may_go_on_as_fewer(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOVIEWS_CACHE", str(tmp_path / "cache"))
    data = write(tmp_path / "shards", tars())
    (alone, late) = seen(0, 1, None, data)
    assert sorted(torch.cat(alone).tolist()) == list(range(N))
    ranks = launch(2, seen, tmp_path, str(data))
    for part, want in ((0, alone), (1, late)):
        both = [torch.cat(pair) for pair in zip(*(rank[part] for rank in ranks), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(both, want, strict=True))
    assert {len(ids) for rank in ranks for ids in rank[0]} == {4}  # as many on each


def torn(counts, every):
    """Shards in which every so many photos are broken."""
    files, number = {}, 0
    for shard, count in enumerate(counts):
        names = range(number, number := number + count)
        files[f"{shard:05}.tar"] = tar([(f"{n:06}.png", b"" if n % every == 0 else png(n)) for n in names])
    return files


def skipping(rank, world, folder, data, out):
    """A run of one epoch that measures by ten of its photos."""
    split.LEARNED = 10
    run = Run(
        data=partial(photos, data=data, channels=3),
        views=partial(stopping, size=8),
        test_view=partial(center, size=8),
        encoder=partial(small, width=2),
        method=partial(MoCo, dim=4, hidden=8, queue=16),
        batch_size=8,
        epochs=1,
        memory=False,
        workers=1,
    )
    with suppress(Interrupted):
        fit(run, out, quiet=True)
    return (Path(out) / "skipped.csv").read_text().splitlines()[1:]


def test_what_a_rank_could_not_read_is_listed_though_it_stops(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOVIEWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(split, "LEARNED", 10)
    data = str(write(tmp_path / "shards", torn([30, 9, 41], 7)))
    whole = skipping(0, 1, None, data, tmp_path / "whole")
    STOP["after"] = 6
    some = skipping(0, 1, None, data, tmp_path / "parts")
    STOP["after"] = None
    assert some
    assert skipping(0, 1, None, data, tmp_path / "parts") == whole
    assert launch(2, skipping, tmp_path, data, str(tmp_path / "ranks"))[0] == whole


def strange(rank, world, folder, data):
    """What is said where each rank has data of its own."""
    run = Run(data=partial(photos, data=f"{data}{rank}"), encoder=small, method=MoCo, batch_size=8, memory=False)
    with pytest.raises(UserError) as error:
        fit(run, f"{folder}/run", quiet=True)
    return str(error.value)


def test_ranks_with_other_data_are_told_and_do_not_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOVIEWS_CACHE", str(tmp_path / "cache"))
    for rank, counts in enumerate(([30, 9], [30, 8])):
        write(tmp_path / f"shards{rank}", tars(counts))
    said = launch(2, strange, tmp_path, str(tmp_path / "shards"))
    assert said[0] == said[1]
    assert said[0].startswith("process 1 sees other data (34 items) than process 0 (35 items): give")
    assert not (tmp_path / "run").exists()
