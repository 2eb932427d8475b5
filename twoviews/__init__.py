"""twoviews: self-supervised representation learning that people use for real work.

import twoviews
result = twoviews.train("photos/")                # an encoder, and an honest measure of it
encoder = twoviews.load_encoder(result.folder)    # (B, 3, S, S) -> (B, D)
twoviews.embed(result.folder, "photos/", "photos.parquet")
print(twoviews.doctor(result).sentence)           # healthy, or what is wrong and what to do
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public names and where they live; imported when first used, so that `import twoviews` stays fast.
_PLACES = {
    "train": ".api",
    "embed": ".api",
    "evaluate": ".api",
    "check": ".checks",
    "recommend": ".serve",
    "similar": ".api",
    "add_items": ".grown",
    "doctor": ".after",
    "report": ".after",
    "compare": ".after",
    "search": ".after",
    "export": ".after",
    "Run": ".run",
    "fit": ".fit",
    "load_encoder": ".checkpoint",
    "photos": ".data.image",
    "histories": ".data.logs",
    "Found": ".evaluate.search",
    "Batch": ".types",
    "Features": ".types",
    "Method": ".types",
    "Out": ".types",
}
__all__ = [
    "Batch",
    "Features",
    "Found",
    "Method",
    "Out",
    "Run",
    "add_items",
    "check",
    "compare",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "fit",
    "histories",
    "load_encoder",
    "photos",
    "recommend",
    "report",
    "search",
    "similar",
    "train",
]

if TYPE_CHECKING:
    from .after import compare, doctor, export, report, search
    from .api import embed, evaluate, similar, train
    from .checkpoint import load_encoder
    from .checks import check
    from .data.image import photos
    from .data.logs import histories
    from .evaluate.search import Found
    from .fit import fit
    from .grown import add_items
    from .run import Run
    from .serve import recommend
    from .types import Batch, Features, Method, Out


class _Package(ModuleType):
    """Keeps `train`, `doctor` and the like the functions: importing their modules would put those in their place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'twoviews' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
