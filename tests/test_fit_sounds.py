"""Whole runs on recordings from the front door: what is refused in a line, what is left out, what is measured."""

import csv

import numpy as np
import pytest
import soundfile

from twoviews import embed, evaluate, train
from twoviews.errors import UserError

TINY = {"encoder.width": 8, "encoder.dim": 8, "epochs": 1}


def clips(folder, n, samples, rate=8000):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        x = rng.standard_normal(samples).astype(np.float32) * 0.1
        soundfile.write(folder / f"{i % 2}_voice{i // 2 % 2}_{i}.wav", x, rate)
    return folder


def test_recordings_too_short_to_predict_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"method.first=1 ahead: the longest has 60 samples; give longer ones"):
        train(clips(tmp_path / "short", 12, 60), out=tmp_path / "run", quiet=True, settings=TINY)


def test_windows_that_nothing_fills_are_one_line(tmp_path):
    data = clips(tmp_path / "clips", 12, 3000)
    with pytest.raises(UserError, match=r"views.length=100,000,000 is mostly padding: the longest .* 3,000 samples"):
        train(data, out=tmp_path / "run", quiet=True, settings=TINY | {"views.length": 10**8})


def test_methods_that_compare_name_the_views_of_sounds(tmp_path):
    data = clips(tmp_path / "clips", 12, 3000)
    with pytest.raises(UserError, match="compares two views, got 1: .* of sound two_sounds"):
        train(data, out=tmp_path / "run", quiet=True, settings=TINY | {"method": "moco", "method.hidden": 8})


def test_bad_files_are_listed_and_a_pattern_of_names_holds_for_other_recordings(tmp_path):
    data = clips(tmp_path / "clips", 24, 3000)
    soundfile.write(data / "0_voice0_silent.wav", np.zeros(3000), 8000)
    broken = np.ones(3000, np.float32)
    broken[7] = np.nan
    soundfile.write(data / "0_voice0_nan.wav", broken, 8000, subtype="FLOAT")
    (data / "0_voice0_empty.wav").write_bytes(b"")
    how = {"labels": "{digit}_{speaker}_{_}", "quiet": True}
    result = train(data, out=tmp_path / "run", settings=TINY | {"data.label": "digit"}, **how)
    with open(result.folder / "skipped.csv") as file:
        reasons = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {f"0_voice0_{name}.wav" for name in ("silent", "nan", "empty")}
    assert all("NaN" not in path.read_text() for path in result.folder.glob("*.json*"))
    table = evaluate(result.folder, clips(tmp_path / "others", 20, 2000), quiet=True)
    assert any("speaker" in name for name in next(iter(table.rows.values())))
    one = embed(result.folder, data, out=tmp_path / "frames.parquet", frames=True, quiet=True)
    assert one.exists()
