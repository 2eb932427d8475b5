"""Export of methods that read histories: read again here as others do, from the folder alone."""

import json
import re

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from test_bert4rec import BERT4Rec, SASRec, T, V, model

from twoviews.data.cloze import ask
from twoviews.data.histories import Histories
from twoviews.errors import UserError
from twoviews.export import histories, write
from twoviews.export.histories import HISTORY_FORMATS, Scores, export_histories

NAMES = [f"item {i}" for i in range(V)]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    pq.write_table(pa.table({"item": NAMES, "count": list(range(V))}), folder / "items.parquet")
    return folder


def asked(method, lengths=(3, 1, T + 5, T - 1)):
    """Histories as twoviews asks for what comes next, and its answer."""
    stops = np.cumsum(lengths)
    items = np.random.default_rng(0).integers(0, V, stops[-1]).astype(np.int32)
    log = Histories("log", items, stops - lengths, stops, pa.array(range(len(lengths))), pa.array(NAMES))
    x = ask(T, blank=isinstance(method, BERT4Rec))(log, np.arange(len(lengths)))
    with torch.no_grad():
        return log, x, *Scores(method.eval())(x)


def files(folder):
    return {f.name for f in folder.iterdir()}


@pytest.mark.parametrize(("kind", "positions"), [(BERT4Rec, "start"), (BERT4Rec, "none"), (SASRec, "end")])
def test_onnx_scores_what_we_score(kind, positions, run, capfd):
    method = model(kind, positions=positions, norm="pre")
    folder = export_histories(run, method, "onnx")
    assert capfd.readouterr() == ("", "")
    assert files(folder) == {"model.onnx", "items.parquet", "preprocessing.json"}
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    _, x, scores, h = asked(method)
    for rows, steps in ((slice(None), T), (slice(0, 2), 4), (slice(1, 2), 2)):
        given = session.run(["scores", "h"], {"tokens": x[rows, :steps].numpy()})
        np.testing.assert_allclose(given[0], scores[rows], atol=1e-4)
        np.testing.assert_allclose(given[1], h[rows], atol=1e-4)
    about = json.loads((folder / "preprocessing.json").read_text())
    assert json.loads(session.get_modelmeta().custom_metadata_map["tokens"]) == about["tokens"]
    assert (about["length"], about["tokens"]) == (T, {"padding": 0, "blank": 1, "first_item": 2})
    assert about["compared"]["largest_difference"] <= 1e-4


@pytest.mark.parametrize("positions", ["start", "end", "none"])
def test_transformers_loads_the_folder_and_its_card_runs(positions, run, monkeypatch, capsys):
    transformers = pytest.importorskip("transformers", reason="the target: pip install transformers")
    method = model(positions=positions)
    folder = export_histories(run, method, "huggingface")
    assert files(folder) == {"model.safetensors", "config.json", "README.md", "items.parquet", "preprocessing.json"}
    loaded, told = transformers.BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told.get(k) for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    log, x, scores, _ = asked(method)
    names = pq.read_table(folder / "items.parquet")["item"].to_pylist()
    card = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[1]
    monkeypatch.chdir(run)
    for user, expected in enumerate(scores):
        history = [NAMES[i] for i in log.items[log.starts[user] : log.stops[user]]]
        told = {"HISTORY": history}
        exec(card.replace("names[:3]", "HISTORY"), told)
        torch.testing.assert_close(told["logits"], expected, atol=1e-5, rtol=1e-5)
        assert capsys.readouterr().out.strip() == str([names[i] for i in expected.topk(10).indices])
    assert loaded.config.max_position_embeddings == T


@pytest.mark.parametrize("kind", [BERT4Rec, SASRec])
def test_weights_and_programs_load_elsewhere(kind, run):
    method = model(kind)
    _, x, scores, h = asked(method)
    fresh = model(kind, seed=1)
    fresh.load_state_dict(load_file(export_histories(run, method, "safetensors") / "model.safetensors"))
    torch.testing.assert_close(asked(fresh)[2], scores)
    program = torch.export.load(export_histories(run, method, "torch-export") / "model.pt2").module()
    for part, whole in zip(program(x[:2, :5]), (scores, h), strict=True):
        torch.testing.assert_close(part, whole[:2], atol=1e-5, rtol=0)


def test_what_a_format_cannot_hold_is_one_clear_line(run, monkeypatch):
    with pytest.raises(UserError, match="BERT reads both ways and SASRec the past alone: use safetensors or onnx"):
        export_histories(run, model(SASRec), "huggingface")
    with pytest.raises(UserError, match=r"norm='pre': use safetensors or onnx"):
        export_histories(run, model(norm="pre"), "huggingface")
    with pytest.raises(UserError, match="unknown format of histories 'timm'"):
        export_histories(run, model(), "timm")
    monkeypatch.setattr(write, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--to huggingface needs transformers: pip install transformers"):
        export_histories(run, model(), "huggingface")
    assert files(run) == {"items.parquet"}


def test_what_is_loaded_as_something_else_is_not_kept(run, monkeypatch):
    def other(scores, folder):
        return Scores(model(seed=5).eval())

    broken = HISTORY_FORMATS["safetensors"]._replace(load=other)
    monkeypatch.setitem(histories.HISTORY_FORMATS, "safetensors", broken)
    with pytest.raises(UserError, match="--to safetensors: loaded again, BERT4Rec gives other values"):
        export_histories(run, model(), "safetensors")
    assert files(run) == {"items.parquet"}


def test_a_run_that_is_not_finished_has_no_vocabulary(run):
    (run / "items.parquet").unlink()
    with pytest.raises(UserError, match=r"has no items\.parquet: its training has not finished"):
        export_histories(run, model(), "onnx")
