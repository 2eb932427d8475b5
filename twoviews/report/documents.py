"""RUN/index.html of a run on documents: how good it is, what it read, which sentences are alike to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.documents import Documents, notes
from ..evaluate.knn import neighbours
from ..run import Run
from ..types import PAD, Method
from . import about, curves, figures, horizons, measures, spectra, verdict
from .page import head
from .parts import document, save, section
from .record import read_record

READ, QUERIES, FOUND = 1000, 12, 5  # test stretches that sentences are taken from, cards, and neighbours on each
BLOCK = 2048  # sentences that are encoded at once
STYLE = """
.sentence p { margin: 0 0 .5rem; } .sentence ol { margin: 0; padding-left: 1.3rem; font-size: .9rem; line-height: 1.4; }
.sentence li { margin-bottom: .35rem; } .sentence.card { break-inside: avoid; }
"""
WIDE = "@media (min-width: 56rem) { .grid.two { grid-template-columns: 1fr 1fr; } }"
STYLES = "".join(part.STYLE for part in (verdict, measures, curves, figures, about)) + STYLE + WIDE
NEAR = (
    "{n} sentences of test documents, drawn by the run's seed, and the five of other documents, of {all}, whose z is "
    "most alike, with their cosine. Words that are too rare are not there."
)


def write_document_report(
    folder: Path,
    run: Run,
    method: Method,
    every: Documents,
    source: Documents,
    test: Documents,
    *,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    out: Path | None = None,
) -> Path:
    """Write a run's page to `out`, RUN/index.html where None, and return its path.

    every: the documents as they were read, of which source is what was learned from and test what is shown.
    Reads run.json, and metrics.jsonl, evaluation.json, doctor.json, checkup.json and skipped.csv where they are there.
    Raises UserError when the folder is not a run or the page cannot be written.
    """
    record = read_record(folder)
    sections = {
        "Measures": section("measures", "How good is it?", measures.measures(record.evaluation)),
        "Horizons": section("horizons", "How far ahead", horizons.horizons(record), horizons.LEAD.format(each="")),
        "Sentences": section("sentences", "Sentences alike", *alike(method.encoder, test, run.seed, device)),
        "Training": section("training", "Training", curves.curves(record), curves.lead([record])),
        "Spectra": section("spectra", "Directions in use", spectra.spectra(record.checkup), spectra.LEAD),
        "Data": section("data", "The documents", _made(every) + about.data(record, source, test)),
        "Repeat": section("repeat", "How to do it again", about.repeat(record)),
        "Next": section("next", "What to do with it", _next(folder)),
    }
    if progress:
        progress(1, 1)
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    amount = f"{len(np.unique(every.document)):,} documents, {int(every.count.sum()):,} sentences"
    top = head(record, method, amount)
    body = f"<style>{STYLES}</style>{top}<nav>{links}</nav>{''.join(sections.values())}"
    return save(folder / "index.html" if out is None else out, document(record.title, body, figures.scripts()))


def alike(encoder: Any, test: Documents, seed: int, device: torch.device) -> tuple[str, str]:
    """Cards of sentences with those most alike to them, and what is to be said before them."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(test))[:READ])
    read = [test.read(int(item))[0] for item in chosen]
    held = [(x != PAD).any(1) for x in read]
    of = torch.cat(
        [torch.full((int(seen.sum()),), int(test.document[i])) for i, seen in zip(chosen, held, strict=True)]
    )
    words = torch.cat([x[seen] for x, seen in zip(read, held, strict=True)]).long()  # (n, L)
    z = vectors(encoder, words, device)
    if len(of.unique()) < 2 or not z.isfinite().all():
        why = "hold one document alone" if z.isfinite().all() else "have vectors that are not finite"
        return f"<p>Nothing to compare: the test documents {why}.</p>", ""
    queries = torch.from_numpy(rng.permutation(len(words))[:QUERIES])
    most = int(of.bincount().max())  # of the query's own document, which are left out
    similarity, place = neighbours(z[queries], z, min(FOUND + most, len(z)))
    cards = []
    for query, scores, near in zip(queries.tolist(), similarity.tolist(), place.tolist(), strict=True):
        found = [(i, s) for i, s in zip(near, scores, strict=True) if of[i] != of[query]][:FOUND]
        listed = "".join(f"<li>{escape(test.said(words[i]))} <small>{s:.2f}</small></li>" for i, s in found)
        cards.append(
            f'<div class="card sentence"><p><b>{escape(test.said(words[query]))}</b></p><ol>{listed}</ol></div>'
        )
    return f'<div class="grid">{"".join(cards)}</div>', NEAR.format(n=len(cards), all=f"{len(words):,}")


@torch.no_grad()
def vectors(encoder: Any, words: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(n, L) words -> (n, D) z, on the CPU."""
    mode = encoder.training
    encoder.eval()
    try:
        return torch.cat([encoder.sentence(block.to(device)).float().cpu() for block in words.split(BLOCK)])
    finally:
        encoder.train(mode)


def _made(source: Documents) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in notes(source))}</ul>"


def _next(folder: Path) -> str:
    run = shlex.quote(str(folder) if not folder.is_absolute() else folder.name)
    return f'<pre tabindex="0">{escape(f"twoviews embed {run} NEW.txt -o documents.parquet")}</pre>'
