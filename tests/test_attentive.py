"""The attentive probe finds the one token that matters, which a mean hides."""

import pytest
import torch

from twoviews.errors import UserError
from twoviews.evaluate.attentive import attentive


def hidden(count, seed):
    """One of 16 noisy tokens carries a mark in dim 0 and the class in the sign of dim 1."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 16, 8, generator=g)
    y = torch.arange(count) % 2
    at = torch.randint(16, (count,), generator=g)
    x[torch.arange(count), at, 0] = 6
    x[torch.arange(count), at, 1] = 2.0 * (2 * y - 1)
    return x, y


def test_it_looks_where_the_class_is():
    (x, y), (t, u) = hidden(400, 0), hidden(200, 1)
    (told, again), detail = attentive(x, y, [t, t.flip(1)])
    assert (told == u).float().mean() > 0.9
    assert (again == told).all()  # the tokens are a set
    assert detail["validation"] > 0.9
    assert (attentive(x, y, [t])[0][0] == told).all()


def test_it_refuses_what_is_not_finite():
    x, y = hidden(20, 0)
    x[0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="diverged"):
        attentive(x, y, [x])
