"""The commands that need no run: a look at data, at what there is to choose, and the demo."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli import Device, Labels, Out, Quiet, Settings, app, fail, pairs, show


@app.command(
    epilog="**Example:** `twoviews check photos/` · `twoviews check orders.csv data.user=customer` · "
    "`twoviews check edges/ views.metapaths=author-paper-author`"
)
def check(
    data: Annotated[str, typer.Argument(help="Photos, a log, a graph or a text; any kind that `train` takes.")],
    settings: Settings = None,
    labels: Labels = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Read all of the data and report counts, duplicates and what is broken, before hours are spent."""
    from .checks import check

    report = check(data, labels=labels, quiet=quiet or json, settings=pairs(settings))
    if json:
        import json as j

        print(j.dumps(report.to_dict(), indent=2))
    else:
        print("\n".join(report.lines()))
    if not report.whole:
        raise typer.Exit(1)


@app.command("list", epilog="**Example:** `twoviews list methods` · `twoviews list`")
def list_(
    what: Annotated[
        str | None,
        typer.Argument(help="methods, encoders, views, optimizers, schedules, recipes or probes. Default: all."),
    ] = None,
) -> None:
    """List what can be chosen, with its settings and their defaults."""
    from .lists import LISTS, catalogue

    for kind in [what] if what else LISTS:
        if not what:
            print(f"\n{kind}:")
        for line in catalogue(kind):
            print(line)


@app.command(
    epilog="**Example:** `twoviews demo` · `twoviews demo video` · `twoviews demo --seed 1 --out runs/mine` · "
    "`twoviews demo video data.task=turn method=supervised encoder=vivit2`"
)
def demo(
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Seed of the data and of the training.")] = 0,
    out: Out = None,
    device: Device = None,
    fresh: Annotated[bool, typer.Option(help="Throw away what the folder holds and start over.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train on an embedded data set, `photos` (the default) or `video`: two to three minutes on two cores.

    Ends with the table of measures. It fails where raw pixels or the untrained encoder come too near: on photos to half
    of the encoder's kNN accuracy, on video to twice the errors of its linear probe.
    """
    from .api import demo, shortfall

    words = list(settings or ())
    kind = words.pop(0) if words and "=" not in words[0] else "photos"
    result = demo(kind, seed=seed, out=out, device=device, fresh=fresh, quiet=quiet, settings=pairs(words))
    if result.rank == 0:
        show(result)
    if result.table and (why := shortfall(result.table)):
        fail(why, 1)
