"""The commands for a trained run. Importing this adds them to the command line and costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli import Device, Quiet, Run, app, fail, plain
from .errors import UserError


@app.command(epilog="**Example:** `twoviews doctor runs/photos-simclr` · `twoviews doctor runs/photos-simclr --json`")
def doctor(
    run: Run,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Is the run healthy? Says what is wrong, by which evidence, and what to do.

    Exit code 0: healthy, 1: watch it, 2: ill, 3: too early, or nothing to judge by.
    """
    from .after import doctor

    try:
        diagnosis = doctor(run, device=device, quiet=quiet or json)
    except UserError as error:
        fail(str(error), 3)
    if json:
        import json as j

        print(j.dumps(diagnosis.to_json(), indent=2))
    else:
        print("\n".join(diagnosis.lines()))
    raise typer.Exit(diagnosis.code)


@app.command(epilog="**Example:** `twoviews report runs/photos-simclr`")
def report(
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="An .html file. Default: RUN/index.html.")] = None,
    titles: Annotated[
        Path | None, typer.Option(help="Of a run on a log: a table of items and titles, which the run keeps.")
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Write a run's page anew: verdict, measures, curves, spectra, views, map, neighbours, data. One file."""
    from .after import report

    print(report(run, out=out, titles=titles, device=device, quiet=quiet))


@app.command(epilog="**Example:** `twoviews compare runs/photos-simclr runs/photos-moco -o both.html`")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more folders that `twoviews train` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="An .html file.")] = Path("compare.html"),
) -> None:
    """Put several runs on one page: verdicts, measures, curves, spectra and the settings in which they differ."""
    from .after import compare

    print(compare(runs, out=out))


@app.command(
    epilog="**Example:** `twoviews search runs/photos-simclr cat.jpg -k 5 --html cats.html` · "
    "`twoviews search runs/papers-metapath2vec authors.txt --type venue -o venues.csv`"
)
def search(
    run: Run,
    query: Annotated[
        str,
        typer.Argument(
            help="A photo, a folder or archive of photos, or the id of an item; a node, a word, or a file of such."
        ),
    ],
    k: Annotated[int, typer.Option("-k", help="How many to find.", min=1)] = 10,
    html: Annotated[Path | None, typer.Option(help="Of photos: write a gallery there.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Of nodes and words: a .csv or .parquet.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Of a graph: the type of what is found.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Find the items of a run's data that look most alike to a photo, to the eye of its encoder; or nodes, or words.

    The id of an item is its path in the data, or an ending of it, as `cat/0012.jpg`; a file of that name comes first.
    """
    from .after import search
    from .build import of_tables
    from .checkpoint import read_run

    if of_tables(read_run(run)):
        from .lookup import search as search_rows

        place = out or Path("found.csv")
        if html is not None or json:
            raise UserError("what is found of nodes and words goes into a table: give -o FILE.csv or FILE.parquet")
        print(search_rows(run, query, out=place, k=k, kind=kind, device=device, quiet=quiet))
        return
    if out is not None or kind is not None:
        raise UserError("--out and --type are for runs on graphs and texts; photos have --html and --json")
    skipped: dict[str, str] = {}
    found = search(run, query, k=k, html=html, device=device, quiet=quiet, skipped=skipped)
    if json:
        import json as j

        results = [one.to_json() for one in found]
        print(j.dumps({"run": str(run), "k": k, "results": results, "skipped": skipped}, indent=2))
    else:
        print("\n\n".join("\n".join(map(plain, one.lines())) for one in found))
    if html and not quiet:
        print(html, file=sys.stderr)


@app.command(
    epilog="**Example:** `twoviews export runs/photos-simclr --to onnx` · `... --to huggingface -o my-encoder`"
)
def export(
    run: Run,
    to: Annotated[
        str,
        typer.Option(help="safetensors, torchvision, timm, onnx, torch-export, huggingface; word2vec."),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to. Default: RUN/export-FORMAT.")] = None,
    head: Annotated[bool, typer.Option(help="Add the method's projection head.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write the encoder for use elsewhere, load it again, and compare before saying that it is written."""
    from .after import export

    print(export(run, to, out=out, head=head, quiet=quiet))
