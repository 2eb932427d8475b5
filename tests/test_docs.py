"""README and docs say what is true: their commands exist, their settings fit, their Python runs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from twoviews import cli
from twoviews.recipes import RECIPES
from twoviews.recipes.demo import DEMOS
from twoviews.run import Run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
HISTORIES = ("bert4rec", "bert4rec_paper", "sasrec")
COMMANDS = typer.main.get_command(cli.app).commands


def commands(text):
    """Every shell line of a page that starts with our program."""
    for line in re.findall(
        rf"^    (.*\btwoviews (?:{'|'.join(COMMANDS)})\b.*)$",
        text,
        flags=re.M,
    ):
        words = shlex.split(line, comments=True)
        if "-m" in words and words[words.index("-m") + 1] == "twoviews":
            yield words[words.index("-m") + 2 :]
        elif words and words[0].endswith("twoviews"):
            yield words[1:]


def write_data(folder):
    """Small data of the kinds that the pages name."""
    (folder / "log.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(9)))
    (folder / "friends.csv").write_text("src,dst\n" + "".join(f"{u},{(u + 1) % 9}\n" for u in range(9)))
    lines = ["the cat sat on the mat", "the dog ran", "on the mat the dog sat and the cat ran off"] * 9
    (folder / "corpus.txt").write_text("\n".join(lines))
    (folder / "articles.txt").write_text("The cat sat. It slept.\n\nThe dog ran. It sat.\n\n" * 9)
    np.save(folder / "photos.npy", np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8))
    (folder / "recordings").mkdir()
    for i in range(32):
        noise = np.random.default_rng(i).standard_normal(4000)
        soundfile.write(folder / "recordings" / f"{i % 4}_{i // 4 % 2}_{i}.wav", noise / 9, 8000)
    np.save(folder / "clips.npy", np.random.default_rng(0).integers(0, 255, (32, 16, 32, 32, 3), np.uint8))
    (folder / "edges").mkdir()
    people = ["Ann", "Bob", "Cay", "Dan", "Eve", "Flo", "Gus", "Hal"]
    wrote = "".join(f"{people[(p + i) % 8]},p{p}\n" for p in range(24) for i in (0, 1, 2))
    (folder / "edges" / "author.writes.paper.csv").write_text("src,dst\n" + wrote)
    for other, few in (("venue", 3), ("term", 5)):
        lines = "".join(f"p{p},{other}{p % few}\n" for p in range(24))
        (folder / "edges" / f"paper.has.{other}.csv").write_text("src,dst\n" + lines)


KINDS = {  # how data is called, what stands for it
    "recordings": "recordings",
    "edges": "edges",
    "friends": "friends.csv",
    "corpus": "corpus.txt",
    "articles": "articles.txt",
    "clips": "clips.npy",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist_and_their_settings_fit(page, tmp_path):
    write_data(tmp_path)
    for name, *words in commands(page.read_text()):
        context = COMMANDS[name].make_context(name, list(words))
        given = context.params.get("settings") or []
        settings = cli.pairs([word for word in given if name != "demo" or word not in DEMOS])
        recipe = context.params.get("recipe") or "auto"
        assert recipe in RECIPES
        data = context.params.get("data") or ""
        log = recipe in HISTORIES or re.search(r"(?<!clips)\.(csv|tsv|txt|inter|parquet)(\.gz)?$", data)
        data = "photos.npy" if recipe == "cpc_photos" else data
        table = (
            data
            if data == "photos.npy"
            else next((KINDS[kind] for kind in KINDS if Path(data).name.startswith(kind)), None)
        )
        if table and name in ("train", "check"):
            labels = context.params["labels"]
            given = {"labels": labels and str(labels)} if table == "recordings" else {}
            run = RECIPES[recipe](str(tmp_path / table), **given)
        elif log and "photos" not in data:
            run = RECIPES["bert4rec" if recipe == "auto" else recipe](str(tmp_path / "log.csv"))
        else:
            run = RECIPES["cifar10_simclr" if recipe == "auto" else recipe]("data.zip")
        assert isinstance(run.override(settings), Run)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_the_python_of_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "photos.md").read_text(), flags=re.S)
    ran = [block for block in blocks if "torchvision" not in block]
    assert len(ran) == 2
    names = {}
    for block in ran:
        exec(compile(block, "docs/photos.md", "exec"), names)
    assert np.load("embeddings.npy").shape == (200, names["encoder"].dim)
    assert isinstance(names["run"], Run)
    assert names["run"].to_json()["batchnorm"] == 8


@pytest.mark.parametrize("page", ["sounds.md", "sentences.md", "videos.md"])
def test_the_python_of_sounds_sentences_and_videos_runs(page):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.S)
    names = {}
    exec(compile(block, page, "exec"), names)
    assert names["h"].shape == (2, 64)


@pytest.mark.parametrize("page", ["graphs.md", "words.md"])
def test_the_python_of_graphs_and_words_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.S)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    if page == "graphs.md":
        assert names["nodes"].weight.shape == (len(names["found"]), 128)
    else:
        assert "neighbours told" in names["table"].probes


def test_make_knows_readmes_commands():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for line in re.findall(r"^    make ([a-z ]+)", page.read_text(), flags=re.M):
            assert set(line.split()) <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text()
