"""A file imports only from rows above its own (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "twoviews"
ROWS = [
    {"types", "errors", "calls", "dist", "ema", "fsdp", "log", "malloc", "compiled"},
    {
        "data",
        "encoders",
        "objectives",
        "heads",
        "horizons",
        "decoder",
        "masks",
        "negatives",
        "norm",
        "optim",
        "recompute",
        "diagnostics",
    },
    {"methods"},
    {"checkpoint", "train", "export", "skipgram", "buckets"},
    {"evaluate"},
    {"doctor"},
    {"run", "folder", "recipes"},
    {"report"},
    {
        "build",
        "ending",
        "fit",
        "fit_photos",
        "fit_histories",
        "fit_sounds",
        "fit_videos",
        "fit_documents",
        "fit_gtn",
        "fit_tables",
        "measure_tables",
        "search_paths",
        "after",
        "serve",
        "lookup",
        "grown",
        "ablate",
        "cli_after",
        "cli_histories",
        "cli_graphs",
        "cli_look",
        "others",
        "partitioned",
        "api",
        "checks",
        "lists",
        "cli",
        "__main__",
        "__init__",
    },
]
ROW = {name: i for i, names in enumerate(ROWS) for name in names}
APART = ROWS[1]  # siblings that do not import each other


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """The parts of the package that a file imports, also lazily; type-checking imports do not count."""
    here = path.relative_to(PACKAGE).parts
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = list(here[: -node.level]) if node.level else []
            names = (node.module or "").split(".") if node.module else []
            if not node.level:
                if names[0] != "twoviews":
                    continue
                names = names[1:]
            full = base + names
            yield from [full[0]] if full else [alias.name for alias in node.names if alias.name in ROW]


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_up(path):
    own = part(path)
    if own == "__init__":
        return  # names places, imports when asked
    for other in imported(path):
        if other == own:
            continue
        assert ROW[other] <= ROW[own], f"{path.name} ({own}) imports {other} from a row below"
        assert not (own in APART and other in APART), f"{path.name}: {own} and {other} are siblings"
    if own == "methods":
        assert not {"data", "encoders"} & set(imported(path))


def test_every_part_has_a_row():
    assert {part(p) for p in FILES} <= set(ROW)


@pytest.mark.parametrize("statement", ["import twoviews", "import twoviews.cli"])
def test_heavy_imports_wait(statement):
    heavy = ("torch", "numpy", "PIL", "pyarrow", "sklearn")
    code = f"import sys; {statement}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert out.stdout.strip() == "[]"
