"""Some users with what they met last, what they met next, and what they would have been recommended."""

from __future__ import annotations

from html import escape

import numpy as np

from .asked import Asked, named

SHOWN, LAST, NEXT = 12, 8, 5
STYLE = """
.asked h3 { display: flex; justify-content: space-between; gap: .6rem; }
.asked h3 small { font-weight: 400; flex: none; }
.asked h4 { font-size: .8rem; color: var(--dim); margin: .7rem 0 .15rem; font-weight: 600; }
.asked ol { margin: 0; padding-left: 1.6rem; font-size: .9rem; line-height: 1.45; }
.asked ol.was { list-style: none; padding-left: 0; }
.asked .hit { color: var(--healthy); font-weight: 600; }
.asked.card { break-inside: avoid; }
"""
LEAD = (
    "{n} of {total} users, drawn by the run's seed and not by how well they do. ✓ marks what a user really met next, "
    "which the model was not told. What a user has met already is not recommended."
)


def examples(asked: Asked, seed: int) -> str:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(asked))[:SHOWN])
    return f'<div class="grid">{"".join(_card(asked, int(user)) for user in chosen)}</div>'


def lead(asked: Asked) -> str:
    return LEAD.format(n=f"{min(SHOWN, len(asked)):,}", total=f"{asked.total:,}")


def _card(asked: Asked, user: int) -> str:
    met, following = asked.history.read(user).tolist(), asked.truth.read(user).tolist()
    given = [place for place in asked.lists[user].tolist() if place >= 0]
    was = "".join(f"<li>{_name(asked, place)}</li>" for place in met[-LAST:])
    then = "".join(_marked(asked, place, place in given) for place in following[:NEXT])
    ten = "".join(_marked(asked, place, place in following) for place in given)
    parts = [f"<h4>Met last, of {len(met):,}</h4><ol class='was'>{was}</ol>"]
    if following:
        more = f", {NEXT} of {len(following):,}" if len(following) > NEXT else ""
        parts.append(f"<h4>Met next{more}</h4><ol class='was'>{then}</ol>")
    parts.append(f"<h4>Recommended</h4><ol>{ten}</ol>")
    said = (
        "" if not following else "<small class='hit'>found</small>" if asked.hit(user) else "<small>not found</small>"
    )
    return (
        f'<div class="card asked"><h3><span>{escape(asked.history.key(user))}</span>{said}</h3>{"".join(parts)}</div>'
    )


def _name(asked: Asked, place: int) -> str:
    return escape(named(asked.items, place))


def _marked(asked: Asked, place: int, hit: bool) -> str:
    return f'<li class="hit">✓ {_name(asked, place)}</li>' if hit else f"<li>{_name(asked, place)}</li>"
