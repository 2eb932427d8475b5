"""BERT4Rec as transformers' BertForMaskedLM: the same network under other names.

Its places count from the start of what it reads. Where ours count from the end, the table is turned round and histories
are padded at the left to the full length, so that the last token always stands at the last place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..methods.bert4rec import BERT4Rec
from ..types import FIRST, MASK, PAD

TYPES = 2  # BERT's kinds of sentences, of which a history has one

BLOCK = {
    "attention.output.dense": "mix",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "grow",
    "output.dense": "shrink",
    "output.LayerNorm": "norm2",
}


def bert_config(method: nn.Module) -> dict[str, Any]:
    """What transformers.BertConfig takes. Raises UserError where BERT is another network."""
    encoder: Any = method.encoder
    if not isinstance(method, BERT4Rec):
        raise UserError(f"BERT reads both ways and {type(method).__name__} the past alone: use safetensors or onnx")
    if encoder.before:
        raise UserError("BERT has its LayerNorms after each sum, this encoder norm='pre': use safetensors or onnx")
    block = encoder.blocks[0] if len(encoder.blocks) else None
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": FIRST + encoder.catalogue,
        "hidden_size": encoder.dim,
        "num_hidden_layers": len(encoder.blocks),
        "num_attention_heads": block.heads if block is not None else 1,
        "intermediate_size": block.grow.out_features if block is not None else 4 * encoder.dim,
        "hidden_act": "gelu",
        "hidden_dropout_prob": encoder.dropout.p,
        "attention_probs_dropout_prob": block.attention_dropout if block is not None else 0.0,
        "max_position_embeddings": encoder.length,
        "type_vocab_size": TYPES,
        "layer_norm_eps": encoder.norm.eps,
        "initializer_range": 0.02,
        "pad_token_id": PAD,
        "mask_token_id": MASK,
        "tie_word_embeddings": True,
    }


def bert_state(method: BERT4Rec) -> dict[str, Tensor]:
    """The weights under BertForMaskedLM's names, those of its tied output left out."""
    encoder: Any = method.encoder
    table = encoder.items.weight
    places = table.new_zeros(encoder.length, encoder.dim) if encoder.positions is None else encoder.positions.weight
    state = {
        "bert.embeddings.word_embeddings.weight": table,
        "bert.embeddings.position_embeddings.weight": places.flip(0) if left_padded(method) else places,
        "bert.embeddings.token_type_embeddings.weight": table.new_zeros(TYPES, encoder.dim),
        "cls.predictions.bias": method.bias,
    }
    modules = {
        "bert.embeddings.LayerNorm": encoder.norm,
        "cls.predictions.transform.dense": method.head[0],
        "cls.predictions.transform.LayerNorm": method.head[2],
    }
    for n, block in enumerate(encoder.blocks):
        prefix = f"bert.encoder.layer.{n}"
        modules |= {f"{prefix}.{theirs}": getattr(block, ours) for theirs, ours in BLOCK.items()}
        for kind in ("weight", "bias"):
            for name, part in zip(("query", "key", "value"), getattr(block.qkv, kind).chunk(3), strict=True):
                state[f"{prefix}.attention.self.{name}.{kind}"] = part
    for name, module in modules.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    return {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}


def left_padded(method: nn.Module) -> bool:
    """Whether BERT must read histories padded at the left to the full length."""
    return method.encoder.counted_from == "end"  # type: ignore[union-attr]


def bert_input(method: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """(B, T) of ours, padded at the right, as BertForMaskedLM reads it."""
    if not left_padded(method):
        return {"input_ids": x, "attention_mask": x.ne(PAD).long()}
    length = int(method.encoder.length)  # type: ignore[union-attr, arg-type]
    x = torch.nn.functional.pad(x, (0, length - x.shape[1]), value=PAD)
    spare = x.eq(PAD).sum(1, keepdim=True)
    x = x.gather(1, (torch.arange(length, device=x.device) - spare) % length)
    return {"input_ids": x, "attention_mask": x.ne(PAD).long()}
