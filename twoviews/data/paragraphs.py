"""Views of a stretch of a document: sentences in their order, for an encoder that predicts those to come.

Van den Oord, Li and Vinyals 2018, arXiv:1807.03748, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from ..types import PAD
from .dice import Dice


@dataclass(frozen=True)
class paragraphs:  # a class used as a function, like functools.partial
    """One run of consecutive sentences of each item, at a random place where the item has more.

    sentences: the most of a run; None takes all.
    drop:      the chance that a word is left out of its sentence, and the words behind it move up.
    Raises UserError where one is out of range.
    """

    sentences: int | None = None
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.sentences is not None and self.sentences < 2:
            raise UserError(f"views.sentences must be 2 or more, or None for all, got {self.sentences}")
        if not 0 <= self.drop < 1:
            raise UserError(f"views.drop must be a share from 0 to below 1, got {self.drop}")

    def __call__(self, canvas: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """(B, 1, S, L) words -> one view (B, S, L) int64, 0 where there is none."""
        x = whole_paragraph()(canvas, sizes)[0]
        b, s, n = x.shape
        if self.sentences is not None and self.sentences < s:
            held = (x != PAD).any(2).sum(1)  # (B,), sentences there are
            begin = dice.view(0).integers((held - self.sentences + 1).clamp(min=1))
            rows = begin[:, None] + torch.arange(self.sentences, device=x.device)
            x = x.gather(1, rows[:, :, None].expand(-1, -1, n))
        if self.drop:
            lost = dice.view(1).uniform(n=s * n).view(b, s, n)[:, : x.shape[1]] < self.drop
            lost[..., 0] &= (~lost & (x != PAD)).any(2)  # a sentence keeps a word, else the document would end there
            x = x.masked_fill(lost, PAD)
            x = x.gather(2, (x == PAD).byte().argsort(dim=2, stable=True))
        return [x]


@dataclass(frozen=True)
class whole_paragraph:
    """The view for evaluation: all sentences of an item as they are."""

    def __call__(self, canvas: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """(B, 1, S, L) words -> one view (B, S, L) int64."""
        return [canvas[:, 0].long()]


DOCUMENT_VIEWS = {"paragraphs": paragraphs}
