"""Sentences of a document: each alone by a convolution over its words, their context by a GRU over sentences.

    z_s = norm(mean over words of relu(conv(embedding(words of s))))        c_s = GRU(z_1 ... z_s)

Van den Oord, Li and Vinyals 2018, arXiv:1807.03748, section 3.3: z and c of 2,400, no norm. A mean of what is never
below 0 differs little from sentence to sentence, so here it is normalised, each sentence alone, as Riviere et al. 2020,
arXiv:2002.02848, do with frames. Words begin near 0: one that was met too seldom to learn of says little.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ..errors import UserError
from ..types import PAD, Places

BEGIN = 0.1  # the deviation of word vectors at first


class SentenceNet(nn.Module):
    """(B, S, L) int64 words of sentences, 0 where there is none, to states. The encoder of `sentence_net`.

    dim, context: C, the width of c.  width: D, the width of z.
    """

    def __init__(self, words: int, dim: int, width: int, letters: int, kernel: int):
        super().__init__()
        for name, value, least in (("words", words, 2), ("dim", dim, 1), ("width", width, 1), ("letters", letters, 1)):
            if value < least:
                raise UserError(f"encoder.{name} must be {least} or more, got {value}")
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"encoder.kernel must be an odd number of words, got {kernel}")
        self.words, self.dim, self.width, self.context = words, dim, width, dim
        self.embedding = nn.Embedding(words, letters, padding_idx=PAD)
        with torch.no_grad():
            self.embedding.weight.mul_(BEGIN)
        self.conv = nn.Conv1d(letters, width, kernel, padding=kernel // 2)
        self.gru = nn.GRU(width, dim, batch_first=True)

    def sentence(self, x: Tensor) -> Tensor:
        """(B, L) words -> (B, D): z of sentences alone, zeros for one without a word."""
        seen = x != PAD
        states = self.conv(self.embedding(x).transpose(1, 2)).relu()  # (B, D, L)
        weight = seen / seen.sum(1, keepdim=True).clamp(min=1)
        return layer_norm(torch.einsum("bdl,bl->bd", states, weight.to(states.dtype)), (self.width,))

    def places(self, x: Tensor) -> Places:
        """z and c at each sentence, a row of one place; those without a word are not seen."""
        b, s, n = x.shape
        z = self.sentence(x.reshape(b * s, n)).view(b, s, self.width)
        c, _ = self.gru(z)
        seen = (x != PAD).any(2)
        return Places(z[:, :, None], c[:, :, None], seen[:, :, None])

    def tokens(self, x: Tensor) -> Tensor:
        """(B, S, L) -> (B, S, C): c."""
        return self.places(x).c[:, :, 0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, L) -> (B, C): the mean of c over the sentences seen."""
        places = self.places(x)
        weight = places.seen[..., 0].to(places.c.dtype)
        return torch.einsum("bsc,bs->bc", places.c[:, :, 0], weight) / weight.sum(1, keepdim=True).clamp(min=1)


def sentence_net(words: int, *, dim: int = 128, width: int = 128, letters: int = 64, kernel: int = 3) -> SentenceNet:
    """Words of sentences -> h: the mean of c over the sentences of a document.

    words:   rows of the embedding, that of no word among them.  letters: E, its width.
    width:   D of z.  dim: C of c and of h.
    kernel:  words that the convolution sees at once, an odd number.
    The gradient of the embedding is dense: each step reads and writes all of its words x E numbers.
    Raises UserError where one is out of range.
    """
    return SentenceNet(words, dim, width, letters, kernel)
