"""Weights of other libraries in our encoders: every origin's names, files, and what must be refused."""

import copy
import pickle
import sys
from inspect import signature

import numpy as np
import pytest
import torch
from conftest import DATA
from safetensors.torch import save_file
from torch import nn

from twoviews.encoders import blocks
from twoviews.encoders.convert import back, load_into, with_weights
from twoviews.encoders.convert_files import read
from twoviews.encoders.mvit import mvit
from twoviews.encoders.spacetime import space_only, timesformer, vivit2, vivit3, vivit4
from twoviews.encoders.swin3d import swin3d
from twoviews.encoders.vit import vit, vivit1
from twoviews.encoders.vtn import vtn
from twoviews.errors import UserError

WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 16}

COMMON = {"image": 32, "patch": 8, "size": "two", "mlp": 2}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(blocks.SIZES, "two", (32, 2, 4))


def randomised(model, seed=0):
    """Every parameter N(0, .2): zeros and ones would prove nothing."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.2)
    return model.eval()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def unchanged(encoder, state):
    """Of a state that was loaded, the names that the encoder cannot give back bit for bit."""
    again = back(encoder, {name: torch.zeros_like(x) for name, x in state.items()})
    return sorted(name for name in state if not torch.equal(again[name], state[name]))


def our_vit(**more):
    return vit(image=16, patch=8, size="two", mlp=2, **more).eval()


def our_clips(**more):
    return vivit1(frames=4, image=16, patch=8, size="two", mlp=2, **more).eval()


def timm_vit():
    timm = pytest.importorskip("timm")
    sizes = {
        "patch_size": 8,
        "img_size": 16,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 4,
        "mlp_ratio": 2,
        "num_classes": 7,
    }
    model = timm.models.VisionTransformer(**sizes)
    return model, lambda x: model.forward_features(x), our_vit(), (2, 3, 16, 16)


def torchvision_vit():
    pytest.importorskip("torchvision")
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(16, 8, 2, 4, 32, 64)

    def run(x):
        x = model._process_input(x)
        return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], 1))

    return model, run, our_vit(), (2, 3, 16, 16)


def transformers_vit():
    transformers = pytest.importorskip("transformers")
    model = transformers.ViTForImageClassification(transformers.ViTConfig(patch_size=8, **WIDE))
    return model, lambda x: model.vit(x).last_hidden_state, our_vit(eps=1e-12), (2, 3, 16, 16)


def transformers_vivit():
    transformers = pytest.importorskip("transformers")
    config = transformers.VivitConfig(num_frames=4, tubelet_size=[2, 8, 8], **WIDE)
    model = transformers.VivitForVideoClassification(config)
    return model, lambda x: model.vivit(x.transpose(1, 2)).last_hidden_state, our_clips(), (2, 3, 4, 16, 16)


def transformers_videomae():
    transformers = pytest.importorskip("transformers")
    decoder = {"decoder_num_hidden_layers": 1, "decoder_hidden_size": 32, "decoder_num_attention_heads": 2}
    config = transformers.VideoMAEConfig(num_frames=4, patch_size=8, use_mean_pooling=False, **decoder, **WIDE)
    model = transformers.VideoMAEForPreTraining(config)
    ours = our_clips(pool="mean", positions="sine", gelu="erf", eps=1e-12)
    table = model.videomae.embeddings.position_embeddings
    torch.testing.assert_close(ours.pos, table, rtol=0, atol=1e-6)
    ours.pos.copy_(table)  # rounded from float64, which a comparison in float64 would see
    return model, lambda x: model.videomae(x.transpose(1, 2)).last_hidden_state, ours, (2, 3, 4, 16, 16)


OLD = {  # names that transformers wrote to the hub before 5
    "layers.": "encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "attention.query.bias": "attention.q_bias",  # of VideoMAE
    "attention.value.bias": "attention.v_bias",
}


def renamed(state, names):
    out = {}
    for name, x in state.items():
        for new, old in names.items():
            name = name.replace(new, old)
        out[name] = x
    return out


def as_old(state):
    names = dict(OLD) if any("q_proj" in name for name in state) else dict(list(OLD.items())[-2:])
    if "q_proj" in "".join(state):
        del names["attention.query.bias"], names["attention.value.bias"]
    return renamed(state, names)


PAIRS = [timm_vit, torchvision_vit, transformers_vit, transformers_vivit, transformers_videomae]


def ours_all(encoder, x):
    """(B, prefix + N, D)"""
    return encoder.encode(encoder.patches(x), encoder.grid(x))


@pytest.mark.parametrize("pair", PAIRS)
def test_what_a_file_holds_gives_their_outputs_and_goes_back_bit_for_bit(pair, tmp_path):
    model, run, ours, shape = pair()
    randomised(model)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    report = load_into(ours, file)
    assert report.left
    assert not report.resized
    assert not any("blocks" in name or "layers.0" in name for name in report.left if "decoder" not in name)
    with torch.no_grad():
        torch.testing.assert_close(ours_all(ours, x), run(x), rtol=0, atol=1e-5)
        model, ours, x = model.double(), ours.double(), x.double()
        torch.testing.assert_close(ours_all(ours, x), run(x), rtol=0, atol=1e-10)
    assert unchanged(ours, model.state_dict()) == report.left


@pytest.mark.parametrize("pair", [transformers_vit, transformers_vivit, transformers_videomae])
def test_names_of_the_hub_from_before_transformers_5(pair, tmp_path):
    model, _, ours, _ = pair()
    old = as_old(randomised(model).state_dict())
    assert old.keys() != model.state_dict().keys()
    torch.save(old, tmp_path / "pytorch_model.bin")
    other = copy.deepcopy(ours)
    load_into(other, tmp_path / "pytorch_model.bin")
    load_into(ours, model.state_dict())
    assert same(ours, other)


def test_a_head_is_listed_and_a_checkpoint_of_training_is_unpacked(tmp_path):
    model, *_, ours, _ = timm_vit()
    state = {f"module.{k}": v for k, v in randomised(model).state_dict().items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, "model_state": state, "optimizer_state": optimizer, "cfg": "a: 1"}, tmp_path / "w.pyth")
    report = load_into(ours, tmp_path / "w.pyth")
    assert report.left == ["module.head.bias", "module.head.weight"]
    assert str(report) == "weights of timm; not taken: module.head.bias, module.head.weight"
    assert torch.equal(ours.norm.weight, model.norm.weight)


def test_positions_of_another_grid_are_resized_and_said_so():
    model, *_ = timm_vit()
    theirs = randomised(model).state_dict()
    larger = vit(image=32, patch=8, size="two", mlp=2)
    assert load_into(larger, theirs).resized == ["pos resized from 2 x 2 to 4 x 4"]
    assert torch.equal(larger.pos[0, 0], theirs["pos_embed"][0, 0])
    torch.testing.assert_close(larger.pos[0, 1:], blocks.resized(theirs["pos_embed"][0, 1:], (1, 2, 2), (1, 4, 4)))
    mean = our_vit(pool="mean")
    assert "cls_token" in load_into(mean, theirs).left  # and its row of the positions stays behind
    assert torch.equal(mean.pos[0], theirs["pos_embed"][0, 1:])


def test_joint_positions_are_resized_along_time_and_an_unclear_grid_is_asked_for():
    theirs = vivit1(frames=12, image=16, patch=8, size="two", mlp=2).state_dict()  # 6 x 2 x 2
    report = load_into(our_clips(), theirs)
    assert report.resized == ["pos resized from 6 x 2 x 2 to 2 x 2 x 2"]
    theirs = vivit1(frames=16, image=16, patch=8, size="two", mlp=2).state_dict()  # 32: 8 x 2 x 2 or 2 x 4 x 4
    with pytest.raises(UserError, match=r"33 positions for pos are of 2 x 4 x 4 or 8 x 2 x 2, .* 2 x 2 x 2"):
        load_into(our_clips(), theirs)
    ours = our_clips()
    load_into(ours, theirs, grid=(8, 2, 2))
    torch.testing.assert_close(ours.pos[0, 1:], blocks.resized(theirs["pos"][0, 1:], (8, 2, 2), (2, 2, 2)))


def test_what_does_not_fit_is_said_in_one_line_and_changes_nothing():
    model, *_ = timm_vit()
    theirs = model.state_dict()
    before = our_vit()
    after = copy.deepcopy(before)

    def refused(encoder, state, match):
        with pytest.raises(UserError, match=match) as error:
            load_into(encoder, state)
        assert "\n" not in str(error.value)

    refused(after, {k: v for k, v in theirs.items() if k != "norm.bias"}, r"timm, fills 29 of .* 30 .* lacks norm.bias")
    refused(
        after, theirs | {"blocks.2.norm1.weight": torch.ones(32)}, "has more in its blocks .*: blocks.2.norm1.weight"
    )
    refused(after, theirs | {"blocks.0.ls1.gamma": torch.ones(32)}, "has more in its blocks .*: blocks.0.ls1.gamma")
    refused(after, theirs | {"norm.bias": torch.ones(31)}, r"fills norm.bias has the shape \(31,\).*\(32,\)")
    refused(after, theirs | {"pos_embed": torch.ones(1, 8, 32)}, "8 positions for pos are of no grid of places")
    split = transformers_vit()[0].state_dict()
    query = "vit.layers.0.attention.q_proj.weight"
    refused(after, split | {query: torch.ones(32, 31)}, r"\(32, 31\), .* are no shapes for blocks.0.attn.qkv.weight")
    refused(after, {"weight": torch.ones(3)}, "has names of none of timm, .*; it begins with weight")
    refused(after, {}, "has names of none of")
    refused(our_clips(), theirs, r"\(32, 3, 8, 8\).*init_from_image")
    box = vit(channels=3, image=16, patch=8, size="two", mlp=2)
    kernel = torch.ones(32, 3, 4, 4, 4)  # as many numbers, of another box
    refused(box, theirs | {"patch_embed.proj.weight": kernel}, r"patch.proj.weight has the shape \(32, 3, 4, 4, 4\)")
    assert all(
        torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    )
    with pytest.raises(UserError, match="unknown source 'timmm', did you mean 'timm'"):
        load_into(after, theirs, source="timmm")
    with pytest.raises(UserError, match="has names of none of torchvision"):
        load_into(after, theirs, source="torchvision")


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('a file was run')",)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.pyth", "w.safetensors", "checkpoint", "w.msgpack"])
def test_files_that_are_none_are_refused_in_one_line(name, tmp_path):
    file = tmp_path / name
    state = {"norm.weight": torch.ones(300), "norm.bias": torch.ones(300)}
    bad = [b"", b"these are words\n" * 9, pickle.dumps(Evil())]
    if name.endswith("safetensors"):
        save_file(state, file)
    elif name.startswith("w.p") or name.endswith("bin"):
        torch.save(state, file)
    else:
        file.write_bytes(pytest.importorskip("msgpack").packb({"params": {"norm": bytes(3000)}}))
    bad.append(file.read_bytes()[:-700])
    for data in bad:
        file.write_bytes(data)
        with pytest.raises(UserError) as error:
            read(file)
        assert str(file) in str(error.value)
        assert "\n" not in str(error.value)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"model_state": {"norm.weight": torch.ones(3)}, "args": Evil()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds Python objects beside tensors, which nothing here will run"):
        read(tmp_path / "w.pth")
    with pytest.raises(UserError, match="there is no file of weights"):
        read(tmp_path / "nothing.pth")


@pytest.mark.parametrize("build", [vit, vivit1, vivit2, vivit3, vivit4, timesformer, space_only, vtn])
def test_an_encoder_of_a_run_loads_and_every_factory_takes_a_file(build, tmp_path):
    ours = randomised(build(**COMMON))
    save_file(ours.state_dict(), tmp_path / "encoder.safetensors")
    other = build(**COMMON, weights=str(tmp_path / "encoder.safetensors"))
    assert (other.loaded.origin, other.loaded.left) == ("twoviews", [])
    assert same(ours, other)
    assert with_weights(ours, None) is ours


FLAX = DATA / "video" / "vivit_reference.npz"


@pytest.fixture(scope="module")
def scenic():
    if not FLAX.exists():
        pytest.skip(f"{FLAX.name} is not there; set TWOVIEWS_DATA to the folder of the data sets")
    return np.load(FLAX)


def flax_file(path, kind, scenic, chunk=None, dtype=None):
    """What scenic saves of a model: flax's msgpack with an optimizer beside the weights."""
    msgpack = pytest.importorskip("msgpack")

    def packed(x):
        x = torch.as_tensor(x)
        x = x if dtype is None else x.to(dtype)
        raw = x.contiguous().view(torch.uint8).numpy().tobytes()
        name = str(x.dtype).removeprefix("torch.")
        return msgpack.ExtType(1, msgpack.packb((tuple(x.shape), name, raw), use_bin_type=True))

    def array(x):
        if chunk is None or x.size <= chunk:
            return packed(x)
        parts = {str(i): packed(x.reshape(-1)[at : at + chunk]) for i, at in enumerate(range(0, x.size, chunk))}
        return {"__msgpack_chunked_array__": True, "shape": {str(i): n for i, n in enumerate(x.shape)}, "chunks": parts}

    tree = {}
    for name in scenic.files:
        if name.startswith(f"{kind}/params/"):
            *folders, last = name.split("/")[2:]
            at = tree
            for folder in folders:
                at = at.setdefault(folder, {})
            at[last] = array(scenic[name])
    step = msgpack.ExtType(3, msgpack.packb(((), "int32", bytes(4)), use_bin_type=True))
    moments = {"mu": {"embedding": {"kernel": packed(np.zeros((2, 8, 8, 3, 32), np.float32))}}}
    path.write_bytes(msgpack.packb({"optimizer": {"state": moments, "target": tree}, "global_step": step}))


VIVIT = {
    "spacetime": vivit1,
    "factorized_encoder": lambda **sizes: vivit2(time_depth=2, **sizes),
    "factorized_self_attention_block": vivit3,
    "factorized_dot_product_attention": vivit4,
}


@pytest.mark.parametrize("kind", VIVIT)
def test_scenic_checkpoints_give_the_authors_outputs(kind, scenic, tmp_path):
    file = tmp_path / "checkpoint_1"
    flax_file(file, kind, scenic, chunk=500)
    ours = VIVIT[kind](frames=8, tubelet=2, **COMMON).eval()
    report = load_into(ours, file)
    assert report.origin.startswith("scenic")
    head = [f"output_projection.{x}" for x in ("bias", "kernel")]
    assert report.left == ["global_step", *(f"optimizer.{name}" for name in head)]
    x = torch.from_numpy(scenic["input"]).permute(0, 4, 1, 2, 3)
    w, b = (torch.from_numpy(scenic[f"{kind}/params/output_projection/{n}"]) for n in ("kernel", "bias"))
    with torch.no_grad():
        torch.testing.assert_close(ours(x) @ w + b, torch.from_numpy(scenic[f"{kind}/output"]), rtol=0, atol=2e-6)
    theirs = {
        n.removeprefix(f"{kind}/params/").replace("/", "."): torch.from_numpy(scenic[n])
        for n in scenic.files
        if n.startswith(f"{kind}/params/")
    }
    assert unchanged(ours, theirs) == head


def test_flax_weights_in_bfloat16(scenic, tmp_path):
    flax_file(tmp_path / "w.msgpack", "spacetime", scenic, dtype=torch.bfloat16)
    ours = vivit1(frames=8, tubelet=2, **COMMON)
    load_into(ours, tmp_path / "w.msgpack")
    scale = torch.from_numpy(scenic["spacetime/params/Transformer/encoder_norm/scale"])
    assert torch.equal(ours.norm.weight, scale.bfloat16().float())


def test_flax_files_without_msgpack_say_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "checkpoint").write_bytes(b"\x81\xa1a\x01")
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(UserError, match="pip install msgpack"):
        read(tmp_path / "checkpoint")


def transformers_timesformer():
    transformers = pytest.importorskip("transformers")
    config = transformers.TimesformerConfig(**WIDE | {"image_size": 32}, patch_size=8, num_frames=3)
    return transformers.TimesformerForVideoClassification(config)


AUTHORS = {  # of TimeSformer, from transformers' names
    "timesformer.": "model.",
    "classifier": "model.head",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.time_embeddings": "time_embed",
    "encoder.layer.": "blocks.",
    "temporal_attention.attention.qkv": "temporal_attn.qkv",
    "temporal_attention.output.dense": "temporal_attn.proj",
    "temporal_layernorm": "temporal_norm1",
    "temporal_dense": "temporal_fc",
    "attention.attention.qkv": "attn.qkv",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
}


def test_timesformer_from_transformers_and_from_its_authors(tmp_path):
    model = randomised(transformers_timesformer())
    x = torch.randn(2, 3, 3, 32, 32)
    ours, other = (timesformer(frames=3, **COMMON).eval() for _ in range(2))
    assert load_into(ours, model.state_dict()).left == ["classifier.bias", "classifier.weight"]
    torch.save({"model_state": renamed(model.state_dict(), AUTHORS), "cfg": "TIMESFORMER: {}"}, tmp_path / "w.pyth")
    report = load_into(other, tmp_path / "w.pyth")
    assert (report.origin, report.left) == ("timesformer", ["model.head.bias", "model.head.weight"])
    assert same(ours, other)
    assert unchanged(ours, model.state_dict()) == ["classifier.bias", "classifier.weight"]
    with torch.no_grad():
        theirs = model.timesformer(x.transpose(1, 2)).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(x), theirs, rtol=0, atol=1e-5)
        theirs = model.double().timesformer(x.double().transpose(1, 2)).last_hidden_state[:, 0]
        torch.testing.assert_close(ours.double()(x.double()), theirs, rtol=0, atol=1e-10)


def test_timesformer_of_more_frames_and_pixels_is_resized_each_axis_for_itself():
    state = randomised(transformers_timesformer()).state_dict()
    ours = timesformer(frames=6, **COMMON | {"image": 48})
    report = load_into(ours, state)
    assert report.resized == ["pos resized from 4 x 4 to 6 x 6", "pos_time resized from 3 to 6"]


def vtn_reference():
    """VTN put together as its authors do: timm's ViT for frames, transformers' Longformer over them."""
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    more = {"max_position_embeddings": 288, "attention_window": [6, 6], "vocab_size": 3, "type_vocab_size": 2}
    more |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-12}
    more |= {"pad_token_id": 1, "bos_token_id": None, "eos_token_id": None, "sep_token_id": 2}
    model = nn.Module()
    sizes = {"patch_size": 8, "img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    model.backbone = timm.models.VisionTransformer(**sizes, num_classes=0)
    model.cls_token = nn.Parameter(torch.randn(1, 1, 32))
    config = transformers.LongformerConfig(**WIDE, **more)
    model.temporal_encoder = transformers.LongformerModel(config, add_pooling_layer=False)
    model.mlp_head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.GELU(), nn.Dropout(), nn.Linear(32, 5))
    return model


def vtn_output(model, x):
    """(B, C, F, H, W) -> (B, D)"""
    b, _, f = x.shape[:3]
    frames = model.backbone(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, f))
    tokens = torch.cat([model.cls_token.expand(b, -1, -1), frames], 1)
    first = torch.zeros(b, f + 1, dtype=torch.long)
    first[:, 0] = 1
    places = torch.cat([torch.tensor([286]), torch.arange(f)]).expand(b, -1)
    out = model.temporal_encoder(
        inputs_embeds=tokens,
        attention_mask=torch.ones_like(first),
        global_attention_mask=first,
        token_type_ids=first,
        position_ids=places,
    )
    return out.last_hidden_state[:, 0]


def test_vtn_from_its_authors_fork_of_slowfast(tmp_path):
    model = randomised(vtn_reference())
    state = {k: v for k, v in model.state_dict().items() if "word_embeddings" not in k}
    torch.save({"model_state": state}, tmp_path / "VTN.pyth")
    ours = vtn(frames=14, time_depth=2, window=6, **COMMON).eval()
    report = load_into(ours, tmp_path / "VTN.pyth")
    assert report.origin == "vtn"
    assert all(name.startswith("mlp_head") for name in report.left)
    assert len(report.left) == 6
    assert unchanged(ours, state) == report.left
    x = torch.randn(2, 3, 14, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), vtn_output(model, x), rtol=0, atol=1e-5)


SLOWFAST = {  # MViT's names, from torchvision's
    "conv_proj": "patch_embed.proj",
    "pos_encoding.class_token": "cls_token",
    "pos_encoding.spatial_pos": "pos_embed_spatial",
    "pos_encoding.temporal_pos": "pos_embed_temporal",
    "pos_encoding.class_pos": "pos_embed_class",
    ".project.0": ".proj",
    ".project": ".proj",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
    **{f"pool_{x}.pool": f"pool_{x}" for x in "qkv"},
    **{f"pool_{x}.norm_act.0": f"norm_{x}" for x in "qkv"},
    "head.1": "head.projection",
}


def torchvision_mvit(version):
    pytest.importorskip("torchvision")
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    two = version == 2
    wide = [(32, 64), (64, 128), (128, 128), (128, 128)] if not two else [(32, 32), (32, 64), (64, 128), (128, 128)]
    stride, reach = (1, 2, 2, 1), (4, 2, 1, 1)
    blocks = [
        MSBlockConfig(
            1 << min(i, 2),
            *wide[i],
            [3, 3, 3] if two or s > 1 else [],
            [3, 3, 3],
            [1, s, s] if two or s > 1 else [],
            [1, reach[i], reach[i]],
        )
        for i, s in enumerate(stride)
    ]
    flags = {"residual_pool": two, "residual_with_cls_embed": False, "rel_pos_embed": two, "proj_after_attn": two}
    return MViT((32, 32), 8, blocks, **flags, dropout=0, num_classes=5)


@pytest.mark.parametrize("version", [1, 2])
def test_mvit_from_torchvision_and_slowfast(version, tmp_path):
    model = randomised(torchvision_mvit(version))
    state = model.state_dict()
    ours, other = (mvit(frames=8, image=32, version=version, size="test").eval() for _ in range(2))
    assert load_into(ours, state).left == ["head.1.bias", "head.1.weight"]
    assert unchanged(ours, state) == ["head.1.bias", "head.1.weight"]
    shapes = {"cls_token": (1, 1, -1), "pos_embed_spatial": (1, 64, 32), "pos_embed_temporal": (1, 4, 32)}
    theirs = {k: v.reshape(shapes.get(k, v.shape)) for k, v in renamed(state, SLOWFAST).items()}
    torch.save({"model_state": theirs}, tmp_path / "MVIT.pyth")
    report = load_into(other, tmp_path / "MVIT.pyth")
    assert (report.origin, report.left) == ("slowfast mvit", ["head.projection.bias", "head.projection.weight"])
    assert same(ours, other)
    x = torch.randn(2, 3, 8, 32, 32)
    model.head = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x), rtol=0, atol=1e-5)
        model, ours, x = model.double(), ours.double(), x.double()
        torch.testing.assert_close(ours(x), model(x), rtol=0, atol=1e-10)


def test_mvit_of_another_size_gets_its_distances_resized():
    state = mvit(frames=8, image=32, size="test").state_dict()
    longer = mvit(frames=16, image=64, size="test")
    resized = load_into(longer, state).resized
    moved = {"t": "7 to 15", "h": "15 to 31", "w": "15 to 31"}
    assert resized[:3] == [f"blocks.0.attn.rel_{axis} resized from {n}" for axis, n in moved.items()]
    assert torch.isfinite(longer(torch.randn(1, 3, 16, 64, 64))).all()


def test_swin3d_has_torchvisions_names():
    pytest.importorskip("torchvision")
    from torchvision.models.video import swin3d_t

    with torch.device("meta"):
        names = swin3d_t().state_dict()
    ours = swin3d(size="tiny")
    state = {
        name: torch.rand(x.shape) if x.is_floating_point() else torch.zeros(x.shape, dtype=x.dtype)
        for name, x in names.items()
    }
    assert load_into(ours, state).left == ["head.bias", "head.weight"]
    assert torch.equal(ours.features[4][5].mlp[3].weight, state["features.4.5.mlp.3.weight"])


@pytest.mark.parametrize("build", [vivit1, vivit2, vivit3, timesformer, vtn])
def test_an_encoder_of_clips_begins_as_the_photos_encoder_in_a_file(build, tmp_path):
    torch.manual_seed(0)
    image = vit(image=32, patch=8, size="test", mlp=2)
    for p in image.parameters():
        torch.nn.init.normal_(p, std=0.1)
    save_file(image.state_dict(), tmp_path / "photos.safetensors")
    given = {"frames": 4} if "frames" in signature(build).parameters else {}
    encoder = build(image=32, patch=8, size="test", mlp=2, **given, weights=str(tmp_path / "photos.safetensors"))
    assert "of photos" in str(encoder.loaded)
    space = getattr(encoder, "space", encoder)
    for name, p in image.named_parameters():
        if name.startswith("blocks.") and "norm" not in name:
            assert torch.equal(space.state_dict()[name], p), name
    assert torch.isfinite(encoder(torch.randn(1, 3, 4, 32, 32))).all()
    with pytest.raises(UserError, match="fills|names of none"):
        build(image=32, patch=8, size="tiny", **given, weights=str(tmp_path / "photos.safetensors"))
