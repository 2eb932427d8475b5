"""Some test pieces and what sounds most alike to them in other recordings, to listen to."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from ..evaluate.search import label_names
from .gallery import Neighbour, Row, gallery
from .groups import groups
from .nearest import spread
from .players import Players
from .soundclips import Clips

QUERIES, FOUND = 6, 5
LEAD = (
    "{n} test pieces, one of each {kind} in turn, drawn by the run's seed, and the five pieces of other recordings, of "
    "{pool:,} from training and test, that are most alike to the encoder, with their cosine similarity. Press one to "
    "hear it. ✓ marks the same label."
)


def nearest_sounds(test: Clips, train: Clips | None, players: Players, seed: int) -> tuple[str, str]:
    """The rows as HTML, and what is to be said before them. train: None where it is the same as the test."""
    sides = [test] if train is None else [test, train]
    sorted_by = groups(test.features)
    queries = spread(sorted_by.of, QUERIES, seed).tolist()
    pool = [(side, i) for side in sides for i in range(len(side))]
    x = normalize(torch.cat([side.features.h for side in sides]), dim=1)
    names = {id(side): label_names(side.features) for side in sides}
    said = {id(side): side.captions() for side in sides}

    def shown(side: Clips, i: int, mark: str = "") -> dict:
        return {"picture": side.picture(i), "caption": mark + said[id(side)][i], "sound": side.sound(players, i)}

    rows = []
    for query in queries:
        own, label = test.source.file[query], names[id(test)][query]
        alike = x @ x[query]
        order = [
            i for i in alike.argsort(descending=True).tolist() if not (i < len(test) and test.source.file[i] == own)
        ]
        found = []
        for at in order[:FOUND]:
            side, i = pool[at]
            other = names[id(side)][i]
            same = label == other if label and other else None
            mark = {None: "", True: "✓ ", False: "✗ "}[same]
            found.append(Neighbour(**shown(side, i, mark), similarity=float(alike[at]), same=same))
        rows.append(Row(**shown(test, query), found=found))
    kind = "cluster" if sorted_by.clusters else "label"
    return gallery(rows), LEAD.format(n=len(rows), kind=kind, pool=len(pool))
