"""README and docs say what is true: their commands exist, their settings fit, their Python runs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from twoviews import cli
from twoviews.recipes import RECIPES
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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist_and_their_settings_fit(page, tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(9)))
    for name, *words in commands(page.read_text()):
        context = COMMANDS[name].make_context(name, list(words))
        settings = cli.pairs(context.params.get("settings"))
        recipe = context.params.get("recipe") or "auto"
        assert recipe in RECIPES
        log = recipe in HISTORIES or re.search(
            r"\.(csv|tsv|txt|inter|parquet)(\.gz)?$", context.params.get("data") or ""
        )
        if log and "photos" not in context.params["data"]:
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


def test_make_knows_readmes_commands():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for line in re.findall(r"^    make ([a-z ]+)", page.read_text(), flags=re.M):
            assert set(line.split()) <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text()
