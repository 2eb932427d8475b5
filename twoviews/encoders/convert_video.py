"""Names of weights of encoders of clips, where they are not those of a ViT, and all tables."""

from __future__ import annotations

from .convert_mvit import SLOWFAST_MVIT, TORCHVISION_MVIT
from .convert_rows import PIXELS, Row, both
from .convert_vit import (
    SCENIC,
    TIMM,
    TORCHVISION,
    TRANSFORMERS,
    TRANSFORMERS_4,
    TRANSFORMERS_4_BLOCK,
    TRANSFORMERS_ENDS,
    VIDEOMAE,
    VIDEOMAE_AUTHORS,
    VIDEOMAE_HUB,
    flax_attention,
    flax_blocks,
    flax_layer,
    flax_norm,
)


def _scenic_stack(ours: str, theirs: str) -> list[Row]:
    return [
        Row(f"{ours}.cls", (f"cls_{theirs}",)),
        Row(f"{ours}.pos", (f"{theirs}.posembed_input.pos_embedding",)),
        *flax_blocks(f"{ours}.blocks", theirs),
        *flax_norm(f"{ours}.norm", f"{theirs}.encoder_norm"),
    ]


SCENIC_2 = [
    *flax_layer("space.patch.proj", "embedding", way=PIXELS),
    *_scenic_stack("space", "SpatialTransformer"),
    *_scenic_stack("time", "TemporalTransformer"),
]
BLOCK = "Transformer.encoderblock_{}"
SCENIC_3 = [
    *(row for row in SCENIC if "blocks" not in row.ours),
    *flax_norm("blocks.{}.time_norm", f"{BLOCK}.LayerNorm_time"),
    *flax_attention("blocks.{}.time", f"{BLOCK}.MultiHeadDotProductAttention_time"),
    *flax_norm("blocks.{}.norm1", f"{BLOCK}.LayerNorm_space"),
    *flax_attention("blocks.{}.attn", f"{BLOCK}.MultiHeadDotProductAttention_space"),
    *flax_norm("blocks.{}.norm2", f"{BLOCK}.LayerNorm_mlp"),
    *flax_layer("blocks.{}.mlp.fc1", f"{BLOCK}.MlpBlock.Dense_0"),
    *flax_layer("blocks.{}.mlp.fc2", f"{BLOCK}.MlpBlock.Dense_1"),
]

TIMESFORMER = [
    *TIMM,
    Row("pos_time", ("time_embed",)),
    *both("blocks.{}.time_norm", "blocks.{}.temporal_norm1"),
    *both("blocks.{}.time.qkv", "blocks.{}.temporal_attn.qkv"),
    *both("blocks.{}.time.proj", "blocks.{}.temporal_attn.proj"),
    *both("blocks.{}.time_fc", "blocks.{}.temporal_fc"),
]
LAYER = "encoder.layer.{}"
TIMESFORMER_TRANSFORMERS = [
    *TRANSFORMERS_ENDS,
    Row("pos_time", ("embeddings.time_embeddings",)),
    *TRANSFORMERS_4_BLOCK,
    *both("blocks.{}.attn.qkv", f"{LAYER}.attention.attention.qkv"),
    *both("blocks.{}.time_norm", f"{LAYER}.temporal_layernorm"),
    *both("blocks.{}.time.qkv", f"{LAYER}.temporal_attention.attention.qkv"),
    *both("blocks.{}.time.proj", f"{LAYER}.temporal_attention.output.dense"),
    *both("blocks.{}.time_fc", f"{LAYER}.temporal_dense"),
]

PARTS = ("query", "key", "value")
LONG = "temporal_encoder.encoder.layer.{}"
VTN = [  # the authors' fork of SlowFast: timm's ViT and transformers' Longformer
    *(Row(f"space.{row.ours}", tuple(f"backbone.{t}" for t in row.theirs), row.way) for row in TIMM),
    Row("time.cls", ("cls_token",)),
    Row("time.pos", ("temporal_encoder.embeddings.position_embeddings.weight",)),
    Row("time.kind", ("temporal_encoder.embeddings.token_type_embeddings.weight",)),
    *both("time.norm", "temporal_encoder.embeddings.LayerNorm"),
    *both("time.blocks.{}.attn.qkv", *(f"{LONG}.attention.self.{x}" for x in PARTS)),
    *both("time.blocks.{}.qkv_global", *(f"{LONG}.attention.self.{x}_global" for x in PARTS)),
    *both("time.blocks.{}.attn.proj", f"{LONG}.attention.output.dense"),
    *both("time.blocks.{}.norm1", f"{LONG}.attention.output.LayerNorm"),
    *both("time.blocks.{}.mlp.fc1", f"{LONG}.intermediate.dense"),
    *both("time.blocks.{}.mlp.fc2", f"{LONG}.output.dense"),
    *both("time.blocks.{}.norm2", f"{LONG}.output.LayerNorm"),
]

TABLES: dict[str, list[Row]] = {
    "timm": TIMM,
    "torchvision": TORCHVISION,
    "transformers": TRANSFORMERS,
    "transformers 4": TRANSFORMERS_4,
    "videomae": VIDEOMAE,
    "videomae 4": VIDEOMAE_HUB,
    "videomae authors": VIDEOMAE_AUTHORS,
    "scenic": SCENIC,
    "scenic vivit2": SCENIC_2,
    "scenic vivit3": SCENIC_3,
    "timesformer": TIMESFORMER,
    "timesformer transformers": TIMESFORMER_TRANSFORMERS,
    "vtn": VTN,
    "torchvision mvit": TORCHVISION_MVIT,
    "slowfast mvit": SLOWFAST_MVIT,
}
