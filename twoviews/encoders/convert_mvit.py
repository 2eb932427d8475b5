"""Names of MViT's weights in torchvision and in SlowFast, its authors' library."""

from __future__ import annotations

from .convert_rows import Row, both

AXES = ("t", "h", "w")

TORCHVISION_MVIT = [
    *both("patch", "conv_proj"),
    Row("cls", ("pos_encoding.class_token",)),
    Row("pos", ("pos_encoding.spatial_pos",)),
    Row("pos_time", ("pos_encoding.temporal_pos",)),
    Row("pos_cls", ("pos_encoding.class_pos",)),
    *both("blocks.{}.norm1", "blocks.{}.norm1"),
    *both("blocks.{}.attn.qkv", "blocks.{}.attn.qkv"),
    *both("blocks.{}.attn.proj", "blocks.{}.attn.project.0"),
    *(Row(f"blocks.{{}}.attn.pool_{x}.conv.weight", (f"blocks.{{}}.attn.pool_{x}.pool.weight",)) for x in "qkv"),
    *(row for x in "qkv" for row in both(f"blocks.{{}}.attn.pool_{x}.norm", f"blocks.{{}}.attn.pool_{x}.norm_act.0")),
    *(Row(f"blocks.{{}}.attn.rel_{a}", (f"blocks.{{}}.attn.rel_pos_{a}",)) for a in AXES),
    *both("blocks.{}.norm2", "blocks.{}.norm2"),
    *both("blocks.{}.mlp.fc1", "blocks.{}.mlp.0"),
    *both("blocks.{}.mlp.fc2", "blocks.{}.mlp.3"),
    *both("blocks.{}.proj", "blocks.{}.project"),
    *both("norm", "norm"),
]

SLOWFAST_MVIT = [
    *both("patch", "patch_embed.proj"),
    Row("cls", ("cls_token",)),
    Row("pos", ("pos_embed_spatial",)),
    Row("pos_time", ("pos_embed_temporal",)),
    Row("pos_cls", ("pos_embed_class",)),
    *both("blocks.{}.norm1", "blocks.{}.norm1"),
    *both("blocks.{}.attn.qkv", "blocks.{}.attn.qkv"),
    *both("blocks.{}.attn.proj", "blocks.{}.attn.proj"),
    *(Row(f"blocks.{{}}.attn.pool_{x}.conv.weight", (f"blocks.{{}}.attn.pool_{x}.weight",)) for x in "qkv"),
    *(row for x in "qkv" for row in both(f"blocks.{{}}.attn.pool_{x}.norm", f"blocks.{{}}.attn.norm_{x}")),
    *(Row(f"blocks.{{}}.attn.rel_{a}", (f"blocks.{{}}.attn.rel_pos_{a}",)) for a in AXES),
    *both("blocks.{}.norm2", "blocks.{}.norm2"),
    *both("blocks.{}.mlp.fc1", "blocks.{}.mlp.fc1"),
    *both("blocks.{}.mlp.fc2", "blocks.{}.mlp.fc2"),
    *both("blocks.{}.proj", "blocks.{}.proj"),
    *both("norm", "norm"),
]
