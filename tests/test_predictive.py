"""`ahead` against loops in float64, and answers planted where they must not be seen."""

import itertools
import math

import pytest
import torch

from twoviews.errors import UserError
from twoviews.objectives import aheadtiles
from twoviews.objectives.predictive import ahead

B, R, K, D = 3, 9, 4, 5
MODES = [
    {"negatives": mode, "neighbours": near, "group": group, "first": first}
    for mode, near, group, first in itertools.product(("all", "others", "current"), (0, 2), (2, 3, 8), (1, 2))
]


def case(across=1, items=B, rows=R, ragged=True, seed=0, dtype=torch.float64):
    """p, z and what is seen: items of several lengths, one with a hole."""
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(K, items, rows, across, D, generator=g, dtype=dtype).requires_grad_()
    z = torch.randn(items, rows, across, D, generator=g, dtype=dtype).requires_grad_()
    seen = torch.ones(items, rows, across, dtype=torch.bool)
    if ragged:
        for i in range(items):
            seen[i, rows - 2 * (i % 3) :] = False
        seen[0, 3, 0] = False
    return p, z, seen


def candidates(seen, b, r, w, negatives, neighbours, group):
    """The negatives of the positive at (b, r, w), as places in the flattened z."""
    rows, across = seen.shape[1:]
    found = []
    for i, j, v in seen.nonzero().tolist():
        near = i == b and abs(j - r) <= neighbours and abs(v - w) <= neighbours
        allowed = {"all": True, "others": i != b, "current": i == b}[negatives]
        if i // group == b // group and allowed and not near and (i, j, v) != (b, r, w):
            found.append((i * rows + j) * across + v)
    return found


def looped(p, z, seen, first=1, group=8, negatives="all", neighbours=0):
    """The definition, pair by pair: loss, then losses, accuracies, bounds and counts by horizon."""
    steps, (_, rows, across) = len(p), seen.shape
    products = p.flatten(1, 3) @ z.flatten(0, 2).T / D**0.5  # (K, B * R * W, B * R * W)
    found = [[] for _ in range(steps)]
    for b, r, w in seen.nonzero().tolist():
        against = candidates(seen, b, r, w, negatives, neighbours, group)
        goal = (b * rows + r) * across + w
        for k in range(steps):
            begin = r - first - k
            if begin < 0 or not seen[b, begin, w] or not against:
                continue
            scores = products[k, (b * rows + begin) * across + w, [goal, *against]]
            loss = -scores.log_softmax(0)[0]
            found[k].append(torch.stack([loss, (scores[0] > scores[1:].max()).double(), math.log(len(scores)) - loss]))
    zero = z.new_zeros(3)
    means = torch.stack([torch.stack(x).mean(0) if x else zero for x in found])
    counts = z.new_tensor([len(x) for x in found])
    return means[:, 0].sum() / max(1, int((counts > 0).sum())), *means.T, counts


def slopes(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("cells", [1, 300, 1 << 20])
@pytest.mark.parametrize("across", [1, 2])
def test_every_mode_is_the_loop(across, cells, monkeypatch):
    monkeypatch.setitem(aheadtiles.CELLS, "cpu", cells)
    p, z, seen = case(across)
    for mode in MODES if cells == 300 else MODES[::5]:
        ours, theirs = ahead(p, z, seen, **mode), looped(p, z, seen, **mode)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12, msg=str(mode))
        for a, b in zip(slopes(ours.loss, p, z), slopes(theirs[0], p, z), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13, msg=str(mode))


def test_the_gradient_is_that_of_differences():
    p, z, seen = case(across=2, items=2, rows=4)
    p = p[:2].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, z: ahead(p, z, seen, neighbours=1).loss * 3, (p, z))


def test_places_may_be_another_thing_to_each_horizon():
    p, z, seen = case(across=2)
    each = torch.randn(K, 1, 1, 1, D, dtype=torch.float64)
    for mode in MODES[::7]:
        given = (p, z[None].expand(K, -1, -1, -1, -1)), (p[:1], z * each), (p[:1] * each, z)
        same, one, other = (ahead(*x, seen, **mode).loss for x in given)
        torch.testing.assert_close(same, ahead(p, z, seen, **mode).loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
        for a, b in zip(slopes(one, p, z), slopes(other, p, z), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_all_that_are_there_drawn_is_all_of_them():
    p, z, seen = case(across=2)
    for mode in MODES[::7]:
        exact = ahead(p, z, seen, **mode)
        for a, b in zip(ahead(p, z, seen, sampled=1000, **mode), exact, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    # one less than there are: each row leaves one out, another each time
    exact, drawn = ahead(p, z, seen, group=3), ahead(p, z, seen, group=3, sampled=int(seen.sum()) - 2)
    assert (drawn.losses < exact.losses).all()


@pytest.mark.parametrize("negatives", ["all", "others", "current"])
def test_as_many_as_asked_are_drawn_evenly_from_the_allowed(negatives):
    """With scores of 0 the gradient of a row shows which candidates it had."""
    seen = torch.ones(2, 6, 1, dtype=torch.bool)
    seen[1, 4:] = False
    names = torch.eye(12, dtype=torch.float64).view(2, 6, 1, 12)  # the gradient of p names the candidates
    hits = torch.zeros(2, 6, 12)
    torch.manual_seed(0)
    for _ in range(300):
        p = torch.zeros(1, 2, 6, 1, 12, dtype=torch.float64, requires_grad=True)
        found = ahead(p, names, seen, negatives=negatives, sampled=2)
        assert found.loss.item() == pytest.approx(math.log(3))
        assert found.bounds.item() == pytest.approx(0, abs=1e-12)
        (of_p,) = slopes(found.loss, p)
        pushed = of_p[0, :, :, 0] > 0
        rows = of_p[0, :, :, 0].abs().sum(-1) > 0
        assert (pushed.sum(-1)[rows] == 2).all()  # two different ones, the positive not among them
        hits += pushed
    for b, r in rows.nonzero().tolist():
        allowed = candidates(seen, b, r + 1, 0, negatives, 0, 8)
        assert hits[b, r, allowed].sum() == hits[b, r].sum() == 2 * 300
        even = 2 / len(allowed)
        assert ((hits[b, r, allowed] / 300 - even).abs() < 4.5 * (even * (1 - even) / 300) ** 0.5 + 1e-6).all()


def test_equal_scores_pay_log_n_and_are_no_success():
    p, z, seen = case()
    for mode in MODES[::3]:
        found = ahead(p * 0, z, seen, **mode)
        torch.testing.assert_close(found.bounds, torch.zeros_like(found.bounds), atol=1e-12, rtol=0)
        assert not found.accuracies.any()  # a tie is not found
    found = ahead(p * 0, z, torch.ones_like(seen), group=3)
    torch.testing.assert_close(found.losses, torch.full_like(found.losses, math.log(B * R)))


def test_random_scores_are_near_log_n():
    g = torch.Generator().manual_seed(0)
    p, z = torch.randn(2, 8, 32, 1, 64, generator=g), torch.randn(8, 32, 1, 64, generator=g)
    found = ahead(p * 0.1, z, torch.ones(8, 32, 1, dtype=torch.bool))
    torch.testing.assert_close(found.losses, torch.full((2,), math.log(256)), atol=0.02, rtol=0)


@pytest.mark.parametrize("negatives", ["all", "others", "current"])
def test_the_order_of_items_in_a_group_and_of_groups_does_not_matter(negatives):
    p, z, seen = case(items=6)
    before = ahead(p, z, seen, group=3, negatives=negatives)
    for order in ([2, 0, 1, 4, 5, 3], [3, 4, 5, 0, 1, 2]):
        after = ahead(p[:, order], z[order], seen[order], group=3, negatives=negatives)
        for a, b in zip(after, before, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    across = [0, 3, 2, 1, 4, 5]
    if negatives != "current":
        assert ahead(p[:, across], z[across], seen[across], group=3, negatives=negatives).loss != before.loss


PLANTED = [  # where a copy of the positive of (item 0, row 2 -> 4) stands, the mode, and whether it may be seen
    ((0, 8, 0), {"negatives": "others"}, False),
    ((0, 8, 0), {"negatives": "all"}, True),
    ((0, 8, 0), {"negatives": "current"}, True),
    ((1, 4, 0), {"negatives": "current"}, False),
    ((1, 4, 0), {"negatives": "others"}, True),
    ((0, 6, 0), {"neighbours": 2}, False),
    ((0, 7, 0), {"neighbours": 2}, True),
    ((0, 6, 1), {"neighbours": 2}, False),
    ((1, 4, 0), {"neighbours": 2}, True),
    ((0, 6, 0), {"negatives": "current", "neighbours": 2}, False),
    ((2, 4, 0), {"group": 2}, False),
    ((1, 4, 0), {"group": 2}, True),
    ((1, 8, 1), {}, False),  # not seen
]


@pytest.mark.parametrize(("place", "mode", "visible"), PLANTED)
def test_a_planted_answer_counts_where_it_may_be_seen_and_nowhere_else(place, mode, visible):
    p, z, _ = (x.detach().clone() for x in case(across=2, ragged=False))
    seen = torch.ones(B, R, 2, dtype=torch.bool)
    seen[1, 8, 1] = False
    rows = torch.zeros(K, B, R, 2, 1, dtype=torch.bool)
    rows[1, 0, 2, 0] = True

    def of_row(z):
        """The loss of one row: what its p is worth, read from the gradient of a p that only it has."""
        one = torch.where(rows, p, 0).requires_grad_()
        return ahead(one, z, seen, **mode).losses[1], slopes(ahead(one, z, seen, **mode).loss, one)[0][1, 0, 2, 0]

    goal = z[0, 4, 0].clone()
    planted = z.clone()
    planted[place] = goal
    (before, slope), (after, slope_after) = of_row(z), of_row(planted)
    same = torch.equal(slope, slope_after) and before == after
    assert same != visible


def test_what_is_not_seen_never_enters():
    p, z, seen = case(across=2)
    noise = torch.where(seen[..., None], 0.0, 1e6)
    for mode in MODES[::4]:
        found, other = ahead(p, z, seen, **mode), ahead(p + noise, z + noise, seen, **mode)
        for a, b in zip(found, other, strict=True):
            assert torch.equal(a, b)
        of_p, of_z = slopes(found.loss, p, z)
        assert not of_z[~seen].any()
        assert not of_p[:, ~seen].any()


def test_padding_changes_nothing():
    p, z, seen = case(ragged=False)
    longer = [torch.cat([x, torch.ones_like(x[..., :3, :, :])], -3) for x in (p, z)]
    more = torch.cat([seen, torch.zeros_like(seen[:, :3])], 1)
    for a, b in zip(ahead(*longer, more), ahead(p, z, seen), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", [{}, {"negatives": "others"}, {"negatives": "current"}, {"sampled": 2}])
def test_nothing_seen_is_a_loss_of_0(mode):
    p, z, seen = case()
    few = torch.zeros_like(seen)
    few[0, 0] = few[1, 0] = True  # places, but no pair
    for none in (torch.zeros_like(seen), few):
        found = ahead(p, z, none, **mode)
        assert all(not x.any() for x in found)
        assert not any(x.any() for x in slopes(found.loss, p, z))


def test_a_row_without_a_negative_does_not_count():
    p, z, seen = case(items=3, ragged=False)
    found = ahead(p, z, seen, group=2, negatives="others")  # the third item is alone
    assert found.counts.tolist() == [2 * (R - 1 - k) for k in range(K)]


def test_horizons_without_a_pair_are_left_out_of_the_mean():
    p, z, seen = case(rows=3, ragged=False)
    found = ahead(p, z, seen)
    assert found.counts.tolist() == [6, 3, 0, 0]
    torch.testing.assert_close(found.loss, found.losses[:2].mean())


def test_a_perfect_answer_keeps_its_tiny_loss_exact():
    z = torch.eye(8).view(1, 8, 1, 8)
    p = torch.zeros(1, 1, 8, 1, 8)
    p[0, 0, :7, 0] = z[0, 1:, 0] * 25 * 8**0.5
    found = ahead(p.requires_grad_(), z, torch.ones(1, 8, 1, dtype=torch.bool))
    assert found.loss.item() == pytest.approx(7 * math.exp(-25), rel=1e-5)
    assert found.accuracies.item() == 1
    assert slopes(found.loss, p)[0].any()


def test_huge_scores_stay_finite():
    p, z, seen = case(dtype=torch.float32)
    found = ahead(p * 1e4, z * 1e4, seen, neighbours=1)
    assert found.loss.isfinite()
    assert all(x.isfinite().all() for x in slopes(found.loss, p, z))


def test_under_autocast_scores_are_float32():
    p, z, seen = case(dtype=torch.float32)
    exact = ahead(p.bfloat16().float(), (z * D**-0.5).bfloat16().float() * D**0.5, seen)
    with torch.autocast("cpu", torch.bfloat16):
        found = ahead(p.bfloat16(), z, seen)
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.losses, exact.losses, rtol=1e-5, atol=0)  # bfloat16 scores would be 1e-2 off
    for a, b in zip(slopes(found.loss, p, z), slopes(exact.loss, p, z), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=2e-3 * float(b.abs().max()))


def test_without_a_gradient_the_same_numbers():
    p, z, seen = case()
    found = ahead(p, z, seen)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(ahead(p, z, seen), found, strict=True))
    for leaf in (p, z):  # one side alone
        given = [x if x is leaf else x.detach() for x in (p, z)]
        assert torch.equal(*slopes(ahead(*given, seen).loss, leaf), *slopes(ahead(p, z, seen).loss, leaf))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"negatives": "other"}, "did you mean 'others'"),
        ({"negatives": "others", "group": 1}, "group must be 2 or more"),
        ({"group": 0}, "group must be 1 or more"),
        ({"first": 0}, "first must be 1 or more"),
        ({"sampled": -1}, "sampled must be 0 or more"),
        ({"neighbours": -1}, "neighbours must be 0 or more"),
        ({"first": 9}, "clips of 9 rows have none 9 ahead"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(settings, said):
    with pytest.raises(UserError, match=said) as error:
        ahead(*case(), **settings)
    assert "\n" not in str(error.value)


def test_shapes_must_fit():
    p, z, seen = case()
    for wrong in (z[:2], z[None].expand(2, -1, -1, -1, -1)):
        with pytest.raises(ValueError, match="must fit"):
            ahead(p, wrong, seen)
