"""Export: what is written is read again here by the loaders of others, not by ours."""

import json
import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import sklearn
import timm
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms import v2

import twoviews
from twoviews import Method, Out, Run, cli, fit, photos
from twoviews.after import export
from twoviews.data.decode import decode
from twoviews.data.views import center, two_crops
from twoviews.encoders.resnet import Basic, ResNet, resnet18
from twoviews.encoders.small import small
from twoviews.encoders.timm import timm_encoder
from twoviews.encoders.vit import vit
from twoviews.errors import UserError
from twoviews.export import FORMATS, Preparation, export_encoder, load_network, write
from twoviews.export.huggingface import processor
from twoviews.methods import MoCo, SimCLR

DOCS = Path(__file__).parents[1] / "docs" / "elsewhere.md"
JPEGS = sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
ANY = ["safetensors", "onnx", "torch-export", "huggingface"]


def a_run(channels=3, size=12, **parts):
    data = np.random.default_rng(0).integers(0, 256, (24, channels, size + 2, size + 2), np.uint8)
    parts = {
        "data": partial(photos, data=(data, np.arange(24) % 2)),
        "views": partial(two_crops, size=size),
        "test_view": partial(center, size=size),
        "encoder": partial(small, width=4),
        "method": partial(SimCLR, dim=4, hidden=8),
        "epochs": 1,
        "batch_size": 8,
    } | parts
    return Run(**parts)


@pytest.fixture(scope="module")
def moco(tmp_path_factory):
    """A finished run whose data cannot be found again: an array from Python."""
    method = partial(MoCo, dim=4, hidden=8, queue=512)
    return fit(a_run(method=method), tmp_path_factory.mktemp("export") / "moco", quiet=True)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return fit(a_run(size=32, encoder=resnet18), tmp_path_factory.mktemp("export") / "runs" / "photos", quiet=True)


@pytest.fixture
def tv(capsys, monkeypatch):
    def run(*args):
        monkeypatch.setattr("sys.argv", ["twoviews", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run


def network_of(format, folder, head):
    """x -> (h,) or (h, z), as somebody does who has no folder of ours but the export."""
    if format == "onnx":
        session = onnxruntime.InferenceSession(folder / "encoder.onnx")
        names = [o.name for o in session.get_outputs()]
        assert names == (["h", "z"] if head else ["h"])
        assert [(i.name, i.shape[1:]) for i in session.get_inputs()] == [("image", [3, 12, 12])]
        return lambda x: [torch.from_numpy(y) for y in session.run(names, {"image": x.numpy()})]
    if format == "torch-export":
        network = torch.export.load(folder / "encoder.pt2").module()
        return network if head else lambda x: [network(x)]
    if format == "huggingface" and head:
        return load_network(folder)
    if format == "huggingface":
        return lambda x: [twoviews.load_encoder(folder)(x)]
    weights = load_file(folder / "encoder.safetensors")
    encoder, method = small(width=4), MoCo(small(width=4), dim=4, hidden=8, queue=512)
    if head:
        encoder.load_state_dict({k[8:]: v for k, v in weights.items() if k.startswith("encoder.")})
        method.head.load_state_dict({k[16:]: v for k, v in weights.items() if k.startswith("projection.head.")})
    else:
        encoder.load_state_dict(weights)
    return lambda x: [h := encoder.eval()(x), method.eval().project(h)][: 1 + head]


@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_a_vit_leaves_with_any_number_of_photos(format, tmp_path):
    encoder = partial(vit, size="test", patch=4, image=12)
    result = fit(a_run(encoder=encoder), tmp_path / "run", quiet=True)
    network = network_of(format, export(result.folder, format, out=tmp_path / "out", quiet=True), False)
    for items in (1, 3):
        x = torch.randn(items, 3, 12, 12)
        with torch.no_grad():
            torch.testing.assert_close(network(x)[0], result.method.encoder.eval()(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("format", ANY)
def test_an_export_read_elsewhere_gives_the_same(format, head, moco, tmp_path, capfd):
    folder = export(moco.folder, format, out=tmp_path / "out", head=head, quiet=True)
    assert capfd.readouterr() == ("", "")  # exporters talk a lot
    assert {f.name for f in folder.iterdir()} == {*FORMATS[format].files, "preprocessing.json"}
    assert sum(f.stat().st_size for f in folder.iterdir()) < 250_000  # no queue, no slow weights
    network, method = network_of(format, folder, head), moco.method.eval()
    for items in (1, 2, 5):
        x = torch.randn(items, 3, 12, 12)
        with torch.no_grad():
            h = method.encoder(x)
            wanted, given = [h, method.project(h)][: 1 + head], network(x)
        assert len(wanted) == len(given)
        for a, b in zip(wanted, given, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    facts = json.loads((folder / "preprocessing.json").read_text())
    assert facts["outputs"] == {"h": ["B", 16]} | ({"z": ["B", 4]} if head else {})
    assert (facts["format"], facts["size"], facts["channels"], facts["mean"]) == (format, 12, "RGB", [0.5] * 3)
    assert facts["compared"]["largest_difference"] <= facts["compared"]["allowed"] == 1e-4
    if format != "huggingface":
        inside = facts_inside(format, folder)
        assert all(
            json.loads(inside[k]) == facts[k] for k in ("input", "outputs", "mean", "std", "steps", "torchvision")
        )


def facts_inside(format, folder):
    """What the file itself says, for those who get it without its folder."""
    if format == "onnx":
        return onnxruntime.InferenceSession(folder / "encoder.onnx").get_modelmeta().custom_metadata_map
    if format == "torch-export":
        torch.export.load(folder / "encoder.pt2", extra_files=(extra := {"preprocessing.json": ""}))
        return {k: v if isinstance(v, str) else json.dumps(v) for k, v in json.loads(extra.popitem()[1]).items()}
    with safe_open(folder / "encoder.safetensors", "pt") as file:
        return file.metadata()


@pytest.mark.parametrize("jpeg", JPEGS, ids=lambda p: p.name)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (3, 97), (1, 32)])
def test_the_stated_preprocessing_is_what_twoviews_does(jpeg, channels, size):
    names = {}
    exec(Preparation(size, channels).code(), names)
    for box in [None, (0, 0, 640, 417), (3, 0, 333, 427), (0, 0, 101, 100), (0, 0, 20, 23)]:
        photo = Image.open(jpeg).crop(box) if box else Image.open(jpeg)
        pixels = decode(photo, channels)[0]
        ours = center(size)(pixels[None], torch.tensor([pixels.shape[1:]]))[0][0]
        torch.testing.assert_close(names["prepare"](photo), ours, atol=4e-5, rtol=0)  # 1e-5 of a pixel in [0, 1]


def test_photos_with_many_channels_are_prepared_from_arrays():
    names, pixels = {}, torch.randint(0, 256, (5, 40, 33), dtype=torch.uint8)
    exec(Preparation(16, 5).code(), names)
    ours = center(16)(pixels[None], torch.tensor([[40, 33]]))[0][0]
    torch.testing.assert_close(names["prepare"](pixels), ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "channels", "size"), [("test_vit", 3, 32), ("test_resnet", 1, 24)])
def test_timm_encoders_go_back_to_timm(name, channels, size, tmp_path):
    more = {"img_size": size} if "vit" in name else {}
    encoder = partial(timm_encoder, name=name, channels=channels, **more)
    result = fit(a_run(channels, size, encoder=encoder), tmp_path / "run", quiet=True)
    folder, x = export(result, "timm", quiet=True), torch.randn(3, channels, size, size)
    wanted = result.method.encoder.eval().to(memory_format=torch.contiguous_format)(x)  # as a loaded one lies in memory
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    torch.testing.assert_close(loaded(x), wanted)
    loaded = timm.create_model(name, num_classes=0, in_chans=channels, **more).eval()
    loaded.load_state_dict(load_file(folder / "model.safetensors"))
    torch.testing.assert_close(loaded(x), wanted)
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"], config["crop_pct"]) == ([0.5] * channels, [0.25] * channels, 1.0)
    assert not {"license", "tag", "origin_url"} & config.keys()  # they are those of timm's weights
    with pytest.raises(UserError, match=f"torchvision takes ResNets, not timm:{name}: safetensors, onnx"):
        export(result.folder, "torchvision", quiet=True)


def test_every_snippet_of_the_guide_runs_in_its_order(resnet, monkeypatch, tv):
    monkeypatch.chdir(resnet.folder.parent.parent)
    Image.open(JPEGS[0]).save("photo.jpg")
    text, names, ran = DOCS.read_text(), {"__name__": "guide"}, []
    for command, block in re.findall(r"^    (twoviews [^\n]*)$|^```python\n(.*?)```", text, flags=re.S | re.M):
        if command:
            code, out, err = tv(*shlex.split(command)[1:])
            assert code == 0, err
            assert Path(out.strip()).is_dir()
            ran.append(command)
        else:
            exec(compile(block, "docs/elsewhere.md", "exec"), names)
            ran.append(block)
    assert len(ran) == text.count("```python") + text.count("    twoviews ") > 15
    assert {to for to in FORMATS if any(f"--to {to}" in r for r in ran)} == FORMATS.keys()
    assert Preparation(32, 3).code() + "\n" in ran  # the guide shows what preprocessing.json holds


def run_card(folder, monkeypatch, **names):
    """Execute the card's Python beside the folder, as a reader would; what it leaves."""
    monkeypatch.chdir(folder.parent)
    Image.open(JPEGS[0]).save("photo.jpg")
    text = (folder / "README.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        exec(compile(block, "README.md", "exec"), names)
    return text, names


@pytest.mark.parametrize("head", [False, True])
def test_the_model_card_says_what_is_true(head, moco, tmp_path, monkeypatch):
    folder = export(moco.folder, "huggingface", out=tmp_path / "mine", head=head, quiet=True)
    text, names = run_card(folder, monkeypatch)
    photo = decode(Path("photo.jpg").read_bytes(), 3)[0]
    x = center(12)(photo[None], torch.tensor([photo.shape[1:]]))[0]
    method = moco.method.eval()
    torch.testing.assert_close(names["h"], method.encoder(x), atol=1e-4, rtol=0)
    if head:
        torch.testing.assert_close(names["z"], method.project(names["h"]), atol=1e-4, rtol=0)
    header = ModelCard.load(folder / "README.md").data
    assert (header.license, header.library_name, header.pipeline_tag) == (
        "unknown",
        "twoviews",
        "image-feature-extraction",
    )
    assert {"twoviews", "moco", "small"} <= set(header.tags)
    for row, scores in moco.table.cells().items():
        assert f"| {row} | {' | '.join(scores.values())} |" in text
    assert moco.table.verdict in text
    assert "`MoCo(dim=4, hidden=8, queue=512, temperature=0.2" in text
    assert not any(str(tmp_path.parent) in f.read_text() for f in folder.iterdir() if f.suffix != ".safetensors")


def test_a_run_that_was_not_measured_says_so_on_its_card(moco, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(moco.folder, run)
    for held, said in (('{"verdict": "Not measured: no item"}', "Not measured: no item"), ("{}", "Not measured.")):
        (run / "evaluation.json").write_text(held)
        card = (twoviews.export(run, "huggingface", quiet=True) / "README.md").read_text()
        assert f"## Figures\n\n{said}\n\n## Training" in card


def test_a_card_of_a_resnet_loads_without_twoviews(resnet, tmp_path, monkeypatch):
    (resnet.folder / "evaluation.json").rename(tmp_path / "evaluation.json")
    try:
        folder = export(resnet.folder, "huggingface", out=tmp_path / "mine", quiet=True)
    finally:
        (tmp_path / "evaluation.json").rename(resnet.folder / "evaluation.json")
    text, names = run_card(folder, monkeypatch)
    assert "Not measured." in text
    assert type(names["encoder"]).__module__ == "torchvision.models.resnet"
    ours = twoviews.load_encoder(resnet.folder)(names["prepare"](names["photo"])[None])
    torch.testing.assert_close(names["h"], ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("jpeg", JPEGS, ids=lambda p: p.name)
@pytest.mark.parametrize("size", [32, 96, 224])
def test_the_image_processor_comes_as_near_as_the_card_says(jpeg, size):
    """transformers' BitImageProcessor in torchvision's words: its fields, its order, its rounding."""
    has, names = processor(Preparation(size, 3)), {}
    assert (has["image_processor_type"], has["resample"]) == ("BitImageProcessor", Image.Resampling.BILINEAR)
    steps = [v2.PILToTensor(), v2.Resize(has["size"]["shortest_edge"], antialias=True)]
    steps += [v2.CenterCrop(list(has["crop_size"].values())), v2.ToDtype(torch.float32)]
    steps += [v2.Lambda(lambda x: x * has["rescale_factor"]), v2.Normalize(has["image_mean"], has["image_std"])]
    exec(Preparation(size, 3).code(), names)
    theirs, ours = v2.Compose(steps)(Image.open(jpeg)), names["prepare"](Image.open(jpeg))
    assert theirs.shape == ours.shape
    assert (theirs - ours).abs().mean() < 0.12


class Own(nn.Module):
    """An encoder of a user's own that does what the test asks for."""

    dim = 4

    def __init__(self, does="nothing", channels=3):
        super().__init__()
        self.does, self.linear = does, nn.Linear(channels * 144, 4)

    def forward(self, x):
        h = self.linear(x.flatten(1))
        if self.does == "svd":
            return h + torch.linalg.svdvals(x[:, 0])[:, :4]
        if self.does == "custom" and not self.training:  # it has no gradient
            return torch.ops.twoviews_test.odd(h)
        if self.does == "branch":
            return h if x.sum() > 0 else -h
        if self.does == "two rows":
            return h.reshape(2, 4) if len(x) == 2 else h
        return h


@torch.library.custom_op("twoviews_test::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@odd.register_fake
def _(x):
    return torch.empty_like(x)


class Plain(Method):
    """A method without a projection."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch):
        a, b = (self.encoder(v) for v in batch.views)
        return Out((a - b).square().mean(), z=a)


class Tied(SimCLR):
    """A projection that uses a part without calling it."""

    def project(self, h):
        return nn.functional.linear(h, self.head[0].weight)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    return lambda does="nothing", method=Plain: fit(
        a_run(encoder=partial(Own, does), method=method), folder / f"{does} {method.__name__}", fresh=True, quiet=True
    )


def test_encoders_of_ones_own(mine, tmp_path):
    result, x = mine(), torch.randn(3, 3, 12, 12)
    wanted = result.method.encoder.eval()(x)
    for format in ("onnx", "torch-export"):
        folder = export(result, format, out=tmp_path / format, quiet=True)
        torch.testing.assert_close(network_of(format, folder, False)(x)[0], wanted, atol=1e-4, rtol=0)
    folder = export(result, "huggingface", out=tmp_path / "mine", quiet=True)
    torch.testing.assert_close(twoviews.load_encoder(folder, encoder=Own())(x), wanted)
    assert 'load_encoder("mine", encoder=Own())' in (folder / "README.md").read_text()
    weights = load_file(export(result, "safetensors", quiet=True) / "encoder.safetensors")
    assert weights.keys() == {"linear.weight", "linear.bias"}
    with pytest.raises(UserError, match="'Own' of test_export is your own code"):
        export(result.folder, "onnx")
    with pytest.raises(UserError, match="Plain has no projection: leave --head out"):
        export(result, "onnx", head=True)


def test_a_projection_that_is_used_without_being_called(mine, tmp_path):
    result = mine(method=Tied)
    folder, x = export(result, "safetensors", out=tmp_path / "a", head=True, quiet=True), torch.randn(2, 3, 12, 12)
    weights = load_file(folder / "encoder.safetensors")
    h = result.method.encoder.eval()(x)
    z = nn.functional.linear(h, weights["projection.head.0.weight"])
    torch.testing.assert_close(result.method.project(h), z)
    with pytest.raises(UserError, match="the projection of Tied is your own code.*leave --head out"):
        export(result, "huggingface", out=tmp_path / "b", head=True)


@pytest.mark.parametrize(
    ("does", "format", "says"),
    [
        (
            "svd",
            "onnx",
            r"ONNX cannot take Own: the operator aten\._linalg_svd\.default \(No ONNX fun.*; use torch-exp",
        ),
        ("custom", "onnx", r"ONNX cannot take Own: the operator twoviews_test\.odd\.default "),
        ("branch", "onnx", r"cannot take Own: .* at `return h if x.sum\(\) > 0 else -h`; use safetensors"),
        ("branch", "torch-export", r"torch.export cannot take Own: .* at `return h if x.sum\(\) > 0 else -h`"),
        ("two rows", "torch-export", r"torch.export cannot take Own: .*[Cc]onstraint"),
    ],
)
def test_what_an_exporter_cannot_take_is_named_in_one_line(does, format, says, mine, capfd):
    result = mine(does)
    with pytest.raises(UserError, match=says) as error:
        export(result, format)
    assert "\n" not in str(error.value)
    assert not (result.folder / f"export-{format}").exists()
    assert capfd.readouterr() == ("", "")
    assert export(result, "safetensors", quiet=True).is_dir()


def test_an_export_that_reads_as_something_else_is_not_kept(moco, tmp_path, monkeypatch):
    earlier = export(moco.folder, "safetensors", out=tmp_path / "out", quiet=True)
    before = {f.name: f.read_bytes() for f in earlier.iterdir()}
    for change in (lambda h: h * 1.001, lambda h: h * torch.nan, lambda h: h[:, 1:], lambda h: torch.zeros_like(h)):
        lies = FORMATS["safetensors"]._replace(load=lambda it, folder, change=change: lambda x: change(it.network(x)))
        monkeypatch.setitem(FORMATS, "safetensors", lies)
        with pytest.raises(UserError, match="small gives other values .* nothing was kept"):
            export(moco.folder, "safetensors", out=tmp_path / "out")
        with pytest.raises(UserError, match="gives other values"):
            export(moco.folder, "safetensors", out=tmp_path / "new")

    def stop(it, folder):
        (folder / "encoder.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(FORMATS, "safetensors", FORMATS["safetensors"]._replace(write=stop))
    with pytest.raises(KeyboardInterrupt):
        export(moco.folder, "safetensors", out=tmp_path / "out")
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    assert {f.name: f.read_bytes() for f in earlier.iterdir()} == before


def test_a_full_disk_is_one_line(moco, tmp_path, monkeypatch):
    def full(it, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "safetensors", FORMATS["safetensors"]._replace(write=full))
    with pytest.raises(UserError, match="the disk is full"):
        export(moco.folder, "safetensors", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_only_an_earlier_export_of_the_same_format_is_replaced(moco, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):
        export(moco.folder, "safetensors", out=out, quiet=True)
    with pytest.raises(UserError, match="no part of an earlier export to huggingface: choose another folder"):
        export(moco.folder, "huggingface", out=out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"out holds notes\.txt, no part of"):
        export(moco.folder, "safetensors", out=out)
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="holds"):
        export(moco.folder, "safetensors", out=moco.folder)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="holds file, no part"):
        export(moco.folder, "safetensors", out=tmp_path / "file")
    with pytest.raises(UserError, match="an export is a folder .* give --out .*model$"):
        export(moco.folder, "onnx", out=tmp_path / "model.onnx")


def test_the_command_prints_the_path_and_nothing_else(moco, tmp_path, tv):
    code, out, err = tv("export", moco.folder, "--to", "safetensors", "-o", tmp_path / "out")
    assert (code, out) == (0, f"{tmp_path / 'out'}\n")
    assert "image (B, 3, 12, 12) -> h (B, 16); loaded again by its own loader and equal bit for bit" in err
    assert "the central square, 12 x 12 pixels (bilinear, antialiased), / 255, (x - 0.5) / 0.25" in err
    assert tv("export", moco.folder, "--to", "safetensors", "-o", tmp_path / "b", "-q") == (
        0,
        f"{tmp_path / 'b'}\n",
        "",
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "onx"], "unknown format 'onx', did you mean 'onnx'? Allowed: huggingface, onnx, safetensors, "),
        (["--to", "torchvision"], "torchvision takes ResNets, not small: safetensors, onnx, torch-export and hugg"),
        (["--to", "timm"], "timm takes ResNets and timm:NAME encoders, not small: safetensors, onnx, torch-export"),
        (["--to", "timm", "--head"], "--to timm holds the encoder alone: leave --head out, or use another format"),
    ],
)
def test_wrong_words_are_answered_in_one_line(words, says, moco, tv):
    code, out, err = tv("export", moco.folder, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"twoviews: {says}")
    assert err.count("\n") == 1


def test_a_folder_without_weights_or_run(moco, tmp_path):
    with pytest.raises(UserError, match="is not a run: it has no run.json"):
        export(tmp_path, "onnx")
    (tmp_path / "run.json").write_bytes((moco.folder / "run.json").read_bytes())
    for head in (False, True):
        with pytest.raises(UserError, match="has no weights"):
            export(tmp_path, "onnx", head=head)


def test_a_run_that_has_not_finished_gives_its_last_checkpoint(moco, tmp_path, tv):
    (tmp_path / "checkpoints").symlink_to(moco.folder / "checkpoints")
    (tmp_path / "run.json").write_bytes((moco.folder / "run.json").read_bytes())
    code, out, err = tv("export", tmp_path, "--to", "safetensors")
    assert (code, out.strip()) == (0, str(tmp_path / "export-safetensors"))
    assert "has not finished" in err
    weights = load_file(tmp_path / "export-safetensors" / "encoder.safetensors")
    assert all(torch.equal(weights[k], v) for k, v in moco.method.encoder.state_dict().items())


@pytest.mark.parametrize(
    ("format", "package", "install"),
    [("onnx", "onnxscript", r"'twoviews\[export\]'"), ("timm", "timm", "timm"), ("torchvision",) * 3],
)
def test_a_missing_package_is_named(format, package, install, moco, monkeypatch):
    monkeypatch.setattr(write, "find_spec", lambda name: None if name == package else "found")
    with pytest.raises(UserError, match=f"--to {format} needs {package}: pip install {install}"):
        export(moco.folder, format)


@pytest.mark.parametrize(
    ("encoder", "format", "says"),
    [
        (
            lambda: resnet18(stem="cifar"),
            "torchvision",
            "torchvision's ResNets have no stem for small images, as stem=",
        ),
        (
            lambda: resnet18(stem="cifar"),
            "timm",
            "timm's ResNets have no stem for small images, as stem='cifar' is: saf",
        ),
        (lambda: resnet18(width=0.25), "torchvision", "torchvision has no ResNet of these blocks and this width: safe"),
        (lambda: ResNet(Basic, (1, 1, 1, 1)), "timm", "timm has no ResNet of these blocks and this width: safetensors"),
        (lambda: resnet18(channels=1), "torchvision", "torchvision's resnet18 reads 3 channels, this encoder 1: safe"),
    ],
)
def test_resnets_that_others_do_not_have(encoder, format, says, moco, tmp_path):
    about = json.loads((moco.folder / "run.json").read_text())
    made = encoder()
    about["run"]["encoder"] = {"call": "mine:resnet", "channels": made.conv1.in_channels}
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=says):
        export_encoder(tmp_path, made, format)
    assert [f.name for f in tmp_path.iterdir()] == ["run.json"]


def test_a_view_that_cannot_be_stated(moco, tmp_path):
    about = json.loads((moco.folder / "run.json").read_text())
    about["run"]["test_view"] = {"call": "mine:view"}
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="test_view is mine:view: export can state the preprocessing of twoviews.data"):
        export_encoder(tmp_path, moco.method.encoder, "onnx")


def test_an_encoder_that_reads_no_photos(moco, tmp_path):
    about = json.loads((moco.folder / "run.json").read_text())
    about["run"]["encoder"] = {"call": "mine:words"}
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="Linear reads no photos of 12 x 12 pixels"):
        export_encoder(tmp_path, nn.Linear(5, 2), "onnx")


def test_the_encoder_given_stays_as_it_was(moco, tmp_path):
    method = moco.method.train()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    export(moco, "safetensors", out=tmp_path / "out", head=True, quiet=True)
    assert all(m.training for m in method.modules())
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def test_load_encoder_tells_an_export_from_what_is_none(moco, tmp_path):
    folder = export(moco.folder, "huggingface", out=tmp_path / "out", head=True, quiet=True)
    x = torch.randn(2, 3, 12, 12)
    assert torch.equal(twoviews.load_encoder(folder)(x), twoviews.load_encoder(moco.folder)(x))
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        twoviews.load_encoder(folder)
    (folder / "config.json").write_text('{"architectures": ["ViTModel"], "encoder": "vit"}')
    with pytest.raises(UserError, match="is neither a run nor an encoder that twoviews exported"):
        twoviews.load_encoder(folder)
    with pytest.raises(UserError, match="was not written by `twoviews export --to huggingface`"):
        load_network(tmp_path)
    assert small(width=4).dim == load_network(export(moco.folder, "huggingface", quiet=True))(x).shape[1]
