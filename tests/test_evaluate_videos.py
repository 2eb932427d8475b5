"""Measures of clips: an encoder that sees motion is told from one that sees frames alone; files of windows."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from twoviews.data.clipviews import central_clip
from twoviews.data.videos import videos
from twoviews.doctor.video_rules import order_unused
from twoviews.errors import UserError
from twoviews.evaluate.arrow import arrow
from twoviews.evaluate.embed import features, raw_pixels
from twoviews.evaluate.table import RAW, UNTRAINED, H
from twoviews.evaluate.videos import measure_videos
from twoviews.evaluate.videostore import embed_videos

FRAMES = 6
VIEW = central_clip(16, FRAMES, 1)


class Steps(nn.Module):
    """Changes from frame to frame (or, blind, their mean), each a token."""

    dim = FRAMES - 1

    def __init__(self, blind=False):
        super().__init__()
        self.blind = blind

    def tokens(self, x):
        level = x.mean((1, 3, 4))  # (B, T)
        rows = level.mean(1, keepdim=True).expand(-1, self.dim) if self.blind else level.diff(dim=1)
        return torch.diag_embed(rows)

    def forward(self, x):
        return self.tokens(x).sum(1)


def ramps(count, seed, labelled=True):
    """Clips that grow brighter (1) or darker (0) from a random level, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    slope = (2 * labels - 1)[:, None] * 12 * np.arange(FRAMES)
    level = 128 + rng.uniform(-20, 20, (count, 1)) + slope - slope.mean(1, keepdims=True)
    clips = level[:, :, None, None] + rng.normal(0, 4, (count, FRAMES, 16, 16))
    clips = clips.clip(0, 255).astype(np.uint8)
    return videos((clips, labels) if labelled else clips)


def test_scores_stand_beside_shuffled_and_reversed_frames():
    kept = []
    table = measure_videos(Steps(), Steps(blind=True), ramps(80, 0), ramps(40, 1), VIEW, keep=kept)
    rows = table.rows
    for probe in ("kNN", "linear", "attentive"):
        assert rows[H][probe].value == 1.0
        assert rows[f"{H}, reversed"][probe].value == 0.0
        assert 0.2 < rows[f"{H}, shuffled"][probe].value < 0.8
        assert rows[UNTRAINED][probe].value == rows[UNTRAINED][probe].detail["shuffled"] < 0.8
    assert "needs the order of frames" in table.verdict
    assert [len(f) for f in kept] == [80, 40]
    assert list(rows)[-2:] == [f"{H}, shuffled", f"{H}, reversed"]
    assert len(rows) == 6


def test_a_score_without_order_is_called_so_and_the_doctor_says_it():
    clips = np.zeros((80, FRAMES, 16, 16), np.uint8)
    labels = np.arange(80) % 2
    clips[:] = (60 + 100 * labels + np.arange(80) % 7)[:, None, None, None]
    train, test = videos((clips[:40], labels[:40])), videos((clips[40:], labels[40:]))
    table = measure_videos(Steps(blind=True), Steps(), train, test, VIEW)
    assert table.verdict.endswith("100% of it: this score does not show that time is seen.")
    finding = order_unused(SimpleNamespace(evaluation=json.loads(json.dumps(table.to_json()))))
    assert finding
    assert "shuffled" in finding.evidence
    seen = measure_videos(Steps(), Steps(), ramps(40, 0), ramps(40, 1), VIEW)
    assert order_unused(SimpleNamespace(evaluation=seen.to_json())) is None
    assert order_unused(SimpleNamespace(evaluation={})) is None


def test_without_labels_forward_is_told_from_backward():
    clips = ramps(60, 0).listing.store.clips[1::2]  # all grow brighter
    source = videos(np.ascontiguousarray(clips))
    table = measure_videos(Steps(), Steps(blind=True), source, source, VIEW)
    assert table.rows[H]["arrow"].value == 1.0
    assert table.rows[UNTRAINED]["arrow"].low <= 0.5
    assert table.rows[RAW]["arrow"].n == 60


def test_what_fills_a_clip_does_not_tell_forward_from_backward():
    """Noise of three frames, of which the last stays until the clip is full, runs neither way."""
    noise = videos(np.random.default_rng(0).integers(0, 255, (80, 3, 16, 16), np.uint8))
    found = measure_videos(Steps(), Steps(), noise, noise, VIEW).rows
    assert all(found[row]["arrow"].low < 0.5 < found[row]["arrow"].high for row in (RAW, H))


def test_the_arrow_never_judges_a_video_it_has_learned_from():
    rng = np.random.default_rng(0)
    own = torch.from_numpy(rng.normal(size=(20, 64))).float().repeat_interleave(10, 0)  # one direction a video
    sign = torch.from_numpy(rng.choice([-1.0, 1.0], 20)).float().repeat_interleave(10)[:, None]
    found = arrow(own * sign, -own * sign, np.arange(20).repeat(10))
    assert found.low < 0.5 < found.high
    assert found.high - found.low > 0.2  # 20 videos, not 400 clips
    with pytest.raises(UserError, match="give two"):
        arrow(own, own, np.zeros(200))


def test_raw_pixels_of_a_clip_keep_its_moments():
    x = torch.randn(2, 3, 6, 32, 32)
    want = x.unflatten(4, (8, 4)).unflatten(3, (8, 4)).mean((4, 6))
    torch.testing.assert_close(raw_pixels(x)[0], want.flatten(1))


def test_windows_are_written_with_their_times(tmp_path):
    import pyarrow.parquet as pq

    source = ramps(3, 0)
    out = tmp_path / "w.parquet"
    assert embed_videos(out, Steps(), source, VIEW, seconds=2, identity="a") == 9
    table = pq.read_table(out)
    assert table["begin"].to_pylist() == [0.0, 2.0, 4.0] * 3
    assert table["end"].to_pylist() == [2.0, 4.0, 6.0] * 3
    assert [p.name for p in tmp_path.iterdir()] == ["w.parquet"]
    assert embed_videos(tmp_path / "v.npy", Steps(), source, VIEW, identity="a") == 3
    assert np.load(tmp_path / "v.npy").shape == (3, FRAMES - 1)
    with pytest.raises(UserError, match="give windows=2"):
        embed_videos(tmp_path / "v.npy", Steps(), source, VIEW, step=2, identity="a")


def test_clips_at_test_are_averaged():
    shades = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None, None], (2, 40, 20, 20))
    source, view = videos(np.ascontiguousarray(shades)), central_clip(16, frames=4, stride=2, clips=3)

    def mean_and_tokens(x):  # (B, 3, T, 16, 16)
        return x.mean((1, 3, 4)), x.mean((1, 3, 4), keepdim=True)

    found = features(mean_and_tokens, source.sampled(view.moments), view)
    read = torch.stack([source.sampled(view.moments).read(i) for i in range(2)])
    each = [x.mean((1, 3, 4)) for x in view(read, torch.tensor([[20, 60]] * 2))]
    assert torch.allclose(found.h, torch.stack(each).mean(0))
    assert found.z.shape == (2, 1, 4, 1, 1)
    turned = source.sampled(view.moments).ordered("reversed")
    assert torch.equal(turned.read(0).reshape(3, 4, -1), read[0].reshape(3, 4, -1).flip(1))  # each clip by itself


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((1, 3, 4))


def test_stretches_of_one_video_are_on_one_side():
    clips = np.random.default_rng(0).integers(0, 255, (20, 8, 16, 16), np.uint8)
    source = videos((clips, ["a", "b"] * 10)).cut(2.0)
    assert len(source) == 80
    keep = []
    measure_videos(Mean(), Mean(), source, source, central_clip(16, 2, 1), keep=keep)
    learned, judged = ({key.split("#")[0] for key in found.keys} for found in keep)
    assert len(learned) + len(judged) == 20
    assert not learned & judged
    assert [len(found) for found in keep] == [4 * len(learned), 4 * len(judged)]
