"""Recipes against the figures in their docstrings: minutes each, run by `make learn`."""

import pytest

from twoviews.api import demo, shortfall


@pytest.mark.learn
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_learns_digits(seed, tmp_path):
    result = demo(seed=seed, out=tmp_path / "run", quiet=True)
    assert shortfall(result.table) is None
    assert result.table.rows["ours, h"]["knn"].value > 0.7
    assert result.table.rows["raw pixels"]["knn"].value < 0.3


@pytest.mark.learn
@pytest.mark.parametrize("seed", [0, 1])
def test_the_demo_of_video_learns_which_way_digits_move(seed, tmp_path):
    result = demo("video", seed=seed, out=tmp_path / "run", quiet=True)
    assert shortfall(result.table) is None
    assert result.table.rows["ours, h"]["linear"].value > 0.95
