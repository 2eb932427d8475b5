"""A run is a value: what it reads, sees, learns with and for how long.

    Run(data=partial(photos, data="photos"), views=partial(two_crops, size=32), method=partial(MoCo, queue=4096), ...)

Every part is a callable with plain settings, so a run can be written down (`to_json`), changed by name (`override`)
and built again (`from_json`). What only the data knows (`channels`, `classes`, `items`) is filled in by `resolved`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, get_type_hints

from torch import nn

from . import calls
from .data.clipviews import CLIP_VIEWS
from .data.cloze import HISTORY_VIEWS
from .data.paragraphs import DOCUMENT_VIEWS
from .data.patches import PATCH_VIEWS
from .data.sentences import TEXT_VIEWS
from .data.soundviews import SOUND_VIEWS
from .data.views import PHOTO_VIEWS, center, two_crops
from .data.walks import GRAPH_VIEWS
from .encoders import encoder_factory
from .errors import UserError, unknown
from .methods import METHODS
from .optim import OPTIMIZERS, SCHEDULES, cosine, sgd
from .train import DTYPES
from .types import Source


def lookup(what: str, table: Mapping[str, Callable]) -> Callable[[str], Callable]:
    def find(name: str) -> Callable:
        if name not in table:
            raise unknown(what, name, table)
        return table[name]

    return find


VIEWS = PHOTO_VIEWS | PATCH_VIEWS | CLIP_VIEWS | SOUND_VIEWS | DOCUMENT_VIEWS | HISTORY_VIEWS | GRAPH_VIEWS | TEXT_VIEWS
CHOICES = {  # part -> how a name on the command line chooses it
    "method": lookup("method", METHODS),
    "encoder": encoder_factory,
    "views": lookup("views", VIEWS),
    "optimizer": lookup("optimizer", OPTIMIZERS),
    "schedule": lookup("schedule", SCHEDULES),
}
READS = {  # what only the data knows
    "channels": "photos or videos",
    "rate": "sounds",
    "words": "documents",
    "catalogue": "histories",
    "rows": "nodes or words",
}
SHOWN = {"image": "size", "frames": "frames"}  # of an encoder, what views say
CALLS = {"data", "test", "views", "test_view", "encoder", "method", "optimizer", "schedule"}


@dataclass(frozen=True)
class Run:
    """All that decides a run's result.

    data, test:  () -> Source; without `test`, the share `holdout` of the data is kept from training to measure on.
    views:       a view factory of twoviews.data.views, of histories twoviews.data.cloze; `test_view` gives the one view
                 that is embedded.
    encoder:     (channels) -> module;  method: (encoder) -> Method.
    optimizer:   (module) -> torch optimizer;  schedule: (step, steps) -> factor.
    batch_size:  items a step over all processes, in `accumulate` parts.
    batchnorm:   "global" over all processes, "local", or a number of groups on one device.
    micro_batch: rows that the encoder reads at once, to save memory; the loss still sees the whole batch.
    recompute:   forget the activations inside the encoder's blocks and make them again in backward, to save memory.
    shard:       each process holds a part of the weights, gradients and optimizer's state (FSDP2), to save memory.
    precision:   fp32, bf16 or fp16 autocast.  clip: largest gradient norm, or None.
    loggers:     "tensorboard", "wandb" or both, beside metrics.jsonl.
    memory:      hold decoded photos in memory; None decides by size.  workers: None decides by cores.
    watch:       epochs between checks while training, 0 for none: kNN of photos; of histories the next item, where the
                 weights that found it best are kept.
    start:       the folder of a run on histories whose weights this one begins with, item by item by name.
    """

    data: Callable[[], Source]
    encoder: Callable[..., nn.Module]
    method: Callable[..., nn.Module]
    views: Callable[..., Any] = two_crops
    test_view: Callable[..., Any] = center
    test: Callable[[], Source] | None = None
    holdout: float = 0.1
    optimizer: Callable = partial(sgd, lr=0.06)
    schedule: Callable = partial(cosine, warmup=0.05)
    epochs: int = 200
    batch_size: int = 256
    accumulate: int = 1
    micro_batch: int | None = None
    recompute: bool = False
    shard: bool = False
    batchnorm: str | int = "global"
    precision: str = "fp32"
    clip: float | None = None
    seed: int = 0
    workers: int | None = None
    memory: bool | None = None
    watch: int = 0
    start: str | None = None
    loggers: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        def check(ok: bool, part: str, allowed: str) -> None:
            if not ok:
                raise UserError(f"{part} must be {allowed}, got {getattr(self, part)!r}")

        check(self.epochs >= 1, "epochs", "at least 1")
        check(self.accumulate >= 1, "accumulate", "at least 1")
        check(self.micro_batch is None or self.micro_batch >= 2, "micro_batch", "2 or more, or None")
        check(self.precision in DTYPES, "precision", f"one of {', '.join(DTYPES)}")
        check(self.clip is None or self.clip > 0, "clip", "above 0, or None")
        check(0 <= self.holdout < 1, "holdout", "a share from 0 to below 1")
        check(self.workers is None or self.workers >= 0, "workers", "0 or more, or None")
        check(self.watch >= 0, "watch", "0 or more")
        check(self.seed >= 0, "seed", "0 or more")

    def override(self, settings: Mapping[str, Any]) -> Run:
        """The run with settings changed by name: {"epochs": 20, "method": "moco", "method.queue": 4096}.

        Choices of a part come before settings of it. Raises UserError on a name or value that does not fit.
        """
        run = self
        types = get_type_hints(Run)
        if "views.size" in settings:  # what is measured and embedded has the size of what is learned from
            size = settings["views.size"]
            settings = {"test_view.size": size, **settings}
            if isinstance(size, int) and "max_side" in calls.knobs(self.data):
                side = round(size * self._room())
                settings = {"data.max_side": side, **settings}
                settings = {"test.max_side": side, **settings} if self.test else settings
        view = settings.get("test_view", self.test_view)
        for name in ("grid", "overlap", "frames", "stride"):  # the same are learned from and measured
            if f"views.{name}" in settings and callable(view) and calls.accepts(view, name):
                settings = {f"test_view.{name}": settings[f"views.{name}"], **settings}
        if self.watch and "epochs" in settings and "watch" not in settings:  # as many checks in a run of another length
            share = self.watch / self.epochs
            settings = {**settings, "watch": max(1, round(share * calls.fit(settings["epochs"], int, "epochs")))}
        if "views.length" in settings and "length" in calls.knobs(
            self.test_view
        ):  # a history is asked, and its places counted, up to the length that is learned
            length = settings["views.length"]
            settings = {"test_view.length": length, "encoder.length": length, **settings}
        for key, value in sorted(settings.items(), key=lambda item: item[0].count(".")):
            part, _, knob = key.partition(".")
            if part not in types:
                raise unknown("setting", part, types)
            now = getattr(run, part)
            if knob:
                if not callable(now):
                    raise UserError(f"'{part}' has no settings of its own; give {part}={value}")
                value = calls.change(now, knob, value, part)
            elif part in CHOICES and isinstance(value, str):
                chosen = CHOICES[part](value)
                value = partial(chosen, **_shared(now, chosen, part))
            elif part in CALLS:
                if not callable(value) and not (part == "test" and value is None):
                    raise UserError(f"'{part}' cannot be {value!r}; change one of its settings, as {part}.NAME=VALUE")
            else:
                value = (value,) if part == "loggers" and isinstance(value, str) else value
                value = calls.fit(value, types[part], part)
            run = run.with_part(part, value)
        return run

    def _room(self) -> float:
        """The shorter side that is read over that of a view: what crops have to choose from."""
        read, seen = calls.knobs(self.data).get("max_side"), calls.knobs(self.views).get("size")
        return read / seen if read and seen else 2.0

    def with_part(self, part: str, value: Any) -> Run:
        changes: dict[str, Any] = {part: value}
        return replace(self, **changes)

    def resolved(self, source: Source) -> Run:
        """The run with what only the data knows: `channels`, `catalogue` or `rows` of the encoder, `classes` and
        `items` of the method. Raises UserError where the encoder reads something else than the data holds.
        """
        run = self
        for known, of in SHOWN.items():  # clips and photos as large as the views make them
            made = calls.knobs(run.views)
            if of in made and calls.accepts(run.encoder, known) and known not in calls.given(run.encoder):
                run = replace(run, encoder=partial(run.encoder, **{known: made[of]}))
        for known in READS:
            if calls.accepts(run.encoder, known):
                if getattr(source, known, None) is None:
                    held = next((what for name, what in READS.items() if getattr(source, name, None)), "something else")
                    encoder = calls.name(run.encoder)
                    raise UserError(f"encoder={encoder} reads {READS[known]}, and {source.name} holds {held}")
                run = replace(run, encoder=partial(run.encoder, **{known: getattr(source, known)}))
        if calls.accepts(run.method, "classes"):
            if source.classes is None:
                raise UserError(f"the method '{calls.name(run.method).lower()}' needs labels and the data has none")
            run = replace(run, method=partial(run.method, classes=len(source.classes)))
        if calls.accepts(run.method, "items"):
            run = replace(run, method=partial(run.method, items=len(source)))
        return run

    def to_json(self) -> dict[str, Any]:
        """Every value, resolved, as plain JSON."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {k: calls.describe(v) if callable(v) else list(v) if isinstance(v, tuple) else v for k, v in values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], **given: Any) -> Run:
        """The inverse of `to_json`, with some parts `given` anew. Raises UserError on what this version lacks."""
        names = [f.name for f in fields(cls)]
        if wrong := [k for k in values if k not in names]:
            raise unknown("setting", wrong[0], names)
        for name, value in values.items():
            if name not in given:
                value = calls.rebuild(value) if isinstance(value, dict) else value
                given[name] = tuple(value) if isinstance(value, list) else value
        return cls(**given)


def _shared(now: Callable | None, chosen: Callable, part: str) -> dict[str, Any]:
    """Settings that survive a change of part: the size of images belongs to the data, not to the views that use it."""
    keep = {"views": ("size", "frames", "stride"), "encoder": ("size", "patch"), "optimizer": ("lr",)}.get(part, ())
    return {k: v for k, v in calls.knobs(now).items() if k in keep and calls.accepts(chosen, k)} if now else {}
