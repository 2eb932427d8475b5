"""Where the right item stands among all items: scores in, ranks out, without sorting and a few users at a time.

    ranks = rank(model_scorer(method, ask(200), "cuda"), question, train.counts())
    print(ranks.recall(10), ranks.ndcg(10))

The policy, also said in `Ranks.notes`. All items of the catalogue compete, without those of the user's history
(unless `seen` is off). A target that is in the history competes all the same. An item of equal score stands before
the target ("pessimistic"), a score that is not a number behind all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.cooccurrence import entries
from ..errors import DataError, UserError, unknown
from ..types import Method
from .embed import Progress, model
from .ranks import Ranks

if TYPE_CHECKING:
    from ..data.histories import Histories
    from ..data.splits import Question

Scorer = Callable[["Histories", np.ndarray], Tensor]  # (histories, rows) -> (B, V) float32, its own to write into
SCORES = 2**26  # held at once: 256 MB
USERS = 512  # at once, so that what an encoder holds of them stays small too
BLOCK = 128  # items of which only the largest score is looked at first
TIES = ("pessimistic", "optimistic")


def model_scorer(
    method: Method, ask: Callable[[Histories, np.ndarray], Tensor], device: torch.device | str = "cpu"
) -> Scorer:
    """Scores of a method that has a `catalogue`: project(encoder(ask(histories, rows))) . vectors + bias.

    In eval mode without gradients, the method's modes restored after each call; the scores stay on `device`.
    """
    run = model(method.encoder, method.project)

    @torch.no_grad()
    def score(histories: Histories, rows: np.ndarray) -> Tensor:
        _, z = run(ask(histories, rows).to(device))
        assert z is not None
        vectors, bias, first = method.catalogue()  # type: ignore[operator]
        vectors = vectors[first:].float()
        # One (B, V) and no other: the bias is added where the product is written.
        return z @ vectors.T if bias is None else torch.addmm(bias[first:].float(), z, vectors.T)

    return score


def rank(
    scorer: Scorer,
    question: Question,
    counts: np.ndarray | None = None,
    *,
    k: Sequence[int] = (5, 10, 20),
    seen: bool = True,
    ties: str = "pessimistic",
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Ranks:
    """The ranks of every user's targets among all items, and the best max(k) items of every user.

    counts: (V,) how often each item occurs in training, `train.counts()`; None where popularity is of no interest.
    seen:   leave out the items of a user's history, as a shop would that never shows what was bought.
    ties:   "pessimistic" or "optimistic".
    chunk:  users at once; by default as many as keep their scores below 256 MB, one at least.
    Raises UserError on a wrong value or scores of a wrong shape, DataError when nobody has a history and a target.
    """
    if ties not in TIES:
        raise unknown("tie policy", ties, TIES)
    if min(k, default=0) < 1:
        raise UserError(f"k must be one or more numbers from 1 up, got {tuple(k)}")
    asked = answerable(question)
    history, truth = question.history, question.truth
    catalogue = history.catalogue
    size = chunk or max(1, min(USERS, SCORES // catalogue))
    by_length = asked[np.argsort(history.lengths[asked], kind="stable")]  # little padding for the encoder
    parts, lists = [], np.full((len(asked), max(k)), -1, np.int32)
    for begin in range(0, len(asked), size):
        rows = by_length[begin : begin + size]
        users = np.searchsorted(asked, rows)
        scores = checked(scorer(history, rows), len(rows), catalogue)
        target = distinct(truth, rows, catalogue)
        shown = distinct(history, rows, catalogue) if seen else Pairs(*np.zeros((2, 0), np.int64))
        places = _places(scores, target, shown)
        parts.append((users[target.owners], target.items, *places))
        best = top(hidden(scores, shown, -torch.inf), max(k))
        lists[users, : best.shape[1]] = best
        del scores  # before the next are made
        if progress:
            progress(begin + len(rows), len(asked))
    owners, items, ranks, tied, broken, repeats = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((items, owners))
    ranks = ranks - tied if ties == "optimistic" else ranks
    notes = [
        f"Full ranking among all {catalogue:,} items, "
        f"{'without' if seen else 'also'} those of a user's history; ties are {ties}."
    ]
    if seen and repeats.any():
        notes.append(f"{repeats.sum():,} targets are in the history already; they compete all the same.")
    if broken.any():
        notes.append(f"{broken.sum():,} targets have a score that is not a number; they are ranked last.")
    return Ranks(
        rows=asked,
        owners=owners[order],
        items=items[order].astype(np.int32),
        ranks=ranks[order],
        tied=tied[order],
        lists=lists,
        counts=np.zeros(catalogue, np.int64) if counts is None else counts,
        left_out=len(history) - len(asked),
        notes=notes,
    )


class Pairs(NamedTuple):
    """Users of a chunk and items of theirs, both (n,) int64, ascending and each pair once."""

    owners: np.ndarray
    items: np.ndarray


def answerable(question: Question) -> np.ndarray:
    """The users with a history and a target."""
    asked = np.flatnonzero((question.history.lengths > 0) & (question.truth.lengths > 0))
    if not len(asked):
        raise DataError(f"none of the {len(question.history):,} users has both a history and an item to find")
    return asked


def distinct(histories: Histories, rows: np.ndarray, catalogue: int) -> Pairs:
    owners, items = entries(histories, rows)
    return Pairs(*np.divmod(np.unique(owners * np.int64(catalogue) + items), catalogue))


def checked(scores: Tensor, users: int, catalogue: int) -> Tensor:
    """The scores as float32 in one piece; UserError if they are not of these users and items."""
    if tuple(scores.shape) != (users, catalogue):
        raise UserError(f"a scorer must give ({users}, {catalogue}) scores, users and items, got {tuple(scores.shape)}")
    return scores.detach().float().contiguous()


def hidden(scores: Tensor, pairs: Pairs, value: float) -> Tensor:
    """The scores with these places filled, in place."""
    owners, items = (torch.from_numpy(x).to(scores.device) for x in pairs)
    scores[owners, items] = value
    return scores


def _places(scores: Tensor, target: Pairs, shown: Pairs) -> tuple[np.ndarray, ...]:
    """(n,) each, of the targets: rank, others of equal score, is its score no number, is it a repeat."""
    owners, items = (torch.from_numpy(x).to(scores.device) for x in target)
    own = scores[owners, items]  # (n,)
    hidden(scores, shown, torch.nan)  # which compares as false with everything
    scores[owners, items] = own
    above, level = (x.cpu().numpy() for x in beaten(scores, owners, own))
    keys = [pairs.owners * scores.shape[1] + pairs.items for pairs in (target, shown)]
    repeats = np.isin(keys[0], keys[1])
    broken = own.isnan().cpu().numpy()
    users = len(scores)
    rivals = scores.shape[1] - np.bincount(shown.owners, minlength=users)
    rivals += np.bincount(target.owners[repeats], minlength=users)
    above[broken] = (rivals - np.bincount(target.owners[broken], minlength=users))[target.owners[broken]]
    # A user's targets of equal score are no rivals: they take the places behind all that are level with them.
    order = np.lexsort((above, target.owners))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(target.owners[order]) > 0) | (np.diff(above[order]) > 0)
    group = np.cumsum(first) - 1
    alike, turn = np.empty((2, len(order)), np.int64)
    alike[order] = np.bincount(group)[group]
    turn[order] = np.arange(len(order)) - np.flatnonzero(first)[group]
    tied = np.where(broken, 0, level - alike)
    return above + tied + turn + 1, tied, broken, repeats


def beaten(scores: Tensor, owners: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) int64 twice: how many scores of a target's row are above its own, and how many equal, its own included."""
    if scores.device.type == "cpu":  # numpy counts bits several times faster than torch adds them up
        table, pairs = scores.numpy(), list(zip(owners.tolist(), own.numpy(), strict=True))
        more = torch.tensor([np.count_nonzero(table[i] > x) for i, x in pairs])
        return more, torch.tensor([np.count_nonzero(table[i] == x) for i, x in pairs])
    return counted(scores, owners, own)


def counted(scores: Tensor, owners: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """`beaten` by torch."""
    above, level = torch.zeros((2, len(own)), dtype=torch.int64, device=scores.device)
    turn = torch.arange(len(own), device=own.device) - torch.searchsorted(owners, owners)
    for j in range(int(turn.max()) + 1):  # the j-th target of all users that have so many
        at = (turn == j).nonzero()[:, 0]
        table = scores if len(at) == len(scores) else scores[owners[at]]
        above[at] = (table > own[at, None]).sum(1)
        level[at] = (table == own[at, None]).sum(1)
    return above, level


def top(scores: Tensor, k: int) -> np.ndarray:
    """The items of the k highest scores of each row, best first: (B, min(k, V)); -1 where the score is -inf or NaN.

    They lie in the k blocks of items with the highest maxima, so all others are only looked through for these.
    """
    users, catalogue = scores.shape
    blocks = catalogue // BLOCK
    if blocks <= 2 * k:
        return _best(scores.nan_to_num(-torch.inf, torch.inf, -torch.inf), min(k, catalogue))
    inside = scores[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK))
    highest = inside.amax(2)
    if highest.isnan().any():
        scores.nan_to_num_(-torch.inf, torch.inf, -torch.inf)
        highest = inside.amax(2)
    chosen = highest.topk(k, 1).indices  # (B, k)
    some = inside.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    rest = scores[:, blocks * BLOCK :].nan_to_num(-torch.inf, torch.inf, -torch.inf)
    best = _best(torch.cat([some, rest], 1), k)
    inner = (chosen[:, :, None] * BLOCK + torch.arange(BLOCK, device=scores.device)).flatten(1).cpu().numpy()
    outer = np.broadcast_to(np.arange(blocks * BLOCK, catalogue), (users, rest.shape[1]))
    items = np.concatenate([inner, outer], 1)
    return np.where(best < 0, -1, np.take_along_axis(items, np.maximum(best, 0), 1))


def _best(scores: Tensor, k: int) -> np.ndarray:
    values, places = scores.topk(k, 1)
    return places.masked_fill(values == -torch.inf, -1).cpu().numpy()
