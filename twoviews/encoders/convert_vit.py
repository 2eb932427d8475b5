"""Names of ViT's and ViViT's weights in timm, torchvision, transformers, VideoMAE and scenic."""

from __future__ import annotations

from .convert_rows import FLAT, FROM_HEADS, PIXELS, PLAIN, TO_HEADS, TURNED, Row, Way, both

TIMM = [  # also facebookresearch's ViTs
    *both("patch.proj", "patch_embed.proj"),
    Row("cls", ("cls_token",)),
    Row("pos", ("pos_embed",)),
    *both("blocks.{}.norm1", "blocks.{}.norm1"),
    *both("blocks.{}.attn.qkv", "blocks.{}.attn.qkv"),
    *both("blocks.{}.attn.proj", "blocks.{}.attn.proj"),
    *both("blocks.{}.norm2", "blocks.{}.norm2"),
    *both("blocks.{}.mlp.fc1", "blocks.{}.mlp.fc1"),
    *both("blocks.{}.mlp.fc2", "blocks.{}.mlp.fc2"),
    *both("norm", "norm"),
]

TORCHVISION_BLOCK = "encoder.layers.encoder_layer_{}"
TORCHVISION = [
    *both("patch.proj", "conv_proj"),
    Row("cls", ("class_token",)),
    Row("pos", ("encoder.pos_embedding",)),
    *both("blocks.{}.norm1", f"{TORCHVISION_BLOCK}.ln_1"),
    Row("blocks.{}.attn.qkv.weight", (f"{TORCHVISION_BLOCK}.self_attention.in_proj_weight",)),
    Row("blocks.{}.attn.qkv.bias", (f"{TORCHVISION_BLOCK}.self_attention.in_proj_bias",)),
    *both("blocks.{}.attn.proj", f"{TORCHVISION_BLOCK}.self_attention.out_proj"),
    *both("blocks.{}.norm2", f"{TORCHVISION_BLOCK}.ln_2"),
    *both("blocks.{}.mlp.fc1", f"{TORCHVISION_BLOCK}.mlp.0"),
    *both("blocks.{}.mlp.fc2", f"{TORCHVISION_BLOCK}.mlp.3"),
    *both("norm", "encoder.ln"),
]

TRANSFORMERS_ENDS = [
    *both("patch.proj", "embeddings.patch_embeddings.projection"),
    Row("cls", ("embeddings.cls_token",)),
    Row("pos", ("embeddings.position_embeddings",)),
    *both("norm", "layernorm"),
]
TRANSFORMERS = [  # from 5
    *TRANSFORMERS_ENDS,
    *both("blocks.{}.norm1", "layers.{}.layernorm_before"),
    *both("blocks.{}.attn.qkv", *(f"layers.{{}}.attention.{x}_proj" for x in "qkv")),
    *both("blocks.{}.attn.proj", "layers.{}.attention.o_proj"),
    *both("blocks.{}.norm2", "layers.{}.layernorm_after"),
    *both("blocks.{}.mlp.fc1", "layers.{}.mlp.fc1"),
    *both("blocks.{}.mlp.fc2", "layers.{}.mlp.fc2"),
]
TRANSFORMERS_4_BLOCK = [
    *both("blocks.{}.norm1", "encoder.layer.{}.layernorm_before"),
    *both("blocks.{}.attn.proj", "encoder.layer.{}.attention.output.dense"),
    *both("blocks.{}.norm2", "encoder.layer.{}.layernorm_after"),
    *both("blocks.{}.mlp.fc1", "encoder.layer.{}.intermediate.dense"),
    *both("blocks.{}.mlp.fc2", "encoder.layer.{}.output.dense"),
]
INNER = "encoder.layer.{}.attention.attention"
TRANSFORMERS_4 = [
    *TRANSFORMERS_ENDS,
    *TRANSFORMERS_4_BLOCK,
    *both("blocks.{}.attn.qkv", *(f"{INNER}.{x}" for x in ("query", "key", "value"))),
]
VIDEOMAE = [  # no bias of keys, which a softmax would not see
    *TRANSFORMERS_ENDS,
    *TRANSFORMERS_4_BLOCK,
    Row("blocks.{}.attn.qkv.weight", tuple(f"{INNER}.{x}.weight" for x in ("query", "key", "value"))),
    Row("blocks.{}.attn.qkv.bias", (f"{INNER}.query.bias", None, f"{INNER}.value.bias")),
]
VIDEOMAE_HUB = [*VIDEOMAE[:-1], Row("blocks.{}.attn.qkv.bias", (f"{INNER}.q_bias", None, f"{INNER}.v_bias"))]
VIDEOMAE_AUTHORS = [  # facebookresearch's names but for the bias; `encoder.` before them where a decoder is beside
    *(row for row in TIMM if row.ours != "blocks.{}.attn.qkv.bias"),
    Row("blocks.{}.attn.qkv.bias", ("blocks.{}.attn.q_bias", None, "blocks.{}.attn.v_bias")),
]


def flax_layer(ours: str, *theirs: str, way: Way = TURNED) -> list[Row]:
    """A layer's kernel and bias."""
    bias = FLAT if way in (TO_HEADS, FROM_HEADS) else PLAIN
    return [
        Row(f"{ours}.weight", tuple(f"{t}.kernel" for t in theirs), way),
        Row(f"{ours}.bias", tuple(f"{t}.bias" for t in theirs), bias),
    ]


def flax_norm(ours: str, theirs: str) -> list[Row]:
    return [Row(f"{ours}.weight", (f"{theirs}.scale",)), Row(f"{ours}.bias", (f"{theirs}.bias",))]


def flax_attention(ours: str, theirs: str) -> list[Row]:
    return [
        *flax_layer(f"{ours}.qkv", *(f"{theirs}.{x}" for x in ("query", "key", "value")), way=TO_HEADS),
        *flax_layer(f"{ours}.proj", f"{theirs}.out", way=FROM_HEADS),
    ]


def flax_blocks(ours: str, theirs: str) -> list[Row]:
    """A stack of pre-norm blocks as flax's ViTs have them."""
    block = f"{theirs}.encoderblock_{{}}"
    return [
        *flax_norm(f"{ours}.{{}}.norm1", f"{block}.LayerNorm_0"),
        *flax_attention(f"{ours}.{{}}.attn", f"{block}.MultiHeadDotProductAttention_0"),
        *flax_norm(f"{ours}.{{}}.norm2", f"{block}.LayerNorm_1"),
        *flax_layer(f"{ours}.{{}}.mlp.fc1", f"{block}.MlpBlock_0.Dense_0"),
        *flax_layer(f"{ours}.{{}}.mlp.fc2", f"{block}.MlpBlock_0.Dense_1"),
    ]


SCENIC = [  # models 1 and 4 of ViViT, and scenic's ViT
    *flax_layer("patch.proj", "embedding", way=PIXELS),
    Row("cls", ("cls",)),
    Row("pos", ("Transformer.posembed_input.pos_embedding",)),
    *flax_blocks("blocks", "Transformer"),
    *flax_norm("norm", "Transformer.encoder_norm"),
]
