"""The commands for runs on histories. Importing this adds them to the command line and costs nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from .cli import Device, Quiet, Run, Settings, app, pairs, plain
from .errors import UserError

Titles = Annotated[
    Path | None, typer.Option(help="CSV or Parquet with a column of items and one of titles, to be shown.")
]


@app.command(
    epilog="**Example:** `twoviews recommend runs/clicks-bert4rec -k 20 -o recs.parquet` · "
    "`twoviews recommend runs/clicks-bert4rec today.parquet -o recs.csv`"
)
def recommend(
    run: Run,
    data: Annotated[
        str | None,
        typer.Argument(help="Users, one a line, or a log of histories, also new ones. Default: all of the run's log."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .parquet or .csv file.")] = Path("recommended.parquet"),
    k: Annotated[int, typer.Option("-k", help="Items for each user.", min=1)] = 20,
    seen: Annotated[bool, typer.Option(help="Recommend what a user has met already, too.")] = False,
    user: Annotated[str | None, typer.Option(help="The log's column of users. Default: as in training.")] = None,
    item: Annotated[str | None, typer.Option(help="The log's column of items. Default: as in training.")] = None,
    time: Annotated[str | None, typer.Option(help="The log's column of times. Default: as in training.")] = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Write the items that come next for each user: user, rank, item, score.

    A history that training has not seen is answered as well as one that it has.
    """
    from .serve import recommend

    how = {"user": user, "item": item, "time": time, "device": device}
    try:
        print(recommend(run, data, out=out, k=k, seen=seen, quiet=quiet, **how))
    except UserError as error:  # what are settings of `train` are options here
        raise type(error)(re.sub(r"\bdata\.(user|item|time)(=|(?=:))", as_option, str(error))) from None


def as_option(setting: re.Match[str]) -> str:
    return f"--{setting[1]}{' ' if setting[2] else ''}"


@app.command(
    epilog="**Example:** `twoviews similar runs/clicks-bert4rec sku-1042 -k 5 --titles items.csv` · "
    "`twoviews similar runs/papers-metapath2vec author/Ann --type venue` · "
    "`twoviews similar runs/corpus-word2vec 'king - man + woman'`"
)
def similar(
    run: Run,
    item: Annotated[str, typer.Argument(help="An item as the log has it; a node as TYPE/ID, id or name; a word.")],
    k: Annotated[int, typer.Option("-k", help="How many to find.", min=1)] = 10,
    kind: Annotated[str | None, typer.Option("--type", help="Of a graph: the type of what is found.")] = None,
    titles: Titles = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    device: Device = None,
) -> None:
    """Find the items, nodes or words most alike to one, by the cosine of their vectors."""
    from .api import similar

    found = similar(run, item, k=k, kind=kind, titles=titles, device=device)
    if json:
        import json as j

        print(j.dumps({"run": str(run), "k": k, **found.to_json()}, indent=2))
    else:
        print("\n".join(map(plain, found.lines())))


@app.command(
    "add-items",
    epilog="**Example:** `twoviews add-items runs/clicks-bert4rec items.csv -o runs/clicks-grown`",
)
def add_items(
    run: Run,
    new: Annotated[
        str,
        typer.Argument(help="A table of all items with their attributes, a log that holds new ones, or their vectors."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new run's folder.")],
    by: Annotated[str, typer.Option(help="attributes, log, vectors, or auto: as the table looks.")] = "auto",
    titles: Titles = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Teach a run new items without training; says how well held-out items would be found that way."""
    from .grown import add_items

    print(add_items(run, new, out, by=by, titles=titles, device=device, quiet=quiet))


@app.command(epilog="**Example:** `twoviews attention runs/clicks-bert4rec -o attention.html`")
def attention(
    run: Run,
    data: Annotated[
        str | None, typer.Argument(help="Users or histories, as of `recommend`. Default: the run's own log.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: RUN/attention.html.")] = None,
    length: Annotated[int, typer.Option(help="Places of a history that are drawn.", min=2)] = 20,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw where each head of each layer looks, on average over the run's own histories."""
    from .serve import attention

    print(attention(run, data, out=out, length=length, device=device, quiet=quiet))


@app.command(epilog="**Example:** `twoviews ablate clicks.parquet epochs=20 -o runs/what-matters --study width`")
def ablate(
    data: Annotated[str, typer.Argument(help="A log of histories; any form that `train` takes.")],
    settings: Settings = None,
    study: Annotated[
        list[str] | None, typer.Option(help="positions, width or length; give it again for more. Default: all.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs and the page.")] = Path("runs/ablate"),
    recipe: Annotated[str, typer.Option(help="A recipe's name, see `twoviews list recipes`.")] = "auto",
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Train with other positions, widths and lengths, all else equal, and draw what they are worth on one page."""
    from .ablate import STUDIES, ablate

    chosen = tuple(study or STUDIES)
    print(ablate(data, out=out, studies=chosen, recipe=recipe, device=device, quiet=quiet, settings=pairs(settings)))
