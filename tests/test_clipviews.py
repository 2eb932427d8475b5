"""Views of clips: one crop and one change of colours for all frames, frame by frame those of a photo."""

import numpy as np
import pytest
import torch

from twoviews.data.clipviews import CLIP_VIEWS, central_clip, clips, one_clip, two_clips
from twoviews.data.dice import Dice
from twoviews.data.videos import videos
from twoviews.data.views import center, one_crop, two_crops
from twoviews.errors import UserError

T, H, W = 4, 24, 30
OPS = {"quarter_turns": True, "solarize": 0.5, "invert": 0.5, "cutout": 0.5, "sobel": 0.3, "turn": 10.0}


def canvas(count, frames, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (count, frames, H, 3 * W), dtype=torch.uint8, generator=g)
    return x, torch.tensor([[H, 3 * W]]).expand(count, 2)


def photos(x, place):
    """Frame `place` of each item as photos (B, 3, H, W)."""
    return x[:, place].unflatten(2, (-1, 3)).permute(0, 3, 1, 2).contiguous()


def dice(ids=range(5), epoch=1):
    return Dice(7, epoch, torch.tensor(list(ids)))


@pytest.mark.parametrize("more", [{}, OPS])
def test_each_frame_is_the_photo_that_the_same_dice_draw(more):
    x, sizes = canvas(5, 2 * T)
    found = two_clips(16, frames=T, scale=(0.1, 1.0), **more)(x, sizes, dice())
    assert [v.shape for v in found] == [(5, 3, T, 16, 16)] * 2
    for place in range(2 * T):
        want = two_crops(16, scale=(0.1, 1.0), **more)(photos(x, place), torch.tensor([[H, W]] * 5), dice())
        v, t = divmod(place, T)
        assert torch.allclose(found[v][:, :, t], want[v], atol=1e-6)


def test_one_and_central_clips_are_those_of_photos_too():
    x, sizes = canvas(5, T)
    small = torch.tensor([[H, W]] * 5)
    (found,), (middle,) = one_clip(16, frames=T)(x, sizes, dice()), central_clip(16, frames=T)(x, sizes)
    for t in range(T):
        photo = photos(x, t)
        assert torch.allclose(found[:, :, t], one_crop(16, scale=(0.5, 1.0))(photo, small, dice())[0], atol=1e-6)
        assert torch.allclose(middle[:, :, t], center(16)(photo, small)[0], atol=1e-6)
    (shown,) = central_clip(16, frames=T).pictures(x, sizes)
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert middle.min() < -0.5  # normalised


def test_a_clip_of_one_picture_stays_one_picture():
    x, sizes = canvas(6, 1)
    still = x.expand(-1, 2 * T, -1, -1)
    one, two = two_clips(16, frames=T, speed=2.0, **OPS)(still, sizes, dice(range(6)))
    for view in (one, two):
        assert torch.equal(view, view[:, :, :1].expand_as(view))
    assert all((a - b).abs().max() > 0.1 for a, b in zip(one, two, strict=True))  # each clip its own crop and colours


def test_items_do_not_depend_on_their_batch_and_epochs_differ():
    x, sizes = canvas(5, 2 * T)
    views = two_clips(16, frames=T, **OPS)
    all_ = views(x, sizes, dice())
    some = views(x[[3, 1]], sizes[:2], dice([3, 1]))
    for a, b in zip(all_, some, strict=True):
        assert torch.equal(a[[3, 1]], b)
    assert not torch.equal(all_[0], views(x, sizes, dice(epoch=2))[0])


def test_what_lies_around_a_smaller_video_is_not_seen():
    x, sizes = canvas(2, 2 * T)
    padded = torch.zeros(2, 2 * T, H + 9, 3 * (W + 5), dtype=torch.uint8)
    padded[:, :, :H, : 3 * W] = x
    for views in (two_clips(16, frames=T), two_clips(16, frames=T, **OPS)):
        for a, b in zip(views(x, sizes, dice([0, 1])), views(padded, sizes, dice([0, 1])), strict=True):
            assert torch.equal(a, b)
    mixed = sizes.clone()
    mixed[1] = torch.tensor([12, 3 * 15])
    (seen,) = central_clip(12, frames=2 * T).pictures(padded, mixed)
    assert torch.allclose(seen[1, :, 2] * 255, photos(x, 2)[1, :, :12, 1:13].float(), atol=0.01)


def test_grey_clips_stay_grey():
    x = torch.randint(0, 256, (3, T, H, W, 1), dtype=torch.uint8).expand(-1, -1, -1, -1, 3).flatten(3)
    sizes = torch.tensor([[H, 3 * W]] * 3)
    (seen,) = one_clip(16, frames=T).pictures(x, sizes, dice(range(3)))
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert torch.equal(seen[:, 0], seen[:, 2])


def test_a_canvas_is_read_where_it_lies(monkeypatch):
    """No copy of all frames before they are cropped."""
    from twoviews.data import clipviews

    seen = []
    made = clipviews.make
    monkeypatch.setattr(clipviews, "make", lambda frames, *rest: seen.append(frames) or made(frames, *rest))
    x, sizes = canvas(2, T)
    one_clip(16, frames=T)(x, sizes, dice([0, 1]))
    assert [frames.data_ptr() for frames in seen] == [x.data_ptr()]


def test_moments_are_as_many_as_the_views_read():
    rng = np.random.default_rng(0)
    for views, count in (
        (two_clips(16, frames=4), 2),
        (two_clips(16, frames=4, clips=3, gap=0.2), 3),
        (one_clip(16, frames=4, stride="uniform"), 1),
        (central_clip(16, frames=4), 1),
        (central_clip(16, frames=4, clips=5), 5),
    ):
        for total in (1, 3, 40):
            places = views.moments(total, rng)
            assert places.shape == (count, 4)
            assert places.max() < total
            assert (views.moments(total, None) == views.moments(total, None)).all()
    assert (central_clip(16, 4).moments(40, rng) == central_clip(16, 4).moments(40, None)).all()
    assert set(CLIP_VIEWS) == {"two_clips", "one_clip"}


def test_what_a_source_reads_is_what_views_cut():
    """Frame number t is a picture of value t: whatever is cropped, each clip shows its moments in order."""
    shades = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None, None], (2, 40, 20, 20))
    views = two_clips(16, frames=4, stride=2, jitter=0.0, grey=0.0, blur=0.0, speed=2.0)
    source = videos(np.ascontiguousarray(shades)).sampled(views.moments, 3)
    for epoch in (0, 1):
        at = source.at(epoch)
        read = [at.read(i) for i in range(2)]
        x, sizes = torch.stack(read), torch.tensor([list(read[0].shape[1:])] * 2)
        for i in range(2):
            rng = np.random.default_rng([3, epoch, i])
            want = views.moments(40, rng)
            shown = views.pictures(x, sizes, dice([0, 1], epoch))
            for v in range(2):
                assert torch.allclose(shown[v][i].mean((0, 2, 3)) * 255, torch.from_numpy(want[v]).float(), atol=0.01)


def test_one_drawn_crop_serves_every_frame():
    from twoviews.data.chain import Drawn

    x, _ = canvas(2, T)
    boxes = torch.tensor([[2, 3, 16, 16], [0, 9, 16, 16]])
    seen = clips(x, 16, Drawn(boxes), False)
    for i, (top, left, *_) in enumerate(boxes.tolist()):
        want = photos(x, 1)[i, :, top : top + 16, left : left + 16].float()
        assert torch.allclose(seen[i, :, 1] * 255, want, atol=0.01)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (two_clips, {"frames": 0}),
        (two_clips, {"stride": "dense"}),
        (two_clips, {"clips": 0}),
        (two_clips, {"speed": 9}),
        (two_clips, {"gap": 3}),
        (two_clips, {"scale": (0.5, 2.0)}),
        (one_clip, {"flip": 2}),
        (one_clip, {"size": 1}),
        (central_clip, {"size": 2}),
        (central_clip, {"stride": -1}),
    ],
)
def test_wrong_knobs_give_one_line(make, wrong):
    with pytest.raises(UserError) as raised:
        make(**wrong)
    assert "\n" not in str(raised.value)
    assert str(next(iter(wrong.values()))) in str(raised.value)
